"""1,000 trivial steps beside each other and one that joins them: milliseconds a step."""

from __future__ import annotations

from benchmarks.pipelines import each, table

WIDTH = 1000


def main() -> None:
    figures = each.measure("fanout", WIDTH, extra=1)
    ours = table.median(figures)
    table.verdict("≤ 1.5 ms a step", ours, 1.5)
    table.verdict("≤ 1/8 of Prefect", ours, table.share(figures, "Prefect", 1 / 8))
    table.verdict("≤ 1/20 of Dagster", ours, table.share(figures, "Dagster, in process", 1 / 20))
    table.verdict("faster than Kedro", ours, table.share(figures, "Kedro", 1.0))
