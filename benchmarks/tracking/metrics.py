"""Metrics with the official client: one by one, and by thousands from one client and from four."""

from __future__ import annotations

from benchmarks.tracking import stage
from benchmarks.tracking.clients import Work, four, log_batch, log_metric, one
from benchmarks.tracking.stage import Server
from benchmarks.tracking.table import SECONDS, Measure, Target, head, row


def main() -> None:
    head()
    calls = "calls/s"
    _compare("`log_metric` one by one, 1 client", log_metric, clients=1, unit=calls, target=Target(30, 0.8))
    _compare("`log_batch` of 1,000, 1 client", log_batch, clients=1, unit="metrics/s", target=Target(8, 0.85))
    _compare("`log_batch` of 1,000, 4 clients", log_batch, clients=4, unit="metrics/s")


def _compare(what: str, work: Work, *, clients: int, unit: str, target: Target | None = None) -> None:
    def measure(server: Server) -> Measure:
        load = one if clients == 1 else four
        return lambda: load(work, server, seconds=SECONDS)

    nothing = measure(stage.empty())
    ours, theirs = measure(stage.everline()), measure(stage.mlflow())
    row(what, everline=ours, mlflow=theirs, limit=nothing, unit=unit, target=target)
    row("… and Everline waits for the disk", everline=measure(stage.everline_strict()), limit=nothing, unit=unit)
