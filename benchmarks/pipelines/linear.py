"""A chain of 100 trivial steps: milliseconds a step, in a process that has the tool loaded."""

from __future__ import annotations

from benchmarks.pipelines import each, table

STEPS = 100


def main() -> None:
    figures = each.measure("linear", STEPS)
    ours = table.median(figures)
    table.verdict("≤ 1.5 ms a step", ours, 1.5)
    table.verdict("≤ 1/8 of Prefect", ours, table.share(figures, "Prefect", 1 / 8))
    table.verdict("≤ 1/20 of Dagster", ours, table.share(figures, "Dagster, in process", 1 / 20))
