"""Runs: started, recorded, finished, listed, compared, hidden and restored."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, false, select, update

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_json
from everline.errors import ConflictError, EverlineError, InvalidInputError, NotFoundError
from everline.ids import digest_bytes, new_run_uid
from everline.runs import experiments, limits, rows, tracking
from everline.runs.names import random_name
from everline.runs.tables import run
from everline.runs.types import DEFAULT_EXPERIMENT, Comparison, Difference, Run, RunStatus, TrackedRun, to_ms
from everline.storage.db import dialect_of

RUNS_PER_COMPARISON_MAX = 20
RECORD_BYTES_MAX = 16 << 20
_UPDATE_RUN = update(run).where(run.c.id == bindparam("number"))
_CLIENT_UID = re.compile("[0-9a-f]{32}")
PIPELINE_CHARACTERS_MAX = 512


@act
def create_run(
    uow: UnitOfWork,
    project: str,
    *,
    experiment: str = DEFAULT_EXPERIMENT,
    experiment_id: str | None = None,
    name: str | None = None,
    pipeline: str | None = None,
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    started_ms: int | None = None,
    user: str | None = None,
    uid: str | None = None,
) -> TrackedRun:
    """Start a run.

    Args:
        uid: 32 hexadecimal digits that the client made up; asked twice, it is one run. None makes them up here.
        experiment: its name; made if it is new.
        experiment_id: its number instead, which must exist; `0` and the empty text are the default one.
        name: what people call it; None makes one up.
        pipeline: `module:pipeline`, if a pipeline makes the run.
        started_ms: the client's own start in milliseconds since 1970; None means now.
        user: who the client says is at work; None means the actor.

    Raises:
        NotFoundError: no experiment has this number.
        InvalidInputError: the experiment is deleted, or a name or value is out of its limits.
        ConflictError: the uid is another run's.
    """
    uow.require(Permission.RUN_WRITE, project)
    if uid is not None:
        known = _started(uow, project, uid, experiment=experiment)
        if known is not None:
            uow.unchanged()
            return known
    params, tags = params or {}, dict(tags or {})
    limits.check_pairs(params, limit=limits.PARAM_VALUE_CHARACTERS_MAX, field="params")
    limits.check_pairs(tags, limit=limits.TAG_VALUE_CHARACTERS_MAX, field="tags")
    limits.check_length(pipeline or "", limit=PIPELINE_CHARACTERS_MAX, field="pipeline")
    name = _name_of(name, tags)
    if experiment_id is None:
        parent = experiments.find_or_create(uow, project, experiment)
    else:
        parent = experiments.find_to_change(uow, project, experiment_id)
    experiments.check_active(parent)
    uid = uid or new_run_uid()
    row = {
        "uid": uid,
        "experiment": parent["id"],
        "project": project,
        "name": name,
        "status": RunStatus.RUNNING.value,
        "started_ms": to_ms(uow.clock.now())
        if started_ms is None
        else limits.check_long(started_ms, field="start_time"),
        "ended_ms": None,
        "deleted": False,
        "user_name": limits.check_length(uow.actor.name if user is None else user, limit=256, field="user_id"),
        "author": uow.actor.uid,
        "artifact_uri": experiments.artifacts_of_run(parent["artifact_location"], uid),
        "pipeline": pipeline,
        "record": None,
        "summary": None,
    }
    number = uow.conn.execute(_insert_run(uow.conn.dialect.name), row).scalar()
    if number is None:  # the same was asked for twice at once, and the other was first
        uow.unchanged()
        return _must_have_started(uow, project, uid, experiment=experiment)
    tags |= {tracking.RUN_NAME_TAG: name}
    tracking.put_params(uow, {"id": number, "uid": uid}, params)
    tracking.put_tags(uow, number, tags, renames=False)
    uow.record(
        "run.create", subject=f"run:{uid}", project=project, experiment=parent["name"], name=name, pipeline=pipeline
    )
    return rows.tracked(
        row, experiment=parent["name"], params=dict(sorted(params.items())), tags=dict(sorted(tags.items()))
    )


@act
def finish_run(
    uow: UnitOfWork, project: str, uid: str, *, status: RunStatus = RunStatus.FINISHED, ended_ms: int | None = None
) -> TrackedRun:
    """End a run; a run that has ended keeps its end unless another one is given."""
    if not status.is_terminal:
        raise InvalidInputError(
            f"A run cannot end as {status.value!r}.", hint="Use finished, failed or killed.", field="status"
        )
    return _update(uow, project, uid, status=status, ended_ms=to_ms(uow.clock.now()) if ended_ms is None else ended_ms)


@act
def update_run(
    uow: UnitOfWork,
    project: str,
    uid: str,
    *,
    status: RunStatus | None = None,
    ended_ms: int | None = None,
    name: str | None = None,
) -> TrackedRun:
    """Change what is given of an active run; its name is also MLflow's name tag."""
    return _update(uow, project, uid, status=status, ended_ms=ended_ms, name=name)


