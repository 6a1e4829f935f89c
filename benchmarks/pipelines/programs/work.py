"""What the steps of every tool do; it lies beside each tool's program."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any


def add_one(x: int) -> int:
    """The trivial step."""
    return x + 1


def slow(x: int, ledger: str, seconds: float) -> int:
    """A step with time of its own; that it started can be counted from outside."""
    mark(ledger, f"started {x}")
    time.sleep(seconds)
    return x + 1


def table(size: int) -> Any:
    """`size` bytes of random floats in ten columns."""
    return importlib.import_module("bulk").table(size)


def total(rows: Any) -> float:
    """Touch every value of an Arrow table or a pandas frame."""
    return importlib.import_module("bulk").total(rows)


def mark(ledger: str, what: str) -> None:
    """A line with the time, in one write."""
    with Path(ledger).open("a") as file:
        file.write(f"{what} {time.time()}\n")
