"""From clauses to SQL: how a checked filter and order become conditions on tables, on either database.

Conditions on metrics, parameters, tags and datasets are `EXISTS` on the narrow tables, so that a filter
never multiplies rows; sort keys are scalar subqueries, so that runs without the key stay, last.
Comparisons follow MLflow: LIKE minds case and ILIKE does not, on both databases; a NaN metric satisfies
`!=` only; `!=` on a parameter or tag does not match runs that lack it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, String, and_, case, exists, false, func, not_, or_, select, true
from sqlalchemy.sql.expression import FromClause

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError
from everline.runs import plans, rows
from everline.runs.filters import EXPERIMENTS, RUNS, Clause, Order, parse_filter, parse_order
from everline.runs.tables import (
    experiment,
    experiment_tag,
    latest_metric,
    metric_key,
    run,
    run_input,
    run_param,
    run_tag,
)
from everline.runs.types import Experiment, TrackedRun, View

RUNS_PER_SEARCH_MAX = 50_000
EXPERIMENTS_PER_SEARCH_MAX = 50_000
EXPERIMENTS_PER_FILTER_MAX = 20_000

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_RUN_COLUMNS = {
    "run_id": run.c.uid,
    "run_name": run.c.name,
    "status": run.c.status,
    "start_time": run.c.started_ms,
    "end_time": run.c.ended_ms,
    "artifact_uri": run.c.artifact_uri,
    "user_id": run.c.user_name,
}
_EXPERIMENT_COLUMNS = {
    "name": experiment.c.name,
    "experiment_id": experiment.c.id,
    "creation_time": experiment.c.created_ms,
    "last_update_time": experiment.c.updated_ms,
}


def compare(column: Any, clause: Clause, *, sqlite: bool) -> ColumnElement[bool]:
    """The condition that `column` stands to the clause's value as its comparator says."""
    value = clause.value
    if clause.comparator == "LIKE":
        if sqlite:
            # SQLite's own LIKE ignores case; GLOB minds it.
            return column.op("GLOB")(_glob(str(value)))  # type: ignore[no-any-return]
        return column.like(value, escape="")  # type: ignore[no-any-return]
    if clause.comparator == "ILIKE":
        if sqlite:
            return column.op("LIKE")(value)  # type: ignore[no-any-return]
        return column.ilike(value, escape="")  # type: ignore[no-any-return]
    if clause.comparator == "IN":
        return column.in_(value)  # type: ignore[no-any-return]
    if clause.comparator == "NOT IN":
        return column.not_in(value)  # type: ignore[no-any-return]
    return _COMPARE[clause.comparator](column, value)  # type: ignore[no-any-return]


def keyed(
    table: FromClause, owner: ColumnElement[Any], owner_column: str, clause: Clause, *, sqlite: bool
) -> ColumnElement[bool]:
    """The condition that `owner` has a row (owner, key, value) in `table` that satisfies the clause."""
    mine = and_(table.c[owner_column] == owner, table.c.key == clause.key)
    if clause.comparator == "IS NULL":
        return not_(exists().where(mine))
    if clause.comparator == "IS NOT NULL":
        return exists().where(mine)
    return exists().where(mine, compare(table.c.value, clause, sqlite=sqlite))


def bytewise(column: ColumnElement[Any], *, sqlite: bool) -> ColumnElement[Any]:
    """`column` as a sort key that orders text by code point on both databases, whatever PostgreSQL's locale."""
    if sqlite or not isinstance(column.type, String):
        return column
    return column.collate("C")


