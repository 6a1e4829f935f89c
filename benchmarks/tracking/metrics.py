"""Metrics with the official client: one by one, and by thousands from one client and from four."""

from __future__ import annotations

from benchmarks.tracking import stage
from benchmarks.tracking.clients import Work, four, log_batch, log_metric, one
from benchmarks.tracking.stage import Server
from benchmarks.tracking.table import SECONDS, Measure, head, row


def main() -> None:
    head()
    calls = "calls/s"
    _compare("`log_metric` one by one, 1 client", log_metric, clients=1, unit=calls)
    _compare("`log_batch` of 1,000, 1 client", log_batch, clients=1, unit="metrics/s")
    _compare("`log_batch` of 1,000, 4 clients", log_batch, clients=4, unit="metrics/s")


def _compare(what: str, work: Work, *, clients: int, unit: str) -> None:
    def measure(server: Server) -> Measure:
        load = one if clients == 1 else four
        return lambda: load(work, server, seconds=SECONDS)

    nothing = measure(stage.empty())
    row(what, everline=measure(stage.everline()), mlflow=measure(stage.mlflow()), limit=nothing, unit=unit)
    row("… and Everline waits for the disk", everline=measure(stage.everline_strict()), limit=nothing, unit=unit)
