"""What is logged to a run while it runs: metrics, parameters, tags, inputs and outputs.

Everything of one call is written in one transaction or not at all. The rules are MLflow's: a parameter
never changes its value; a tag does; a metric is a history, and the same point twice is one point.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from everline.access.declare import read, stream
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError, NotFoundError
from everline.runs import limits, rows
from everline.runs.tables import latest_metric, metric, metric_key, run, run_input, run_output, run_param, run_tag
from everline.runs.types import Metric, RunInput, RunOutput
from everline.storage.db import upsert

RUN_NAME_TAG = "mlflow.runName"
HISTORY_POINTS_MAX = 1_000_000
RUNS_PER_HISTORY_MAX = 100
DOUBLE_MAX = 1.7976931348623157e308
_KEYS_PER_QUERY = 500


@stream
def log_batch(
    uow: UnitOfWork,
    project: str,
    uid: str,
    *,
    metrics: Sequence[Metric] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    inputs: Sequence[RunInput] = (),
    outputs: Sequence[RunOutput] = (),
) -> None:
    """Log many things to an active run at once.

    Args:
        metrics: at most 1,000; NaN is kept as such, infinities become the largest doubles.
        params, tags: at most 100 each, and 1,000 things together.

    Raises:
        InvalidInputError: a name, value or count is out of its limits, or a parameter has another value
            already; nothing is logged.
    """
    params, tags = params or {}, tags or {}
    row = rows.writable_run(uow, project, uid)
    limits.check_metrics(metrics)
    limits.check_pairs(params, limit=limits.PARAM_VALUE_CHARACTERS_MAX, field="params")
    limits.check_pairs(tags, limit=limits.TAG_VALUE_CHARACTERS_MAX, field="tags")
    limits.check_batch(metrics=len(metrics), params=len(params), tags=len(tags))
    limits.check_inputs(inputs)
    put_params(uow, row, params)
    put_metrics(uow, row["id"], metrics)
    put_tags(uow, row["id"], tags)
    _put_inputs(uow, row["id"], inputs)
    _put_outputs(uow, row["id"], outputs)


@stream
def delete_tag(uow: UnitOfWork, project: str, uid: str, *, key: str) -> None:
    """Remove a tag of an active run."""
    row = rows.writable_run(uow, project, uid)
    where = (run_tag.c.run == row["id"], run_tag.c.key == key)
    if uow.conn.execute(run_tag.delete().where(*where)).rowcount == 0:
        raise NotFoundError(f"No tag with name: {key} in run with id {uid}", field="key")


@read
def metric_history(
    uow: UnitOfWork, project: str, uid: str, key: str, *, limit: int | None = None, offset: int = 0
) -> tuple[list[Metric], int | None]:
    """A metric's points in order of time, step and value, and the offset of the next page if there is one.

    Args:
        key: an unknown one has no points.
        limit: points of this page; None means a million, the most that there can be.
    """
    uow.require(Permission.RUN_READ, project)
    row = rows.find_run(uow, project, uid)
    count = HISTORY_POINTS_MAX if limit is None else limit
    if not 1 <= count <= HISTORY_POINTS_MAX:
        raise InvalidInputError(
            f"Invalid value {limit} for parameter 'max_results' supplied. It must be a positive integer.",
            field="max_results",
        )
    number = uow.conn.execute(select(metric_key.c.id).where(metric_key.c.name == key)).scalar()
    if number is None:
        return [], None
    statement = (
        select(metric.c.at_ms, metric.c.step, metric.c.value, metric.c.is_nan)
        .where(metric.c.run == row["id"], metric.c.key == number)
        .order_by(metric.c.at_ms, metric.c.step, metric.c.value)
        .offset(offset)
        .limit(count + 1)
    )
    found = uow.conn.execute(statement).all()
    points = [
        Metric(key=key, value=math.nan if is_nan else value, at_ms=at_ms, step=step)
        for at_ms, step, value, is_nan in found[:count]
    ]
    return points, offset + count if len(found) > count else None


@read
def metric_histories(
    uow: UnitOfWork, project: str, uids: Sequence[str], key: str, *, limit: int
) -> list[tuple[str, Metric]]:
    """Points of one metric in up to 100 runs, by run and then in order of time; at most `limit` in all."""
    uow.require(Permission.RUN_READ, project)
    if len(uids) > RUNS_PER_HISTORY_MAX:
        raise InvalidInputError(
            f"GetMetricHistoryBulk request cannot specify more than {RUNS_PER_HISTORY_MAX} run_ids. "
            f"Received {len(uids)} run_ids.",
            field="run_id",
        )
    statement = (
        select(run.c.uid, metric.c.at_ms, metric.c.step, metric.c.value, metric.c.is_nan)
        .join(run, run.c.id == metric.c.run)
        .join(metric_key, metric_key.c.id == metric.c.key)
        .where(run.c.uid.in_(list(uids)), run.c.project == project, metric_key.c.name == key)
        .order_by(run.c.uid, metric.c.at_ms, metric.c.step, metric.c.value)
        .limit(min(max(limit, 1), HISTORY_POINTS_MAX))
    )
    return [
        (uid, Metric(key=key, value=math.nan if is_nan else value, at_ms=at_ms, step=step))
        for uid, at_ms, step, value, is_nan in uow.conn.execute(statement)
    ]


def put_metrics(uow: UnitOfWork, number: int, metrics: Sequence[Metric]) -> None:
    """Add points and move the newest value of each metric; asks for no permission."""
    if not metrics:
        return
    keys = _key_numbers(uow, {point.key for point in metrics})
    points = [_point(number, keys[point.key], point) for point in metrics]
    upsert(uow.conn, metric, points, keys=["run", "key", "at_ms", "step", "value", "is_nan"])
    newest: dict[int, dict[str, Any]] = {}
    for point in points:
        seen = newest.get(point["key"])
        if seen is None or _age(point) > _age(seen):
            newest[point["key"]] = point
    dialect = sqlite if uow.conn.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(latest_metric)
    new, old = statement.excluded, latest_metric.c
    later = tuple_(new.step, new.at_ms, new.value) > tuple_(old.step, old.at_ms, old.value)
    statement = statement.on_conflict_do_update(
        index_elements=["run", "key"],
        set_={name: new[name] for name in ("value", "step", "at_ms", "is_nan")},
        where=later,
    )
    # In order of keys, so that two batches of one run never wait for each other in a circle.
    uow.conn.execute(statement, [newest[key] for key in sorted(newest)])


def put_params(uow: UnitOfWork, row: rows.Row, params: Mapping[str, str]) -> None:
    """Add parameters; the same value again is no change, another is refused. Asks for no permission."""
    if not params:
        return
    values = [{"run": row["id"], "key": key, "value": value} for key, value in sorted(params.items())]
    upsert(uow.conn, run_param, values, keys=["run", "key"])
    kept = _values(uow, row["id"], list(params))
    wrong = [
        {"key": key, "old_value": kept[key], "new_value": value} for key, value in params.items() if kept[key] != value
    ]
    if not wrong:
        return
    if len(params) == 1:
        detail = (
            f"Param with key='{wrong[0]['key']}' was already logged with value='{wrong[0]['old_value']}' for run "
            f"ID='{row['uid']}'. Attempted logging new value '{wrong[0]['new_value']}'."
        )
    else:
        detail = f"Params were already logged='{wrong[:10]}' for run ID='{row['uid']}'."
    raise InvalidInputError(
        f"Changing param values is not allowed. {detail}",
        hint="A parameter is part of what the run is; log a changing value as a tag or metric, or start a nested run.",
        field="params",
    )


def put_tags(uow: UnitOfWork, number: int, tags: Mapping[str, str]) -> None:
    """Set tags; MLflow's name tag also renames the run. Asks for no permission."""
    if not tags:
        return
    values = [{"run": number, "key": key, "value": value} for key, value in sorted(tags.items())]
    upsert(uow.conn, run_tag, values, keys=["run", "key"], update=["value"])
    if tags.get(RUN_NAME_TAG):
        uow.conn.execute(update(run).where(run.c.id == number).values(name=tags[RUN_NAME_TAG]))


