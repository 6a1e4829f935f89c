"""Searching logged models: MLflow's language of filters, its datasets, its order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, exists, false, or_, select, true

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError
from everline.models.logged import rows
from everline.models.tables import logged_model, logged_model_metric, logged_model_param, logged_model_tag
from everline.models.types import DatasetChoice, LoggedModel, LoggedModelOrder, LoggedModelStatus
from everline.runs.filters import ORDERS_MAX, Clause, Grammar, parse_filter
from everline.runs.search import EXPERIMENTS_PER_FILTER_MAX, bytewise, compare, keyed
from everline.runs.tables import metric_key

MODELS_PER_SEARCH_MAX = 10_000
DATASETS_PER_SEARCH_MAX = 100

_TEXT = frozenset({"model_id", "name", "model_type", "source_run_id", "status", "artifact_location"})
_TIMES = frozenset({"creation_timestamp", "last_updated_timestamp"})
GRAMMAR = Grammar(
    entities={"attributes": "attribute", "metrics": "metric", "params": "parameter", "tags": "tag"},
    text_attributes=_TEXT,
    numeric_attributes=_TIMES,
    order_attributes=_TEXT | _TIMES,
    aliases={
        "creation_time": "creation_timestamp",
        "creation_timestamp_ms": "creation_timestamp",
        "last_updated_timestamp_ms": "last_updated_timestamp",
    },
    list_attributes=_TEXT,
    list_entities=frozenset({"parameter", "tag"}),
    bare_values=True,
)
_COLUMNS = {
    "model_id": logged_model.c.uid,
    "name": logged_model.c.name,
    "model_type": logged_model.c.model_type,
    "source_run_id": logged_model.c.source_run,
    "status": logged_model.c.status,
    "artifact_location": logged_model.c.artifact_uri,
    "creation_timestamp": logged_model.c.created_ms,
    "last_updated_timestamp": logged_model.c.updated_ms,
    "experiment_id": logged_model.c.experiment,
}


@read
def search(
    uow: UnitOfWork,
    project: str,
    *,
    experiments: Sequence[int] | None = None,
    filter: str = "",  # noqa: A002 - the word of the protocol
    datasets: Sequence[DatasetChoice] = (),
    order_by: Sequence[LoggedModelOrder] = (),
    limit: int = 100,
    offset: int = 0,
) -> tuple[list[LoggedModel], int | None]:
    """Find logged models that are not deleted.

    Args:
        experiments: internal experiment numbers; None means every experiment of the project.
        filter: conditions joined by AND, such as `metrics.auc > 0.9 AND params.depth = '6'`; a metric is compared
            by its newest value (the highest step, then time, then value).
        datasets: only points measured on one of these count; without a condition on a metric, a model needs one.
        order_by: sort keys; then the newest first, then by uid. What lacks a value comes last.
        limit: 1 to 10,000 models.

    Returns:
        The models, and the offset of the next page if there is one.
    """
    uow.require(Permission.RUN_READ, project)
    _check_counts(limit=limit, datasets=datasets, order_by=order_by, experiments=experiments)
    sqlite = uow.conn.dialect.name == "sqlite"
    clauses = parse_filter(filter, GRAMMAR)
    conditions = [logged_model.c.project == project, logged_model.c.deleted == false()]
    if experiments is not None:
        conditions.append(logged_model.c.experiment.in_(list(experiments)))
    conditions += [_condition(clause, datasets, sqlite=sqlite) for clause in clauses]
    if datasets and not any(clause.entity == "metric" for clause in clauses):
        mine = logged_model_metric.c.logged_model == logged_model.c.id
        conditions.append(exists().where(mine, _on(datasets)))
    statement = _ordered(select(logged_model).where(*conditions), order_by, datasets, sqlite=sqlite)
    found = uow.conn.execute(statement.offset(offset).limit(limit + 1)).mappings().all()
    return rows.load(uow.conn, found[:limit]), offset + limit if len(found) > limit else None


def _condition(clause: Clause, datasets: Sequence[DatasetChoice], *, sqlite: bool) -> ColumnElement[bool]:
    if clause.entity == "attribute":
        return compare(
            _COLUMNS[clause.key], _status_clause(clause) if clause.key == "status" else clause, sqlite=sqlite
        )
    if clause.entity == "metric":
        value, is_nan = _newest(clause.key, datasets)
        holds = compare(value, clause, sqlite=sqlite)
        if clause.comparator == "!=":
            return or_(and_(holds, is_nan == false()), is_nan == true())
        return and_(holds, is_nan == false())
    table = logged_model_param if clause.entity == "parameter" else logged_model_tag
    return keyed(table, logged_model.c.id, "logged_model", clause, sqlite=sqlite)


def _status_clause(clause: Clause) -> Clause:
    if clause.comparator not in ("=", "!=", "IN", "NOT IN"):
        raise InvalidInputError(f"Invalid comparison operator for status: {clause.comparator}", field="filter")
    values = clause.value if isinstance(clause.value, tuple) else (str(clause.value),)
    known = {status.name: status.value for status in LoggedModelStatus}
    if not all(value in known for value in values):
        raise InvalidInputError(f"Unknown model status in filter: {clause.value!r}", field="filter")
    spelled = tuple(known[str(value)] for value in values)
    return clause._replace(value=spelled if isinstance(clause.value, tuple) else spelled[0])


def _newest(key: str, *choices: Sequence[DatasetChoice]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """The newest value of a metric of each model, and whether it is NaN; NULL without one.

    Args:
        choices: each, unless it is empty, holds datasets of which one must be the point's.
    """
    points = logged_model_metric.c
    number = select(metric_key.c.id).where(metric_key.c.name == key).scalar_subquery()
    mine = [points.logged_model == logged_model.c.id, points.key == number, *(_on(one) for one in choices if one)]
    last = (points.step.desc(), points.at_ms.desc(), points.value.desc())
    value, is_nan = (
        select(column).where(*mine).order_by(*last).limit(1).scalar_subquery()
        for column in (points.value, points.is_nan)
    )
    return value, is_nan


def _on(datasets: Sequence[DatasetChoice]) -> ColumnElement[bool]:
    named = ((logged_model_metric.c.dataset_name, "name"), (logged_model_metric.c.dataset_digest, "digest"))
    return or_(
        *(
            and_(true(), *(column == getattr(one, part) for column, part in named if getattr(one, part)))
            for one in datasets
        )
    )


def _ordered(
    statement: Select[Any], order_by: Sequence[LoggedModelOrder], datasets: Sequence[DatasetChoice], *, sqlite: bool
) -> Select[Any]:
    named = set()
    for order in order_by:
        value: ColumnElement[Any]
        absent: ColumnElement[Any]
        if "." not in order.field:
            key = GRAMMAR.aliases.get(order.field, order.field)
            if key not in _COLUMNS:
                raise InvalidInputError(f"Invalid order by field name: {order.field[:200]}", field="order_by")
            named.add(key)
            value = _COLUMNS[key]
            absent = case((value.is_(None), 1), else_=0)
        else:
            entity, _, key = order.field.partition(".")
            if entity != "metrics":
                raise InvalidInputError(
                    f"Invalid order by field name: {order.field[:200]}. Only metrics are supported.", field="order_by"
                )
            value, is_nan = _newest(key, datasets, [order.dataset] if order.dataset else [])
            absent = case((is_nan.is_(None), 2), (is_nan == true(), 1), else_=0)
        value = bytewise(value, sqlite=sqlite)
        statement = statement.order_by(absent, value.asc() if order.ascending else value.desc())
    if "creation_timestamp" not in named:
        statement = statement.order_by(logged_model.c.created_ms.desc())
    if "model_id" not in named:
        statement = statement.order_by(logged_model.c.uid)
    return statement


def _check_counts(
    *,
    limit: int,
    datasets: Sequence[DatasetChoice],
    order_by: Sequence[LoggedModelOrder],
    experiments: Sequence[int] | None,
) -> None:
    if not 1 <= limit <= MODELS_PER_SEARCH_MAX:
        raise InvalidInputError(
            f"Invalid value {limit} for parameter 'max_results' supplied. "
            f"It must be a positive integer of at most {MODELS_PER_SEARCH_MAX}.",
            field="max_results",
        )
    if not all(one.name for one in datasets):
        raise InvalidInputError("`dataset_name` in the `datasets` clause must be specified.", field="datasets")
    for field, count, count_max in (
        ("datasets", len(datasets), DATASETS_PER_SEARCH_MAX),
        ("order_by", len(order_by), ORDERS_MAX),
        ("experiment_ids", len(experiments or ()), EXPERIMENTS_PER_FILTER_MAX),
    ):
        if count > count_max:
            raise InvalidInputError(f"A search can name at most {count_max} {field}, not {count}.", field=field)