@read
def search_runs(
    uow: UnitOfWork,
    project: str,
    *,
    experiments: Sequence[int],
    filter: str = "",  # noqa: A002 - the word of the protocol
    order_by: Sequence[str] = (),
    view: View = View.ACTIVE,
    limit: int = 1000,
    offset: int = 0,
    also: Sequence[ColumnElement[bool]] = (),
) -> tuple[list[TrackedRun], int | None]:
    """Find runs of some experiments.

    Args:
        experiments: internal experiment numbers; an empty list finds nothing.
        filter: conditions in MLflow's language; empty means all.
        order_by: sort keys; then the newest first, then by uid.
        limit: 1 to 50,000 runs.
        also: further conditions on `run`, of services that know more than the language says.

    Returns:
        The runs, and the offset of the next page if there is one.
    """
    uow.require(Permission.RUN_READ, project)
    if not 1 <= limit <= RUNS_PER_SEARCH_MAX:
        raise _wrong_limit(limit, RUNS_PER_SEARCH_MAX)
    clauses = parse_filter(filter, RUNS)
    orders = parse_order(order_by, RUNS)
    if not experiments:
        return [], None
    if len(experiments) > EXPERIMENTS_PER_FILTER_MAX:
        raise InvalidInputError(
            f"The search names {len(experiments)} experiments; at most {EXPERIMENTS_PER_FILTER_MAX} are allowed.",
            hint="Search in parts.",
            field="experiment_ids",
        )
    plan = plans.choose(uow.conn, experiments=experiments, clauses=clauses, orders=orders)
    wanted = _Wanted(project, experiments, clauses, view, orders, offset, limit + 1, also)
    found = _walk(uow, wanted, plan) if plan.walk is not None else None
    if found is None:
        found = _sorted(uow, wanted, plan)
    return rows.load_runs(uow.conn, found[:limit]), offset + limit if len(found) > limit else None


class _Wanted(NamedTuple):
    """A search, checked."""

    project: str
    experiments: Sequence[int]
    clauses: Sequence[Clause]
    view: View
    orders: Sequence[Order]
    offset: int
    rows_max: int
    also: Sequence[ColumnElement[bool]]


def _sorted(uow: UnitOfWork, wanted: _Wanted, plan: plans.Plan) -> Sequence[rows.Row]:
    """Rows of runs: those that the conditions leave, then in order."""
    sqlite = uow.conn.dialect.name == "sqlite"
    few = plan.ids is not None
    statement = select(run).where(*_conditions(wanted, indexed=not few, sqlite=sqlite))
    if plan.ids is not None:
        statement = statement.where(plans.among(plan.ids, sqlite=sqlite))
    statement = _ordered(statement, wanted.orders, sqlite=sqlite)
    return uow.conn.execute(statement.offset(wanted.offset).limit(wanted.rows_max)).mappings().all()


def _walk(uow: UnitOfWork, wanted: _Wanted, plan: plans.Plan) -> Sequence[rows.Row] | None:
    """Rows of runs along the index of the metric that they are sorted by first.

    Returns:
        None when the page reaches the runs that have no number there, which no index of values knows.
    """
    sqlite = uow.conn.dialect.name == "sqlite"
    walked = latest_metric.alias("walked")
    value = walked.c.value.asc() if wanted.orders[0].ascending else walked.c.value.desc()
    statement = (
        select(run)
        .join(walked, walked.c.run == run.c.id)
        .where(walked.c.key == plan.walk, walked.c.is_nan == false())
        .where(*_conditions(wanted, indexed=False, sqlite=sqlite))
        .order_by(value)
    )
    statement = _ordered(statement, wanted.orders[1:], sqlite=sqlite)
    found = uow.conn.execute(statement.offset(wanted.offset).limit(wanted.rows_max)).mappings().all()
    return found if plan.complete or len(found) == wanted.rows_max else None


def _conditions(wanted: _Wanted, *, indexed: bool, sqlite: bool) -> list[ColumnElement[bool]]:
    named = matching(
        wanted.project,
        experiments=wanted.experiments,
        clauses=wanted.clauses,
        view=wanted.view,
        indexed=indexed,
        sqlite=sqlite,
    )
    return [*named, *wanted.also]


