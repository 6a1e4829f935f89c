"""From the start of the server to its first answer, and the memory of all its processes when it idles."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.tracking import stage
from benchmarks.tracking.stage import Server, start_everline, start_mlflow, stop
from benchmarks.tracking.table import Target, head, row

IDLE_S = 3


def main() -> None:
    head()
    memory: dict[str, list[float]] = {"everline": [], "mlflow": []}

    def measure(start: Callable[[Path], Server], name: str) -> float:
        server = start(stage.folder() / f"start-{name}")
        time.sleep(IDLE_S)
        memory[name].append(server.pss_mib())
        stop(server)
        return server.ready_s

    # Each starts over the data of its first start: making the tables is not what a restart pays.
    measure(start_everline, "everline"), measure(start_mlflow, "mlflow")
    memory["everline"].clear(), memory["mlflow"].clear()
    row(
        "server ready after its start",
        everline=lambda: measure(start_everline, "everline"),
        mlflow=lambda: measure(start_mlflow, "mlflow"),
        unit="s",
        target=Target(bound=1.5),
        less=True,
    )
    ours, theirs = iter(memory["everline"]), iter(memory["mlflow"])
    row(
        "memory of an idle server, all processes (PSS)",
        everline=lambda: next(ours),
        mlflow=lambda: next(theirs),
        unit="MiB",
        target=Target(bound=150),
        less=True,
    )
