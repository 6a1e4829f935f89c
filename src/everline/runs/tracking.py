"""What is logged to a run while it runs: metrics, parameters, tags, inputs and outputs.

The rules are MLflow's: a parameter never changes its value; a tag does; a metric is a history, and the same
point twice is one point. Everything of one batch is written or nothing. Batches that arrive together share one
transaction and its statements (`log_many`): a batch that breaks a rule is found before anything is written,
and leaves the others alone.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select, update

from everline.access.declare import read, stream
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError, InvalidInputError, NotFoundError
from everline.runs import limits, rows
from everline.runs.tables import latest_metric, metric, metric_key, run, run_input, run_output, run_param, run_tag
from everline.runs.types import Batch, Metric, RunInput, RunOutput
from everline.storage.db import insert_rows, select_by_ids, select_rows, upsert

RUN_NAME_TAG = "mlflow.runName"
MODELS_TAG = "mlflow.log-model.history"
MODELS_TAG_CHARACTERS_MAX = 1_000_000
HISTORY_POINTS_MAX = 1_000_000
RUNS_PER_HISTORY_MAX = 100
DOUBLE_MAX = 1.7976931348623157e308
_KEYS_PER_QUERY = 500
_POINT = ("run", "key", "at_ms", "step", "value", "is_nan")
_PAIR = ("run", "key", "value")
_PARAMS = 'SELECT "key", value FROM run_param WHERE run = ? AND "key" {ids}'
_HISTORY = """
    SELECT at_ms, step, value, is_nan FROM metric
    WHERE run = ? AND "key" = (SELECT id FROM metric_key WHERE name = ?)
    ORDER BY at_ms, step, value LIMIT ? OFFSET ?
"""

Point = tuple[int, int, int, int, float, int]
"""A row of a metric: run, key number, milliseconds, step, value, and 1 if it is no number."""


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
    batch = Batch(run=uid, metrics=metrics, params=params or {}, tags=tags or {}, inputs=inputs, outputs=outputs)
    (error,) = log_many(uow, project, [batch])
    if error is not None:
        raise error


@stream
def log_many(uow: UnitOfWork, project: str, batches: Sequence[Batch]) -> list[EverlineError | None]:
    """Log batches of active runs together; each is logged whole or not at all.

    Returns:
        For each batch None, or why it was refused; what `log_batch` would have raised for it.

    Raises:
        EverlineError: something that concerns them all, or that shows only while writing: nothing is logged
            and each may be tried alone.
    """
    uow.require(Permission.RUN_WRITE, project)
    known = rows.find_targets(uow, project, {batch.run for batch in batches})
    kept: dict[tuple[int, str], str] = {}
    answers: list[EverlineError | None] = []
    ready: list[tuple[rows.Row, Batch]] = []
    for batch in batches:
        try:
            row = rows.writable(known.get(batch.run), batch.run)
            _check(batch)
            if batch.params:
                _agree(uow, row, batch.params, kept)
        except EverlineError as error:
            answers.append(error)
        else:
            answers.append(None)
            ready.append((row, batch))
    _write(uow, ready)
    return answers


@stream
def delete_tag(uow: UnitOfWork, project: str, uid: str, *, key: str) -> None:
    """Remove a tag of an active run."""
    row = rows.writable_run(uow, project, uid)
    where = (run_tag.c.run == row["id"], run_tag.c.key == key)
    if uow.conn.execute(run_tag.delete().where(*where)).rowcount == 0:
        raise NotFoundError(f"No tag with name: {key[:300]} in run with id {uid}", field="key")


@stream
def note_model(uow: UnitOfWork, project: str, uid: str, *, model: Mapping[str, Any]) -> None:
    """Note that a client of MLflow 2 logged a model to an active run, where its own server notes it: in a tag."""
    row = rows.writable_run(uow, project, uid)
    where = (run_tag.c.run == row["id"], run_tag.c.key == MODELS_TAG)
    noted = json.loads(uow.conn.execute(select(run_tag.c.value).where(*where)).scalar() or "[]")
    value = json.dumps([*(noted if isinstance(noted, list) else []), model])
    limits.check_length(value, limit=MODELS_TAG_CHARACTERS_MAX, field="model_json")
    put_tags(uow, row["id"], {MODELS_TAG: value})


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
    points = _history(uow, row["id"], key, limit=count + 1, offset=offset)
    return points[:count], offset + count if len(points) > count else None


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
    left = min(max(limit, 1), HISTORY_POINTS_MAX)
    known = rows.find_targets(uow, project, set(uids))
    found: list[tuple[str, Metric]] = []
    for uid in sorted(known):
        found += [(uid, one) for one in _history(uow, known[uid]["id"], key, limit=left - len(found))]
    return found


def put_points(uow: UnitOfWork, points: Sequence[Point]) -> None:
    """Add points and move the newest value of each metric; asks for no permission.

    Args:
        points: as `point` makes them.
    """
    insert_rows(uow.conn, metric, _POINT, points, keys=_POINT)
    newest: dict[tuple[int, int], Point] = {}
    for one in reversed(points):  # they mostly come in order, so that the first one seen is the newest
        number, key, at_ms, step, value, _ = one
        seen = newest.get((number, key))
        if seen is None or (step >= seen[3] and (step, at_ms, value) > (seen[3], seen[2], seen[4])):
            newest[number, key] = one
    # In order of runs and keys, so that two batches never wait for each other in a circle.
    moved = [newest[at] for at in sorted(newest)]
    insert_rows(uow.conn, latest_metric, _POINT, moved, keys=["run", "key"], newer=["step", "at_ms", "value"])


def put_params(uow: UnitOfWork, row: rows.Row, params: Mapping[str, str]) -> None:
    """Add parameters; the same value again is no change, another is refused. Asks for no permission."""
    if params and insert_rows(uow.conn, run_param, _PAIR, _pairs(row, params), keys=["run", "key"]) < len(params):
        # Some were there. Read after the insert: it has waited for whoever inserted the same at the same time.
        _agree(uow, row, params, {})


def put_tags(uow: UnitOfWork, number: int, tags: Mapping[str, str], *, renames: bool = True) -> None:
    """Set tags; MLflow's name tag also `renames` the run. Asks for no permission."""
    if not tags:
        return
    values = [{"run": number, "key": key, "value": value} for key, value in sorted(tags.items())]
    upsert(uow.conn, run_tag, values, keys=["run", "key"], update=["value"])
    if renames and tags.get(RUN_NAME_TAG):
        uow.conn.execute(update(run).where(run.c.id == number).values(name=tags[RUN_NAME_TAG]))