def matching(
    project: str,
    *,
    experiments: Sequence[int],
    clauses: Sequence[Clause],
    view: View = View.ACTIVE,
    indexed: bool = True,
    sqlite: bool,
) -> list[ColumnElement[bool]]:
    """The conditions of a search on rows of `run`, for services that count or group what it finds.

    Args:
        indexed: whether SQLite may find runs by their experiment; without, it has another way already.
    """
    columns: list[ColumnElement[Any]] = [run.c.project, run.c.experiment, run.c.deleted]
    if not indexed:
        columns = [plans.unindexed(column, sqlite=sqlite) for column in columns]
    owner, parent, deleted = columns
    return [
        owner == project,
        parent == experiments[0] if len(experiments) == 1 else parent.in_(list(experiments)),
        *_lifecycle(deleted, view),
        *(_run_condition(clause, sqlite=sqlite) for clause in clauses),
    ]


@read
def search_experiments(
    uow: UnitOfWork,
    project: str,
    *,
    filter: str = "",  # noqa: A002 - the word of the protocol
    order_by: Sequence[str] = (),
    view: View = View.ACTIVE,
    limit: int = 1000,
    offset: int = 0,
) -> tuple[list[Experiment], int | None]:
    """Find experiments; the newest first unless `order_by` says otherwise. `limit` is 1 to 50,000."""
    uow.require(Permission.RUN_READ, project)
    if not 1 <= limit <= EXPERIMENTS_PER_SEARCH_MAX:
        raise _wrong_limit(limit, EXPERIMENTS_PER_SEARCH_MAX)
    clauses = parse_filter(filter, EXPERIMENTS)
    orders = parse_order(order_by, EXPERIMENTS)
    sqlite = uow.conn.dialect.name == "sqlite"
    statement = select(experiment).where(
        experiment.c.project == project,
        *_lifecycle(experiment.c.deleted, view),
        *(_experiment_condition(clause, sqlite=sqlite) for clause in clauses),
    )
    for order in orders or [Order("attribute", "creation_time", False), Order("attribute", "experiment_id", True)]:
        column = bytewise(_EXPERIMENT_COLUMNS[order.key], sqlite=sqlite)
        statement = statement.order_by(column.asc() if order.ascending else column.desc())
    statement = statement.order_by(experiment.c.id.desc()).offset(offset).limit(limit + 1)
    found = uow.conn.execute(statement).mappings().all()
    after = offset + limit if len(found) > limit else None
    return rows.load_experiments(uow.conn, found[:limit]), after


def _run_condition(clause: Clause, *, sqlite: bool) -> ColumnElement[bool]:
    if clause.entity == "attribute":
        if clause.key == "status":
            return _status_condition(clause, sqlite=sqlite)
        return compare(_RUN_COLUMNS[clause.key], clause, sqlite=sqlite)
    if clause.entity == "metric":
        return _metric_condition(clause, sqlite=sqlite)
    if clause.entity == "dataset":
        column = run_input.c[clause.key]
        return exists().where(run_input.c.run == run.c.id, compare(column, clause, sqlite=sqlite))
    table = run_param if clause.entity == "parameter" else run_tag
    return keyed(table, run.c.id, "run", clause, sqlite=sqlite)


def _status_condition(clause: Clause, *, sqlite: bool) -> ColumnElement[bool]:
    """A status is written in capitals where people ask for it; the column, which an index has, is not."""
    if clause.comparator == "=" and clause.value == str(clause.value).upper():
        return run.c.status == str(clause.value).lower()
    return compare(func.upper(run.c.status), clause, sqlite=sqlite)


def _metric_condition(clause: Clause, *, sqlite: bool) -> ColumnElement[bool]:
    holds = compare(latest_metric.c.value, clause, sqlite=sqlite)
    if clause.comparator == "!=":
        holds = or_(holds, latest_metric.c.is_nan == true())
    else:
        holds = and_(holds, latest_metric.c.is_nan == false())
    return exists().where(latest_metric.c.run == run.c.id, latest_metric.c.key == _key_id(clause.key), holds)


