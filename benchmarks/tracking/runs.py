"""New runs with 20 parameters and 20 metrics each, from four official clients."""

from __future__ import annotations

from benchmarks.tracking import stage
from benchmarks.tracking.clients import four, log_runs
from benchmarks.tracking.table import SECONDS, Target, head, row


def main() -> None:
    head()
    row(
        "new run with 20 params and 20 metrics, 4 clients",
        everline=lambda: four(log_runs, stage.everline(), seconds=SECONDS),
        mlflow=lambda: four(log_runs, stage.mlflow(), seconds=SECONDS),
        limit=lambda: four(log_runs, stage.empty(), seconds=SECONDS),
        unit="runs/s",
        target=Target(times=20),
    )
