"""Histories as pictures need them: a long one becomes some hundred buckets, cut by the database.

A history that fits is answered point by point. A longer one is cut into ranges of its primary key, which is in
order of time: each bucket is one range scan without a sort, and gives its first point, its mean, and its exact
extremes, so that no spike is lost. Where time says little about the points (a run that paused for days, or
steps that go back), buckets of equal steps are counted instead, which costs a sort.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
from sqlalchemy import BigInteger, and_, case, func, literal, null, select
from sqlalchemy.sql.elements import ColumnElement

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError
from everline.runs import rows
from everline.runs.tables import latest_metric, metric, metric_key
from everline.runs.types import Curve, Curves, MetricExtremes, RunStatus

POINTS_DEFAULT = 500
POINTS_MAX = 5_000
CURVES_MAX = 200
EXTREMES_MAX = 500
_EXTREMES_POINTS_MAX = 500_000
"""More points of one run are not read for the sake of two columns of a table."""
_CROWDED_SHARE = 0.2
"""One bucket with more of the points than this, or so few buckets with any, say that time does not spread them."""
_FINITE_MAX = 1e300
"""Beyond lies what stands for infinity, and sums of some million values would overflow."""


@read
def metric_curves(
    uow: UnitOfWork, project: str, uids: Sequence[str], keys: Sequence[str], *, points: int = POINTS_DEFAULT
) -> Curves:
    """Curves of some metrics of some runs, by run and then by key as asked; those without points are left out.

    Args:
        uids, keys: at most 200 pairs of them.
        points: a history of at most so many points, 2 to 5,000, is answered whole, a longer one in at most so
            many buckets.

    Raises:
        NotFoundError: one of the runs is not in the project.
    """
    uow.require(Permission.RUN_READ, project)
    if not 2 <= points <= POINTS_MAX:
        raise InvalidInputError(
            f"A curve cannot have {points} points.", hint=f"Ask for 2 to {POINTS_MAX}.", field="points"
        )
    if len(uids) * len(keys) > CURVES_MAX:
        raise InvalidInputError(
            f"{len(uids)} runs and {len(keys)} metrics make {len(uids) * len(keys)} curves.",
            hint=f"Ask for at most {CURVES_MAX} at once.",
            field="key",
        )
    found = [rows.find_run(uow, project, uid) for uid in dict.fromkeys(uids)]
    named = select(metric_key.c.name, metric_key.c.id).where(metric_key.c.name.in_(list(keys)))
    numbers: dict[str, int] = {row.name: row.id for row in uow.conn.execute(named)}
    wanted = [key for key in dict.fromkeys(keys) if key in numbers]
    curves = [_curve(uow, row, key, number=numbers[key], points=points) for row in found for key in wanted]
    return Curves(
        curves=[curve for curve in curves if curve is not None],
        status={row["uid"]: RunStatus(row["status"]) for row in found},
    )


@read
def metric_extremes(uow: UnitOfWork, project: str, uid: str, keys: Sequence[str]) -> dict[str, MetricExtremes]:
    """Least and greatest value and number of points of at most 500 metrics of a run, without NaN.

    Returns:
        By key; nothing at all for a run with more than half a million points, whose extremes its curves show.
    """
    uow.require(Permission.RUN_READ, project)
    row = rows.find_run(uow, project, uid)
    keys = list(keys)[:EXTREMES_MAX]
    beyond = select(metric.c.key).where(metric.c.run == row["id"]).offset(_EXTREMES_POINTS_MAX).limit(1)
    if not keys or uow.conn.execute(beyond).first() is not None:
        return {}
    numbers = select(metric_key.c.id).where(metric_key.c.name.in_(keys))
    ranges = (
        select(
            metric.c.key,
            func.count().label("points"),
            func.min(metric.c.value).label("low"),
            func.max(metric.c.value).label("high"),
        )
        .where(metric.c.run == row["id"], metric.c.key.in_(numbers), metric.c.is_nan.is_(False))
        .group_by(metric.c.key)
        .subquery()
    )
    statement = select(metric_key.c.name, ranges.c.points, ranges.c.low, ranges.c.high).join(
        ranges, ranges.c.key == metric_key.c.id
    )
    return {
        row.name: MetricExtremes(count=row.points, low=row.low, high=row.high) for row in uow.conn.execute(statement)
    }


def _curve(uow: UnitOfWork, row: rows.Row, key: str, *, number: int, points: int) -> Curve | None:
    mine = and_(metric.c.run == row["id"], metric.c.key == number)
    exact = (
        select(metric.c.step, metric.c.at_ms, case((_drawn(), metric.c.value), else_=null()).label("value"))
        .where(mine)
        .order_by(metric.c.at_ms, metric.c.step, metric.c.value)
        .limit(points + 1)
    )
    found = uow.conn.execute(exact).all()
    if not found:
        return None
    if len(found) <= points:
        return Curve(
            run=row["uid"],
            key=key,
            total=len(found),
            steps=[point.step for point in found],
            at_ms=[point.at_ms for point in found],
            values=[point.value for point in found],
        )
    buckets = _by_time(uow, mine, points) or _by_step(uow, mine, points)
    last = uow.conn.execute(
        select(latest_metric).where(latest_metric.c.run == row["id"], latest_metric.c.key == number)
    ).first()
    if last is not None and not last.is_nan and abs(last.value) <= _FINITE_MAX:
        # The end of a curve is what people look for first: it is the newest point, not a mean.
        buckets.append(_Bucket(0, last.step, last.at_ms, last.value, last.value, last.value))
    return Curve(
        run=row["uid"],
        key=key,
        total=sum(bucket.count for bucket in buckets),
        thinned=True,
        steps=[bucket.step for bucket in buckets],
        at_ms=[bucket.at_ms for bucket in buckets],
        values=[bucket.mean for bucket in buckets],
        low=[bucket.low for bucket in buckets],
        high=[bucket.high for bucket in buckets],
    )


class _Bucket(msgspec.Struct, frozen=True):
    """Some neighbouring points: how many, where they begin, their least, greatest and mean value."""

    count: int
    step: int
    at_ms: int
    low: float
    high: float
    mean: float


def _drawn() -> ColumnElement[bool]:
    """NaN has no place in a picture, nor has the largest double, which stands for infinity."""
    return and_(metric.c.is_nan.is_(False), metric.c.value.between(-_FINITE_MAX, _FINITE_MAX))


def _measures() -> tuple[ColumnElement[Any], ...]:
    return func.count(), func.min(metric.c.value), func.max(metric.c.value), func.avg(metric.c.value)


def _by_time(uow: UnitOfWork, mine: ColumnElement[bool], points: int) -> list[_Bucket]:
    """Buckets of equal time, or of equal steps where all points share one time; none if they would mislead."""
    axis: ColumnElement[int] = metric.c.at_ms
    low, high = _first(uow, axis, mine), _first(uow, axis, mine, last=True)
    if low == high:
        mine = and_(mine, axis == low)
        axis = metric.c.step
        low, high = _first(uow, axis, mine), _first(uow, axis, mine, last=True)
    width = (high - low) // points + 1
    if high + width >= 2**63:
        return []
    start = select(literal(low, type_=BigInteger).label("at")).cte("bucket", recursive=True)
    start = start.union_all(select(start.c.at + width).where(start.c.at + width <= high))
    inside = and_(mine, axis >= start.c.at, axis < start.c.at + width, _drawn())
    array = func.json_array if uow.conn.dialect.name == "sqlite" else func.json_build_array
    first = select(array(metric.c.step, metric.c.at_ms)).where(inside).order_by(axis, metric.c.step).limit(1)
    measured = select(array(*_measures())).where(inside)
    statement = select(*(one.correlate(start).scalar_subquery() for one in (first, measured))).select_from(start)
    buckets = []
    for begins, measures in uow.conn.execute(statement):
        if begins is not None:
            step, at_ms = _read(begins)
            buckets.append(_bucket(step, at_ms, _read(measures)))
    crowded = max(_CROWDED_SHARE, 2 / points) * sum(bucket.count for bucket in buckets)
    sparse = len(buckets) < points * _CROWDED_SHARE
    backwards = any(one.step > other.step for one, other in pairwise(buckets))
    return [] if backwards or sparse or any(bucket.count > crowded for bucket in buckets) else buckets


def _by_step(uow: UnitOfWork, mine: ColumnElement[bool], points: int) -> list[_Bucket]:
    """Buckets of equal steps; of equal time where there is one step only."""
    for axis in (metric.c.step, metric.c.at_ms):
        low, high = uow.conn.execute(select(func.min(axis), func.max(axis)).where(mine)).one()
        if low != high:
            break
    # The bucket is a quotient of the value itself, not of a difference: that could need more than 64 bits.
    bucket = (axis // ((high - low) // points + 1)).label("bucket")
    statement = (
        select(func.min(metric.c.step), func.min(metric.c.at_ms), *_measures())
        .where(mine, _drawn())
        .group_by(bucket)
        .order_by(bucket)
    )
    return [_bucket(step, at_ms, measures) for step, at_ms, *measures in uow.conn.execute(statement)]


def _first(uow: UnitOfWork, axis: ColumnElement[int], mine: ColumnElement[bool], *, last: bool = False) -> int:
    """The least or greatest value of the next column of the primary key: one step into the index."""
    statement = select(axis).where(mine).order_by(axis.desc() if last else axis).limit(1)
    found: int = uow.conn.execute(statement).scalar_one()
    return found


def _bucket(step: int, at_ms: int, measures: Sequence[Any]) -> _Bucket:
    count, low, high, mean = measures
    return _Bucket(count, step, at_ms, low, high, min(max(mean, low), high))


def _read(value: Any) -> list[Any]:
    """SQLite answers a JSON array as text, PostgreSQL's driver as a list."""
    found: list[Any] = msgspec.json.decode(value) if isinstance(value, str) else value
    return found