@act
def delete_run(uow: UnitOfWork, project: str, uid: str) -> None:
    """Hide a run; nothing is lost, `restore_run` brings it back."""
    uow.require(Permission.RUN_WRITE, project)
    row = rows.find_run(uow, project, uid)
    now = to_ms(uow.clock.now())
    uow.conn.execute(update(run).where(run.c.id == row["id"]).values(deleted=True, deleted_ms=now))
    uow.record("run.delete", subject=f"run:{uid}", project=project)


@act
def restore_run(uow: UnitOfWork, project: str, uid: str) -> None:
    """Bring a deleted run back."""
    uow.require(Permission.RUN_WRITE, project)
    row = rows.find_run(uow, project, uid)
    uow.conn.execute(update(run).where(run.c.id == row["id"]).values(deleted=False, deleted_ms=None))
    uow.record("run.restore", subject=f"run:{uid}", project=project)


@act
def set_record(uow: UnitOfWork, project: str, uid: str, record: Mapping[str, Any]) -> str:
    """Keep what is needed to do the run again; return the digest of its canonical JSON.

    Args:
        record: what `runs.capture` made (code, environment, seed, data), as plain JSON; at most 16 MiB.

    Raises:
        ConflictError: the run has another record already: a record is evidence and never changes.
    """
    row = rows.writable_run(uow, project, uid)
    content = canonical_json(dict(record))
    if len(content) > RECORD_BYTES_MAX:
        raise InvalidInputError(
            f"The record has {len(content)} bytes; at most {RECORD_BYTES_MAX} are allowed.", field="record"
        )
    digest = digest_bytes(content)
    if row["record"] == digest:
        uow.unchanged()
        return digest
    if row["record"] is not None:
        raise ConflictError(
            f"Run {uid} has a record already: {row['record']}.",
            hint="Start a new run for another record.",
            field="record",
        )
    uow.blobs.put_bytes(content)
    uow.conn.execute(update(run).where(run.c.id == row["id"]).values(record=digest, summary=_summary(record)))
    uow.record("run.record", subject=f"run:{uid}", project=project, record=digest)
    return digest


@read
def get_record(uow: UnitOfWork, project: str, uid: str) -> dict[str, Any]:
    """What is needed to do the run again, as it was recorded, with its digest verified.

    Raises:
        NotFoundError: the run has no record; runs of MLflow clients have none.
        IntegrityError: the record was altered where it lies.
    """
    uow.require(Permission.RUN_READ, project)
    row = rows.find_run(uow, project, uid)
    if row["record"] is None:
        raise NotFoundError(
            f"Run {uid} recorded no code and environment.",
            hint="Runs of pipelines and of `everline.run()` have a record; runs of MLflow clients have none.",
            field="run",
        )
    record: dict[str, Any] = msgspec.json.decode(uow.blobs.get_bytes(row["record"]))
    return record


@read
def get_run(uow: UnitOfWork, project: str, uid: str) -> TrackedRun:
    """Return a run, deleted or not."""
    uow.require(Permission.RUN_READ, project)
    return rows.load_runs(uow.conn, [rows.find_run(uow, project, uid)])[0]


@read
def get_runs(uow: UnitOfWork, project: str, uids: Sequence[str]) -> list[TrackedRun | EverlineError]:
    """Return runs, deleted or not, in the order asked for; an error in the place of one that is not there."""
    uow.require(Permission.RUN_READ, project)
    known = rows.find_runs(uow, project, set(uids))
    loaded = dict(zip(known, rows.load_runs(uow.conn, list(known.values())), strict=True))
    return [loaded[uid] if uid in loaded else rows.no_run(uid) for uid in uids]


@read
def list_runs(
    uow: UnitOfWork,
    project: str,
    *,
    experiment: str | None = None,
    pipeline: str | None = None,
    status: RunStatus | None = None,
    limit: int = 100,
    offset: int = 0,
) -> tuple[list[TrackedRun], int | None]:
    """The newest runs first, and the offset of the next page if there is one."""
    uow.require(Permission.RUN_READ, project)
    limit = max(1, min(limit, uow.settings.page_items_max))
    statement = select(run).where(run.c.project == project, run.c.deleted == false())
    if experiment is not None:
        parent = experiments.find_by_name(uow, project, experiment)
        if parent is None:
            raise NotFoundError(f"Could not find experiment with name '{experiment}'", field="experiment")
        statement = statement.where(run.c.experiment == parent["id"])
    if pipeline is not None:
        statement = statement.where(run.c.pipeline == pipeline)
    if status is not None:
        statement = statement.where(run.c.status == status.value)
    statement = statement.order_by(run.c.started_ms.desc(), run.c.id.desc()).offset(offset).limit(limit + 1)
    found = uow.conn.execute(statement).mappings().all()
    return rows.load_runs(uow.conn, found[:limit]), offset + limit if len(found) > limit else None