def key_numbers(uow: UnitOfWork, names: Iterable[str]) -> dict[str, int]:
    """The interned number of each metric key; new keys get one. Asks for no permission."""
    memory = uow.memory.metric_keys
    found = {name: memory[name] for name in names if name in memory}
    missing = sorted(set(names) - found.keys())
    if missing:
        learnt = _known_keys(uow, missing)
        new = [(name,) for name in missing if name not in learnt]
        if new:
            insert_rows(uow.conn, metric_key, ["name"], new, keys=["name"])
            learnt |= _known_keys(uow, [name for (name,) in new])
        uow.remember(memory, learnt)
        found |= learnt
    return found


def point(number: int, key: int, given: Metric) -> Point:
    """A metric as a row. Databases do not agree on infinities: MLflow keeps the largest double, and so do we."""
    value = float(given.value)
    if math.isfinite(value):
        return number, key, given.at_ms, given.step, value, 0
    if math.isnan(value):
        return number, key, given.at_ms, given.step, 0.0, 1
    return number, key, given.at_ms, given.step, math.copysign(DOUBLE_MAX, value), 0


def _history(uow: UnitOfWork, number: int, key: str, *, limit: int, offset: int = 0) -> list[Metric]:
    """Points of a metric of one run; histories are long, so that nothing is done for each point that need not be."""
    return [
        Metric(key=key, value=math.nan if is_nan else value, at_ms=at_ms, step=step)
        for at_ms, step, value, is_nan in select_rows(uow.conn, _HISTORY, (number, key, limit, offset))
    ]


def _check(batch: Batch) -> None:
    limits.check_metrics(batch.metrics)
    limits.check_pairs(batch.params, limit=limits.PARAM_VALUE_CHARACTERS_MAX, field="params")
    limits.check_pairs(batch.tags, limit=limits.TAG_VALUE_CHARACTERS_MAX, field="tags")
    limits.check_batch(metrics=len(batch.metrics), params=len(batch.params), tags=len(batch.tags))
    limits.check_inputs(batch.inputs)
    limits.check_outputs(batch.outputs)


def _agree(uow: UnitOfWork, row: rows.Row, params: Mapping[str, str], kept: dict[tuple[int, str], str]) -> None:
    """Refuse parameters that have another value already.

    Args:
        kept: values that batches before this one are about to write, by run and key; this one's are entered.
    """
    number = row["id"]
    found: dict[str, str] = {one[0]: one[1] for one in select_by_ids(uow.conn, _PARAMS, list(params), before=[number])}
    found |= {key: kept[number, key] for key in params if (number, key) in kept}
    wrong = [
        {"key": key, "old_value": found[key], "new_value": value}
        for key, value in params.items()
        if found.get(key, value) != value
    ]
    if not wrong:
        kept.update({(number, key): value for key, value in params.items()})
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


def _write(uow: UnitOfWork, ready: Sequence[tuple[rows.Row, Batch]]) -> None:
    """Write checked batches: the points of all at once, what is rarer run by run."""
    names = {given.key for _, batch in ready for given in batch.metrics}
    keys = key_numbers(uow, names) if names else {}
    put_points(uow, [point(row["id"], keys[given.key], given) for row, batch in ready for given in batch.metrics])
    tags: dict[int, dict[str, str]] = defaultdict(dict)
    for row, batch in ready:
        put_params(uow, row, batch.params)
        tags[row["id"]] |= batch.tags
        _put_inputs(uow, row["id"], batch.inputs)
        _put_outputs(uow, row["id"], batch.outputs)
    for number in sorted(tags):
        put_tags(uow, number, tags[number])


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
    values = [
        {"run": number, "name": item.name, "kind": item.kind, "digest": item.digest, "facts": item.facts}
        for item in outputs
    ]
    upsert(uow.conn, run_output, values, keys=["run", "name"], update=["kind", "digest", "facts"])


def _pairs(row: rows.Row, pairs: Mapping[str, str]) -> list[tuple[int, str, str]]:
    return [(row["id"], key, value) for key, value in sorted(pairs.items())]


def _known_keys(uow: UnitOfWork, names: Iterable[str]) -> dict[str, int]:
    wanted = sorted(names)
    found: dict[str, int] = {}
    for start in range(0, len(wanted), _KEYS_PER_QUERY):
        part = wanted[start : start + _KEYS_PER_QUERY]
        statement = select(metric_key.c.name, metric_key.c.id).where(metric_key.c.name.in_(part))
        found |= {row.name: row.id for row in uow.conn.execute(statement)}
    return found
