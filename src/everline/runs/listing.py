"""What the table of runs shows beside a search: how many there are, in which groups, under which keys, and nested.

Every question here has a bound, so that a page costs the same whatever the project holds: a count stops at
100,000, groups are made of the newest 20,000 runs that fit, and known keys are those of the newest 1,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, false, func, not_, select, true
from sqlalchemy.sql.expression import FromClause

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError
from everline.runs import experiments, rows, search
from everline.runs.filters import RUNS, parse_filter
from everline.runs.tables import experiment, latest_metric, metric_key, run, run_param, run_tag
from everline.runs.types import KnownKeys, MetricRange, RunGroup, RunGroups, RunSelection, TrackedRun

COUNTED_RUNS_MAX = 100_000
GROUPED_RUNS_MAX = 20_000
GROUPS_MAX = 200
GROUP_METRICS_MAX = 6
RUNS_LOOKED_AT_FOR_KEYS = 1_000
KEYS_MAX = 500
CHILDREN_MAX = 200
NESTING_MAX = 4
_AVERAGED_MAX = 1e150
PARENT_TAG = "mlflow.parentRunId"

_GROUP_COLUMNS: dict[str, ColumnElement[Any]] = {
    "experiment": experiment.c.name,
    "pipeline": run.c.pipeline,
    "status": run.c.status,
    "user": run.c.user_name,
}
GROUP_WORDS = tuple(_GROUP_COLUMNS)
"""What runs can be grouped by, beside `params.NAME` and `tags.NAME`."""


@read
def list_selected(
    uow: UnitOfWork,
    project: str,
    wanted: RunSelection,
    *,
    order_by: Sequence[str] = (),
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[TrackedRun], int | None]:
    """One page of the runs of a selection, and the offset of the next page if there is one."""
    uow.require(Permission.RUN_READ, project)
    return search.search_runs(
        uow,
        project,
        experiments=experiments.numbers(uow, project, wanted.experiments),
        filter=wanted.filter,
        order_by=order_by,
        limit=limit,
        offset=offset,
        also=_also(wanted),
    )


@read
def count_selected(uow: UnitOfWork, project: str, wanted: RunSelection) -> int:
    """How many runs a selection has; 100,001 means more than 100,000."""
    uow.require(Permission.RUN_READ, project)
    some = select(run.c.id).where(*_conditions(uow, project, wanted)).limit(COUNTED_RUNS_MAX + 1).subquery()
    return int(uow.conn.execute(select(func.count()).select_from(some)).scalar_one())


@read
def group_selected(
    uow: UnitOfWork, project: str, wanted: RunSelection, *, by: str, metrics: Sequence[str] = ()
) -> RunGroups:
    """Put the newest 20,000 runs of a selection into groups, the largest first.

    Args:
        by: `experiment`, `pipeline`, `status`, `user`, `params.NAME` or `tags.NAME`; runs without it are one group.
        metrics: up to six metrics whose mean, least and greatest value each group shows; NaN and infinities do not.

    Raises:
        InvalidInputError: runs cannot be grouped by this.
    """
    uow.require(Permission.RUN_READ, project)
    chosen = (
        select(run.c.id)
        .where(*_conditions(uow, project, wanted))
        .order_by(run.c.started_ms.desc())
        .limit(GROUPED_RUNS_MAX)
        .subquery("chosen")
    )
    value, joined = _grouping(by, chosen)
    count = func.count().label("runs")
    counted = select(value.label("value"), count).select_from(joined).group_by(value)
    counted = counted.order_by(count.desc(), value).limit(GROUPS_MAX + 1)
    found = uow.conn.execute(counted).all()
    ranges = _ranges(uow, value, joined, chosen, metrics[:GROUP_METRICS_MAX])
    looked_at = uow.conn.execute(select(func.count()).select_from(chosen)).scalar_one()
    return RunGroups(
        by=by,
        groups=[
            RunGroup(value=row.value, count=row.runs, metrics=ranges.get(row.value, {})) for row in found[:GROUPS_MAX]
        ],
        runs=looked_at,
        whole=looked_at < GROUPED_RUNS_MAX and len(found) <= GROUPS_MAX,
    )


@read
def known_keys(uow: UnitOfWork, project: str, *, experiments_named: Sequence[str] = ()) -> KnownKeys:
    """The metrics, parameters and tags of the newest 1,000 runs of some experiments, or of all; by name."""
    uow.require(Permission.RUN_READ, project)
    where = [run.c.project == project, run.c.deleted == false()]
    if experiments_named:
        where.append(run.c.experiment.in_(experiments.numbers(uow, project, experiments_named)))
    newest = select(run.c.id).where(*where).order_by(run.c.started_ms.desc()).limit(RUNS_LOOKED_AT_FOR_KEYS)
    # MySQL's ban on LIMIT inside IN does not concern us; both of our databases take it.
    measured = select(latest_metric.c.key).where(latest_metric.c.run.in_(newest))
    names = select(metric_key.c.name).where(metric_key.c.id.in_(measured)).order_by(metric_key.c.name)
    return KnownKeys(
        metrics=list(uow.conn.execute(names.limit(KEYS_MAX)).scalars()),
        params=_distinct(uow, run_param, newest),
        tags=[key for key in _distinct(uow, run_tag, newest) if key != "mlflow.runName"],
    )


@read
def list_children(uow: UnitOfWork, project: str, parents: Sequence[str]) -> dict[str, list[TrackedRun]]:
    """The runs nested below some runs, the oldest first, down to four levels and 200 runs; by their parent's uid."""
    uow.require(Permission.RUN_READ, project)
    below: dict[str, list[TrackedRun]] = {}
    left, level = CHILDREN_MAX, list(parents)
    for _ in range(NESTING_MAX):
        if not level or left <= 0:
            break
        statement = (
            select(run, run_tag.c.value.label("parent"))
            .join(run_tag, and_(run_tag.c.run == run.c.id, run_tag.c.key == PARENT_TAG))
            .where(run_tag.c.value.in_(level), run.c.project == project, run.c.deleted == false())
            .order_by(run.c.started_ms, run.c.id)
            .limit(left)
        )
        found = [row for row in uow.conn.execute(statement).mappings() if row["uid"] not in below]
        for row, child in zip(found, rows.load_runs(uow.conn, found), strict=True):
            below.setdefault(row["parent"], []).append(child)
        left -= len(found)
        # A run that names itself, or a circle of runs, must not be walked twice.
        level = [row["uid"] for row in found if row["uid"] not in below and row["uid"] not in parents]
    return below