def _experiment_condition(clause: Clause, *, sqlite: bool) -> ColumnElement[bool]:
    if clause.entity == "tag":
        return keyed(experiment_tag, experiment.c.id, "experiment", clause, sqlite=sqlite)
    if clause.key == "experiment_id":
        if clause.comparator in ("LIKE", "ILIKE"):
            raise InvalidInputError(f"Invalid comparator for experiment_id: {clause.comparator}", field="filter")
        values = clause.value if isinstance(clause.value, tuple) else (str(clause.value),)
        numbers = tuple(experiment_number(str(value)) for value in values)
        clause = clause._replace(value=numbers if isinstance(clause.value, tuple) else numbers[0])  # type: ignore[arg-type]
    return compare(_EXPERIMENT_COLUMNS[clause.key], clause, sqlite=sqlite)


def _ordered(statement: Select[Any], orders: Sequence[Order], *, sqlite: bool) -> Select[Any]:
    """Sort as MLflow does: what lacks the key comes last, before it NaN, whatever the direction.

    Values come from scalar subqueries rather than from outer joins: SQLite 3.40 dies of 31 of those.
    """
    for order in orders:
        value: ColumnElement[Any]
        absent: ColumnElement[int] | None
        if order.entity == "attribute":
            value = _RUN_COLUMNS[order.key]
            absent = case((value.is_(None), 1), else_=0) if value.nullable else None
        elif order.entity == "metric":
            newest = (latest_metric.c.run == run.c.id, latest_metric.c.key == _key_id(order.key))
            value = select(latest_metric.c.value).where(*newest).scalar_subquery()
            is_nan = select(latest_metric.c.is_nan).where(*newest).scalar_subquery()
            absent = case((is_nan.is_(None), 2), (is_nan == true(), 1), else_=0)
        else:
            pairs = run_param if order.entity == "parameter" else run_tag
            value = select(pairs.c.value).where(pairs.c.run == run.c.id, pairs.c.key == order.key).scalar_subquery()
            absent = case((value.is_(None), 1), else_=0)
        value = bytewise(value, sqlite=sqlite)
        statement = statement.order_by(*([] if absent is None else [absent]))
        statement = statement.order_by(value.asc() if order.ascending else value.desc())
    if not any(order.key == "start_time" and order.entity == "attribute" for order in orders):
        statement = statement.order_by(run.c.started_ms.desc())
    return statement.order_by(run.c.uid)


def _key_id(name: str) -> ColumnElement[int]:
    return select(metric_key.c.id).where(metric_key.c.name == name).scalar_subquery()


def _lifecycle(column: ColumnElement[Any], view: View) -> list[ColumnElement[bool]]:
    if view is View.ALL:
        return []
    return [column == (true() if view is View.DELETED else false())]


def experiment_number(text: str) -> int:
    """Read an experiment's id: a whole number, written as MLflow writes it."""
    try:
        number = int(text)
    except ValueError:
        number = 2**63
    if not -(2**63) <= number < 2**63:
        raise InvalidInputError(
            f"Invalid experiment ID '{text[:80]}'. Experiment ID must be a valid integer.", field="experiment_id"
        )
    return number


def _wrong_limit(limit: int, limit_max: int) -> InvalidInputError:
    return InvalidInputError(
        f"Invalid value {limit} for parameter 'max_results' supplied. "
        f"It must be a positive integer of at most {limit_max}.",
        field="max_results",
    )


def _glob(pattern: str) -> str:
    """A LIKE pattern as a GLOB pattern."""
    escaped = {"[": "[[]", "*": "[*]", "?": "[?]", "%": "*", "_": "?"}
    return "".join(escaped.get(character, character) for character in pattern)


def count_runs(uow: UnitOfWork, project: str) -> int:
    """How many runs a project has that are not deleted; for overviews that asked for permission already."""
    statement = select(func.count()).select_from(run).where(run.c.project == project, run.c.deleted == false())
    return int(uow.conn.execute(statement).scalar_one())