def _put_inputs(uow: UnitOfWork, number: int, inputs: Sequence[RunInput]) -> None:
    """Add datasets; the first mention of a name and digest counts."""
    upsert(
        uow.conn,
        run_input,
        [
            {
                "run": number,
                "name": item.name,
                "digest": item.digest,
                "version": item.version,
                "context": item.context,
                "source_type": item.source_type,
                "source": item.source,
                "schema": item.schema,
                "profile": item.profile,
                "tags": item.tags,
            }
            for item in inputs
        ],
        keys=["run", "name", "digest"],
    )


def _put_outputs(uow: UnitOfWork, number: int, outputs: Sequence[RunOutput]) -> None:
    values = []
    for item in outputs:
        limits.check_length(item.name, limit=limits.DATASET_NAME_CHARACTERS_MAX, field="outputs.name")
        limits.check_length(item.digest, limit=limits.DATASET_DIGEST_CHARACTERS_MAX, field="outputs.digest")
        limits.check_length(item.kind, limit=64, field="outputs.kind")
        values.append({"run": number, "name": item.name, "kind": item.kind, "digest": item.digest, "facts": item.facts})
    upsert(uow.conn, run_output, values, keys=["run", "name"], update=["kind", "digest", "facts"])


def _key_numbers(uow: UnitOfWork, names: set[str]) -> dict[str, int]:
    """The interned number of each metric key; new keys get one."""
    found = _known_keys(uow, names)
    missing = sorted(names - found.keys())
    if missing:
        upsert(uow.conn, metric_key, [{"name": name} for name in missing], keys=["name"])
        found |= _known_keys(uow, missing)
    return found


def _known_keys(uow: UnitOfWork, names: Iterable[str]) -> dict[str, int]:
    wanted = sorted(names)
    found: dict[str, int] = {}
    for start in range(0, len(wanted), _KEYS_PER_QUERY):
        part = wanted[start : start + _KEYS_PER_QUERY]
        statement = select(metric_key.c.name, metric_key.c.id).where(metric_key.c.name.in_(part))
        found |= {row.name: row.id for row in uow.conn.execute(statement)}
    return found


def _values(uow: UnitOfWork, number: int, keys: Sequence[str]) -> dict[str, str]:
    statement = select(run_param.c.key, run_param.c.value).where(run_param.c.run == number, run_param.c.key.in_(keys))
    return {row.key: row.value for row in uow.conn.execute(statement)}


def _point(number: int, key: int, point: Metric) -> dict[str, Any]:
    is_nan = math.isnan(point.value)
    # Databases do not agree on infinities: MLflow keeps the largest double instead, and so do we.
    value = 0.0 if is_nan else min(max(point.value, -DOUBLE_MAX), DOUBLE_MAX)
    return {"run": number, "key": key, "at_ms": point.at_ms, "step": point.step, "value": value, "is_nan": is_nan}


def _age(point: Mapping[str, Any]) -> tuple[int, int, float]:
    return point["step"], point["at_ms"], point["value"]