def _conditions(uow: UnitOfWork, project: str, wanted: RunSelection) -> list[ColumnElement[bool]]:
    matching = search.matching(
        project,
        experiments=experiments.numbers(uow, project, wanted.experiments),
        clauses=parse_filter(wanted.filter, RUNS),
        sqlite=uow.conn.dialect.name == "sqlite",
    )
    return [*matching, *_also(wanted)]


def _also(wanted: RunSelection) -> list[ColumnElement[bool]]:
    """What a selection asks for and MLflow's language has no words for."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.statuses:
        conditions.append(run.c.status.in_([status.value for status in wanted.statuses]))
    if wanted.pipeline is not None:
        conditions.append(run.c.pipeline == wanted.pipeline)
    if wanted.without_pipeline:
        conditions.append(run.c.pipeline.is_(None))
    if wanted.roots_only:
        nested = and_(run_tag.c.run == run.c.id, run_tag.c.key == PARENT_TAG)
        conditions.append(not_(exists().where(nested)))
    return conditions


def _grouping(by: str, chosen: FromClause) -> tuple[ColumnElement[Any], FromClause]:
    """The column whose values are the groups, and the tables that it needs."""
    kind, dot, key = by.partition(".")
    if dot and key and kind in ("params", "tags"):
        pairs = run_param if kind == "params" else run_tag
        mine = and_(pairs.c.run == chosen.c.id, pairs.c.key == key)
        return pairs.c.value, chosen.outerjoin(pairs, mine)
    if by not in _GROUP_COLUMNS:
        raise InvalidInputError(
            f"Runs cannot be grouped by {by[:200]!r}.",
            hint=f"Group by {', '.join(GROUP_WORDS)}, params.NAME or tags.NAME.",
            field="group",
        )
    joined: FromClause = chosen.join(run, run.c.id == chosen.c.id)
    if by == "experiment":
        joined = joined.join(experiment, experiment.c.id == run.c.experiment)
    return _GROUP_COLUMNS[by], joined


def _ranges(
    uow: UnitOfWork, value: ColumnElement[Any], joined: FromClause, chosen: FromClause, metrics: Sequence[str]
) -> dict[Any, dict[str, MetricRange]]:
    if not metrics:
        return {}
    ids = select(metric_key.c.name, metric_key.c.id).where(metric_key.c.name.in_(metrics))
    names = {row.id: row.name for row in uow.conn.execute(ids)}
    newest = latest_metric.c
    # An infinity is kept as the largest double, and PostgreSQL's avg() refuses sums of squares beyond it.
    fit = newest.value.between(-_AVERAGED_MAX, _AVERAGED_MAX)
    measured = and_(newest.run == chosen.c.id, newest.key.in_(names), newest.is_nan != true(), fit)
    statement = (
        select(
            value.label("value"),
            newest.key,
            func.count().label("runs"),
            func.avg(newest.value).label("mean"),
            func.min(newest.value).label("low"),
            func.max(newest.value).label("high"),
        )
        .select_from(joined.join(latest_metric, measured))
        .group_by(value, newest.key)
    )
    ranges: dict[Any, dict[str, MetricRange]] = {}
    for row in uow.conn.execute(statement):
        found = MetricRange(count=row.runs, mean=row.mean, low=row.low, high=row.high)
        ranges.setdefault(row.value, {})[names[row.key]] = found
    return ranges


def _distinct(uow: UnitOfWork, pairs: Any, newest: Any) -> list[str]:
    statement = select(pairs.c.key).distinct().where(pairs.c.run.in_(newest)).order_by(pairs.c.key).limit(KEYS_MAX)
    return list(uow.conn.execute(statement).scalars())