@read
def compare_runs(uow: UnitOfWork, project: str, uids: Sequence[str]) -> Comparison:
    """Put 2 to 20 runs side by side: parameters, metrics, code, environment and data."""
    uow.require(Permission.RUN_READ, project)
    if not 2 <= len(uids) <= RUNS_PER_COMPARISON_MAX:
        raise InvalidInputError(
            f"A comparison takes 2 to {RUNS_PER_COMPARISON_MAX} runs, not {len(uids)}.",
            hint="Name them: `everline runs compare RUN RUN`.",
            field="runs",
        )
    found = rows.load_runs(uow.conn, [rows.find_run(uow, project, uid) for uid in uids])
    code = ("entry", "code", "commit", "dirty", "seed")
    return Comparison(
        runs=[item.run for item in found],
        names=[item.name for item in found],
        params=_differences(found, lambda item: item.params),
        metrics=_differences(found, lambda item: item.metrics),
        code=_differences(found, lambda item: {key: item.summary.get(key) for key in code}),
        environment=_differences(found, lambda item: item.summary.get("environment") or {}),
        data=_differences(found, lambda item: {entry.name: entry.digest for entry in item.inputs}),
    )


@functools.cache
def _insert_run(dialect: str) -> Any:
    return dialect_of(dialect).insert(run).on_conflict_do_nothing(index_elements=["uid"]).returning(run.c.id)


def _started(uow: UnitOfWork, project: str, uid: str, *, experiment: str) -> TrackedRun | None:
    """The run that an earlier, lost answer was about."""
    if not _CLIENT_UID.fullmatch(uid):
        raise InvalidInputError(
            f"The uid {uid[:80]!r} cannot be a run's.", hint="Use 32 hexadecimal digits in lower case.", field="run"
        )
    row = rows.by_uid(uow, uid)
    if row is None:
        return None
    found = rows.load_runs(uow.conn, [row])[0]
    if (found.project, found.experiment) != (project, experiment):
        raise ConflictError(
            f"There is another run with the uid {uid}.", hint="Leave the uid out, or make a new one.", field="run"
        )
    return found


def _must_have_started(uow: UnitOfWork, project: str, uid: str, *, experiment: str) -> TrackedRun:
    found = _started(uow, project, uid, experiment=experiment)
    if found is None:
        raise ConflictError(f"Another run took the uid {uid}.", hint="Make a new one.", field="run")
    return found


def _update(
    uow: UnitOfWork,
    project: str,
    uid: str,
    *,
    status: RunStatus | None = None,
    ended_ms: int | None = None,
    name: str | None = None,
) -> TrackedRun:
    row = dict(rows.writable_run(uow, project, uid))
    changes: dict[str, Any] = {}
    if status is not None:
        changes["status"] = status.value
    if ended_ms is not None:
        changes["ended_ms"] = limits.check_long(ended_ms, field="end_time")
    if name:
        changes["name"] = limits.check_length(name, limit=limits.TAG_VALUE_CHARACTERS_MAX, field="run_name")
        tracking.put_tags(uow, row["id"], {tracking.RUN_NAME_TAG: name})
    changes = {key: value for key, value in changes.items() if row[key] != value}
    if changes:
        uow.conn.execute(_UPDATE_RUN, {"number": row["id"], **changes})
        uow.record(
            "run.update", subject=f"run:{uid}", project=project, changed=sorted(changes), status=changes.get("status")
        )
    else:
        uow.unchanged()
    return rows.load_runs(uow.conn, [{**row, **changes}])[0]


def _name_of(name: str | None, tags: Mapping[str, str]) -> str:
    tagged = tags.get(tracking.RUN_NAME_TAG)
    if name and tagged and name != tagged:
        raise InvalidInputError(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{name}', mlflow.runName='{tagged}').",
            field="run_name",
        )
    return limits.check_length(name or tagged or random_name(), limit=limits.TAG_VALUE_CHARACTERS_MAX, field="run_name")


def _summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """The few facts of a record that lists and comparisons show."""
    code, environment = _part(record, "code"), _part(record, "environment")
    return {
        "entry": record.get("entry"),
        "code": code.get("digest"),
        "commit": code.get("commit"),
        "dirty": code.get("dirty"),
        "seed": record.get("seed"),
        "environment": {key: value for key, value in environment.items() if isinstance(value, (str, int, float, bool))},
        "data": record.get("data") or [],
    }


def _part(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = record.get(key)
    return part if isinstance(part, Mapping) else {}


def _differences(found: Sequence[Run], facts: Callable[[Run], Mapping[str, Any]]) -> list[Difference]:
    sides = [facts(item) for item in found]
    lines = []
    for key in _keys(sides):
        values = [side.get(key) for side in sides]
        lines.append(Difference(key=key, values=values, differs=any(value != values[0] for value in values)))
    return lines


def _keys(sides: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({key for side in sides for key in side})
