"""A metric's history thinned to what a chart of many runs can show, as MLflow thins it.

The points of a run, in order of step, are cut into as many parts of equal size as points are wanted; the first of
each part stays, and the last of all takes the place of the last part's. The database does it: what leaves it
does not grow with the history.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError
from everline.runs import rows
from everline.runs.tables import metric, metric_key
from everline.runs.types import Metric

POINTS_PER_RUN_MAX = 2_500
RUNS_MAX = 100

_ORDER = (metric.c.step, metric.c.at_ms, metric.c.value, metric.c.is_nan)


@read
def sampled_histories(
    uow: UnitOfWork, project: str, uids: Sequence[str], key: str, *, points: int, steps: tuple[int, int] | None = None
) -> list[tuple[str, Metric]]:
    """Evenly spaced points of one metric in some runs, in the order of the runs and then of steps.

    Args:
        uids: at most 100; one that is not in the project has no points.
        points: per run, 1 to 2,500; one point is the last.
        steps: first and last step to look at; None means all.
    """
    uow.require(Permission.RUN_READ, project)
    if len(uids) > RUNS_MAX or not 1 <= points <= POINTS_PER_RUN_MAX:
        raise InvalidInputError(
            f"A sample takes up to {RUNS_MAX} runs and 1 to {POINTS_PER_RUN_MAX} points of each.",
            hint="Ask for fewer runs or points.",
            field="max_results",
        )
    known = rows.find_runs(uow, project, uids)
    number = uow.conn.execute(select(metric_key.c.id).where(metric_key.c.name == key)).scalar()
    found: list[tuple[str, Metric]] = []
    for uid in uids:
        if uid in known and number is not None:
            where = [metric.c.run == known[uid]["id"], metric.c.key == number]
            where += [] if steps is None else [metric.c.step >= steps[0], metric.c.step <= steps[1]]
            found += [(uid, _point(key, row)) for row in _sampled(uow, where, points=points)]
    return found


def _sampled(
    uow: UnitOfWork, where: Sequence[ColumnElement[bool]], *, points: int
) -> list[tuple[int, int, float, bool]]:
    part = func.ntile(points).over(order_by=_ORDER).label("part")
    parts = select(*_ORDER, part).where(*where).subquery()
    columns = [parts.c[column.name] for column in _ORDER]
    place = func.row_number().over(partition_by=parts.c.part, order_by=columns).label("place")
    ranked = select(*columns, place).subquery()
    columns = [ranked.c[column.name] for column in _ORDER]
    statement = select(*columns).where(ranked.c.place == 1).order_by(*columns)
    kept = [(row[0], row[1], row[2], row[3]) for row in uow.conn.execute(statement)]
    newest = select(*_ORDER).where(*where).order_by(*(column.desc() for column in _ORDER)).limit(1)
    for row in uow.conn.execute(newest):
        last = (row[0], row[1], row[2], row[3])
        if kept[-1] != last:
            kept[-1 if len(kept) >= points else len(kept) :] = [last]
    return kept


def _point(key: str, row: tuple[int, int, float, bool]) -> Metric:
    step, at_ms, value, is_nan = row
    return Metric(key=key, value=math.nan if is_nan else value, at_ms=at_ms, step=step)
