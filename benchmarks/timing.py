"""Timing that is honest about noise: A and B in turn, medians, and the ratio pair by pair."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def command(arguments: list[str]) -> Callable[[], object]:
    """A whole process as a piece of work."""
    return lambda: subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def paired(ours: Callable[[], object], peer: Callable[[], object], *, runs: int) -> tuple[list[float], list[float]]:
    """Times of both, A B A B …, after one warm-up each."""
    ours(), peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(runs)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def row(what: str, ours: list[float], peer: list[float]) -> str:
    """One line of the table: median and range of both, and the median of the ratios."""
    ratios = [b / a for a, b in zip(ours, peer, strict=True)]
    return f"| {what} | {_spread(ours)} | {_spread(peer)} | {statistics.median(ratios):.1f} x |"


def _spread(times: list[float]) -> str:
    return f"{statistics.median(times):.3f} s ({min(times):.3f}–{max(times):.3f})"
