"""One table for all tracking benchmarks: Everline, MLflow and the limit in turn; medians, ranges and ratios."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "3"))
"""How long one measurement of a rate takes; smaller to see whether everything works."""

Measure = Callable[[], float]


def head() -> None:
    """The first two lines of the table."""
    print("| workload | Everline | MLflow | Everline is better | limit | of the limit |", flush=True)
    print("| --- | --- | --- | --- | --- | --- |", flush=True)


def row(
    what: str,
    *,
    everline: Measure,
    mlflow: Measure | None = None,
    limit: Measure | None = None,
    unit: str,
    less: bool = False,
    rounds: int = ROUNDS,
) -> None:
    """Measure each in turn, `rounds` times, and print a line.

    Args:
        everline, mlflow, limit: give the measured figure in `unit`.
        less: a smaller figure is better (seconds, MiB) and not a larger one (calls per second).
    """
    measures = [measure for measure in (everline, mlflow, limit) if measure is not None]
    taken = [[measure() for measure in measures] for _ in range(rounds)]
    columns = dict(zip(measures, map(list, zip(*taken, strict=True)), strict=True))
    ours = columns[everline]
    theirs = columns[mlflow] if mlflow else None
    most = columns[limit] if limit else None
    ratio = "" if theirs is None else f"{_ratio(theirs, ours) if less else _ratio(ours, theirs):.3g} x"
    share = "" if most is None else f"{_ratio(most, ours) if less else _ratio(ours, most):.2f}"
    print(
        f"| {what} | {spread(ours, unit)} | {spread(theirs, unit)} | {ratio} | {spread(most, unit)} | {share} |",
        flush=True,
    )


def spread(figures: Sequence[float] | None, unit: str) -> str:
    """Median and range, with the digits that mean something."""
    if not figures:
        return ""
    low, middle, high = min(figures), statistics.median(figures), max(figures)
    return f"{_short(middle)} {unit} ({_short(low)}–{_short(high)})"


def _ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
