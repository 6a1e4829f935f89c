"""One table for all tracking benchmarks: Everline, MLflow and the limit in turn, and the targets."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "3"))
"""How long one measurement of a rate takes; smaller to see whether everything works."""

Measure = Callable[[], float]


class Target(NamedTuple):
    """What Everline has set itself to reach; what is None is not asked for.

    Attributes:
        times: better than MLflow by this factor.
        share: of the limit, 0 to 1.
        bound: in the unit of the row; at most, where less is better, else at least.
    """

    times: float | None = None
    share: float | None = None
    bound: float | None = None


def head() -> None:
    """The first two lines of the table."""
    print("| workload | Everline | MLflow | Everline is better | limit | of the limit | target |", flush=True)
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)


def row(
    what: str,
    *,
    everline: Measure,
    mlflow: Measure | None = None,
    limit: Measure | None = None,
    unit: str,
    less: bool = False,
    rounds: int = ROUNDS,
    target: Target | None = None,
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
    times = None if theirs is None else _ratio(theirs, ours) if less else _ratio(ours, theirs)
    share = None if most is None else _ratio(most, ours) if less else _ratio(ours, most)
    aims = target or Target()
    asked = [verdict(times, aims.times, "x"), verdict(share, aims.share, "of the limit")]
    asked.append(verdict(statistics.median(ours), aims.bound, unit, less=less))
    cells = (
        what,
        spread(ours, unit),
        spread(theirs, unit),
        "" if times is None else f"{times:.3g} x",
        spread(most, unit),
        "" if share is None else f"{share:.2f}",
        ", ".join(filter(None, asked)),
    )
    print(f"| {' | '.join(cells)} |", flush=True)


def verdict(figure: float | None, wanted: float | None, unit: str, *, less: bool = False) -> str:
    """A target and whether a figure reaches it; nothing without a target or a figure."""
    if figure is None or wanted is None:
        return ""
    reached = figure <= wanted if less else figure >= wanted
    return f"{'≤' if less else '≥'} {wanted:,g} {unit}: {'reached' if reached else 'missed'}"


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
