"""Curves: histories as pictures need them, thinned by the database without losing an extreme."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from sqlalchemy import event, insert, select

from everline.errors import InvalidInputError, NotFoundError
from everline.runs import curves, service, tracking
from everline.runs.tables import latest_metric, metric, metric_key, run
from everline.runs.types import Curves, Metric, RunStatus

START_MS = 1_700_000_000_000
POINTS = 6_000


def spread(n: int) -> tuple[int, int]:
    """A step every tenth of a second."""
    return START_MS + n * 100, n


def at_once(n: int) -> tuple[int, int]:
    """Everything imported with one time."""
    return START_MS, n


def paused(n: int) -> tuple[int, int]:
    """An hour of work, five days of nothing, another hour."""
    return START_MS + n * 100 + (432_000_000 if n >= POINTS // 2 else 0), n


def resumed(n: int) -> tuple[int, int]:
    """From an older checkpoint: steps go back."""
    return START_MS + n * 100, n if n < 4_500 else n - 1_500


def far(n: int) -> tuple[int, int]:
    """Steps over all of 64 bits."""
    return START_MS + n, -(2**63) + n * ((2**64 - 1) // POINTS)


SHAPES: list[Callable[[int], tuple[int, int]]] = [spread, at_once, paused, resumed, far]


@pytest.fixture
def uid(begin) -> str:
    """A run with a wave of 6,000 points in each shape of time and steps, a spike in each, and one NaN."""
    with begin() as uow:
        made = service.create_run(uow, "default").run
        seeds = [Metric(key=shape.__name__, value=0.5, at_ms=1, step=0) for shape in SHAPES]
        tracking.log_batch(uow, "default", made, metrics=seeds)
        number = uow.conn.execute(select(run.c.id).where(run.c.uid == made)).scalar_one()
        keys = {row.name: row.id for row in uow.conn.execute(select(metric_key))}
        uow.conn.execute(metric.delete().where(metric.c.run == number))
        for shape in SHAPES:
            owner = {"run": number, "key": keys[shape.__name__]}
            points = [
                {**owner, "at_ms": at_ms, "step": step, "value": _wave(n), "is_nan": n == 7}
                for n, (at_ms, step) in ((n, shape(n)) for n in range(POINTS))
            ]
            uow.conn.execute(insert(metric), points)
            uow.conn.execute(latest_metric.update().where(latest_metric.c.key == owner["key"]).values(points[-1]))
    return made


def _wave(n: int) -> float:
    return 99.0 if n == 3_456 else math.sin(n / 500)


def test_a_long_history_becomes_buckets_with_exact_extremes(begin, uid: str) -> None:
    asked: list[str] = []
    with begin() as uow:
        event.listen(uow.conn, "before_cursor_execute", lambda *given: asked.append(given[2]))
        for shape in (spread, at_once):
            curves.metric_curves(uow, "default", [uid], [shape.__name__], points=300)
        assert "GROUP BY" not in " ".join(asked)  # what time spreads is cut without a sort
        found = curves.metric_curves(uow, "default", [uid], [shape.__name__ for shape in SHAPES], points=300)
    assert found.status == {uid: RunStatus.RUNNING}
    assert [curve.key for curve in found.curves] == [shape.__name__ for shape in SHAPES]
    for curve in found.curves:
        assert (curve.thinned, curve.total) == (True, POINTS - 1), curve.key
        assert 100 <= len(curve.steps) <= 302, curve.key
        assert curve.steps == sorted(curve.steps), curve.key
        assert max(curve.high or []) == 99.0, curve.key
        assert curve.values[-1] == pytest.approx(_wave(POINTS - 1)), curve.key
        for low, mean, high in zip(curve.low or [], curve.values, curve.high or [], strict=True):
            assert mean is not None
            assert low <= mean <= high, curve.key


def test_a_short_history_is_whole_and_what_is_not_finite_is_a_gap(begin) -> None:
    with begin() as uow:
        made = service.create_run(uow, "default").run
        values = [1.0, math.nan, math.inf, -2.0]
        points = [Metric(key="loss", value=value, at_ms=n, step=n * 10) for n, value in enumerate(values)]
        tracking.log_batch(uow, "default", made, metrics=points)
        curve = curves.metric_curves(uow, "default", [made], ["loss", "unknown"], points=10).curves[0]
        ranges = curves.metric_extremes(uow, "default", made, ["loss", "unknown"])
        thinned = curves.metric_curves(uow, "default", [made], ["loss"], points=2).curves[0]
    assert (curve.thinned, curve.steps, curve.values) == (False, [0, 10, 20, 30], [1.0, None, None, -2.0])
    assert set(ranges) == {"loss"}
    assert (ranges["loss"].low, ranges["loss"].count) == (-2.0, 3)
    assert (thinned.low or [])[-1] == -2.0


def test_curves_over_rest_and_what_cannot_be_drawn(begin, client) -> None:
    with begin() as uow:
        made = service.create_run(uow, "default").run
        points = [Metric(key="a/b c", value=float(n), at_ms=n, step=n) for n in range(100)]
        tracking.log_batch(uow, "default", made, metrics=points)
        with pytest.raises(NotFoundError):
            curves.metric_curves(uow, "default", ["0" * 32], ["loss"])
        with pytest.raises(InvalidInputError, match="201 curves"):
            curves.metric_curves(uow, "default", [made], [str(n) for n in range(201)])
    asked = {"runs": made, "key": "a/b c", "points": 20}
    found = client.call("GET", "/runs/curves", query=asked, returns=Curves)
    assert [(one.key, one.thinned, one.total) for one in found.curves] == [("a/b c", True, 100)]
    assert found.status == {made: RunStatus.RUNNING}
    with pytest.raises(InvalidInputError, match="cannot have 1 points"):
        client.call("GET", "/runs/curves", query=asked | {"points": 1}, returns=Curves)
