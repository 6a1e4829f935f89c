"""The records of pipelines: steps as drivers report them, and results kept under their step keys.

Rules:
1. Only a run that has not ended takes step reports, and only from the driver that has it; see `running`.
2. A step that has ended well never changes; the same report again is accepted and does nothing. One that failed or
   was cancelled may be begun again by a later driver of the run.
3. A result is kept only under the key of a step that succeeded, and a later one replaces it: the driver
   computes again only when what was kept is not to be trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Row, func, select, update

from everline.access.declare import act, read, stream
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, InvalidInputError
from everline.governance.audit import EVENT_BYTES_MAX
from everline.ids import check_digest, check_uid
from everline.jobs import queue
from everline.pipelines import running, tables
from everline.pipelines.types import (
    AGAIN,
    ENDED,
    JOB_KIND,
    QUEUE,
    CacheEntry,
    KeyMaterial,
    Orders,
    PipelineSummary,
    Recent,
    RecordSteps,
    StepError,
    StepRecord,
    StepStatus,
    StepUpdate,
    ValueRef,
)
from everline.runs import service as runs
from everline.storage.db import insert_values, select_by_ids

STEPS_PER_REPORT_MAX = 1_000
KEYS_PER_LOOKUP_MAX = 1_000
_HISTORY_ROWS = 10_000
_HISTORY_RUNS = 3
_EVENT_BYTES = EVENT_BYTES_MAX // 2
_STATUSES = "SELECT uid, status FROM pipeline_step WHERE uid {ids}"


@stream
def record_steps(uow: UnitOfWork, project: str, run: str, *, report: RecordSteps) -> Orders:
    """Keep what a driver reports; ended steps and their results are anchored in the audit log.

    Args:
        report: at most 1,000 updates; the last one of a step counts. One without any says that the driver is alive.

    Returns:
        Whether to go on.

    Raises:
        NotFoundError: no such run in a project that the actor may see.
        StaleError: another driver has the run, or it has ended.
        ConflictError: a step that ended is said to be otherwise.
        InvalidInputError: too many updates, or one that contradicts itself.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    if len(report.steps) > STEPS_PER_REPORT_MAX:
        raise InvalidInputError(
            f"A report holds at most {STEPS_PER_REPORT_MAX} steps, not {len(report.steps)}.", field="steps"
        )
    orders = running.heard(uow, project, run, epoch=report.epoch)
    latest = {step.uid: _checked(step) for step in report.steps}
    known = _statuses(uow, list(latest))
    fresh = [step for step in latest.values() if _is_news(step, known)]
    insert_values(
        uow.conn, tables.pipeline_step, [_row(project, run, report.pipeline, step) for step in fresh], over=["uid"]
    )
    _keep(uow, project, run, fresh)
    running.keep_output(uow, run, report.output)
    ended = [step for step in fresh if step.status in ENDED]
    if ended:
        told = [
            {"step": s.name, "status": s.status, "key": s.key, "outputs": [o.digest for o in s.outputs]} for s in ended
        ]
        for part in _parts(told):
            uow.record("pipeline.steps", subject=f"run:{run}", project=project, pipeline=report.pipeline, steps=part)
    return orders


@read
def lookup(uow: UnitOfWork, project: str, *, keys: list[str]) -> list[CacheEntry]:
    """The kept results under these step keys; a key without one is left out.

    Raises:
        InvalidInputError: more than 1,000 keys, or one that is no digest.
    """
    uow.require(Permission.PIPELINE_READ, project)
    if len(keys) > KEYS_PER_LOOKUP_MAX:
        raise InvalidInputError(f"At most {KEYS_PER_LOOKUP_MAX} keys are looked up at once.", field="keys")
    wanted = [check_digest(key, field="keys") for key in keys]
    cache = tables.step_cache.c
    rows = uow.conn.execute(select(tables.step_cache).where(cache.project == project, cache.key.in_(wanted)))
    return [_entry(row) for row in rows]


@read
def list_steps(uow: UnitOfWork, project: str, run: str) -> list[StepRecord]:
    """The steps of a run, in the order of the graph.

    Raises:
        NotFoundError: no such run in a project that the actor may see.
    """
    uow.require(Permission.PIPELINE_READ, project)
    runs.get_run(uow, project, run)
    step = tables.pipeline_step.c
    query = select(tables.pipeline_step).where(step.project == project, step.run == run).order_by(step.position)
    return [record_of(row) for row in uow.conn.execute(query)]


@read
def recent(uow: UnitOfWork, project: str, *, pipeline: str) -> Recent:
    """What the steps of a pipeline depended on when they last ended well, and those of their results that are kept.

    The runs that were started last are looked at, so that a driver can tell at once why a step runs again, and whether
    it need not.
    """
    uow.require(Permission.PIPELINE_READ, project)
    known = tables.pipeline_run.c
    last = select(known.run).where(known.project == project, known.pipeline == pipeline)
    runs_ = list(uow.conn.execute(last.order_by(known.run.desc()).limit(_HISTORY_RUNS)).scalars())
    step, cache = tables.pipeline_step.c, tables.step_cache.c
    query = (
        select(step.name, step.key, step.material)
        .where(step.project == project, step.run.in_(runs_))
        .where(step.status.in_([StepStatus.SUCCEEDED, StepStatus.CACHED]))
        .order_by(step.run.desc())
        .limit(_HISTORY_ROWS)
    )
    materials: dict[str, KeyMaterial] = {}
    keys: dict[str, str] = {}
    for row in uow.conn.execute(query):
        if row.name not in materials and row.material is not None:
            materials[row.name] = msgspec.convert(row.material, KeyMaterial)
            if row.key is not None:
                keys[row.name] = row.key
    kept: list[CacheEntry] = []
    wanted = list(dict.fromkeys(keys.values()))
    for start in range(0, len(wanted), KEYS_PER_LOOKUP_MAX):
        part = wanted[start : start + KEYS_PER_LOOKUP_MAX]
        where = (cache.project == project, cache.key.in_(part))
        kept += [_entry(row) for row in uow.conn.execute(select(tables.step_cache).where(*where))]
    return Recent(materials=materials, kept=kept)


@read
def list_pipelines(uow: UnitOfWork, project: str, *, limit: int = 100) -> list[PipelineSummary]:
    """The pipelines that have run, the one that ran last first."""
    uow.require(Permission.PIPELINE_READ, project)
    step = tables.pipeline_step.c
    query = (
        select(step.pipeline, func.count(step.run.distinct()).label("runs"), func.max(step.uid).label("last"))
        .where(step.project == project)
        .group_by(step.pipeline)
        .order_by(func.max(step.uid).desc())
        .limit(limit)
    )
    found = []
    for row in uow.conn.execute(query).all():
        last = uow.conn.execute(select(step.run).where(step.uid == row.last)).scalar_one()
        steps = uow.conn.execute(
            select(step.status, step.started_at).where(step.project == project, step.run == last)
        ).all()
        statuses = [item.status for item in steps]
        found.append(
            PipelineSummary(
                name=row.pipeline,
                runs=row.runs,
                last_run=last,
                last_at=max(item.started_at for item in steps),
                steps=len(steps),
                cached=statuses.count(StepStatus.CACHED),
                failed=statuses.count(StepStatus.FAILED),
            )
        )
    return found


@act
def trigger(
    uow: UnitOfWork,
    project: str,
    *,
    pipeline: str,
    directory: str,
    parameters: dict[str, Any],
    reason: str,
    key: str | None = None,
) -> str | None:
    """Leave a pipeline run to the next `everline worker`.

    Args:
        pipeline: `module:pipeline`.
        directory: folder in which the worker finds the module.
        parameters: JSON values by name.
        reason: why, in one sentence; kept with the run.
        key: at most one run with this key is ever enqueued.

    Returns:
        The job's uid, or None if its key was there already.

    Raises:
        InvalidInputError: `pipeline` is not of the form `module:pipeline`.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    if pipeline.count(":") != 1:
        raise InvalidInputError(
            f"{pipeline[:80]!r} is not a pipeline.", hint="Write `module:pipeline`, like flight_delay:flight_delay.",
            field="pipeline",
        )  # fmt: skip
    payload = {"pipeline": pipeline, "directory": directory, "parameters": parameters, "reason": reason}
    uid = queue.enqueue(uow, JOB_KIND, payload, project=project, queue=QUEUE, key=key)
    if uid is None:
        uow.unchanged()
        return None
    uow.record("pipeline.trigger", subject=f"job:{uid}", project=project, pipeline=pipeline, reason=reason[:500])
    return uid


def _parts(told: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """What is said of steps, in parts that each fit an audit event: a report of a thousand fits none."""
    part: list[dict[str, Any]] = []
    length = 0
    for one in told:
        size = len(msgspec.json.encode(one))
        if part and length + size > _EVENT_BYTES:
            yield part
            part, length = [], 0
        part.append(one)
        length += size
    yield part


def _checked(step: StepUpdate) -> StepUpdate:
    check_uid(step.uid, field="steps.uid")
    if step.key is not None:
        check_digest(step.key, field="steps.key")
    if (step.ended_at is not None) != (step.status in ENDED):
        raise InvalidInputError(
            f"Step {step.name!r} is {step.status} and its end does not fit that.", field="steps.ended_at"
        )
    if step.cache and (step.key is None or step.status is not StepStatus.SUCCEEDED):
        raise InvalidInputError(
            f"Step {step.name!r} cannot be kept: only the result of a step that succeeded, under its key, can.",
            field="steps.cache",
        )
    return step


def _statuses(uow: UnitOfWork, uids: list[str]) -> dict[str, str]:
    return {str(uid): str(status) for uid, status in select_by_ids(uow.conn, _STATUSES, uids)}


def _is_news(step: StepUpdate, known: dict[str, str]) -> bool:
    before = known.get(step.uid)
    if before not in ENDED or (before in AGAIN and before != step.status):
        return True
    if before != step.status:
        raise ConflictError(
            f"Step {step.name!r} ended as {before}; it cannot be {step.status} afterwards.", hint="Start another run."
        )
    return False


def _row(project: str, run: str, pipeline: str, step: StepUpdate) -> dict[str, Any]:
    return {
        "uid": step.uid, "project": project, "run": run, "pipeline": pipeline, "name": step.name,
        "position": step.position, "status": step.status, "key": step.key,
        "material": None if step.material is None else msgspec.to_builtins(step.material),
        "outputs": msgspec.to_builtins(step.outputs), "cached_from": step.cached_from, "attempts": step.attempts,
        "started_at": step.started_at, "ended_at": step.ended_at, "reason": step.reason, "needs": list(step.needs),
        "error": None if step.error is None else msgspec.to_builtins(step.error),
    }  # fmt: skip


def _keep(uow: UnitOfWork, project: str, run: str, steps: list[StepUpdate]) -> None:
    now = uow.clock.now()
    used = [step.key for step in steps if step.status is StepStatus.CACHED and step.key is not None]
    if used:
        cache = tables.step_cache.c
        where = (cache.project == project, cache.key.in_(used))
        uow.conn.execute(update(tables.step_cache).where(*where).values(used_at=now))
    rows = [
        {
            "project": project, "key": step.key, "outputs": msgspec.to_builtins(step.outputs), "run": run,
            "step": step.uid, "created_at": now, "used_at": now,
            "seconds": (step.ended_at - step.started_at).total_seconds(),
        }
        for step in steps
        if step.cache and step.ended_at is not None
    ]  # fmt: skip
    insert_values(uow.conn, tables.step_cache, rows, over=["project", "key"])


def _entry(row: Row[Any]) -> CacheEntry:
    return CacheEntry(
        key=row.key, outputs=_outputs(row.outputs), run=row.run, step=row.step, created_at=row.created_at,
        seconds=row.seconds,
    )  # fmt: skip


def _outputs(value: Any) -> tuple[ValueRef, ...]:
    return msgspec.convert(value, tuple[ValueRef, ...])


def record_of(row: Row[Any]) -> StepRecord:
    """A row of `pipeline_step` as it is handed out; asks for no permission."""
    status = StepStatus(row.status)
    seconds = None if row.ended_at is None else (row.ended_at - row.started_at).total_seconds()
    return StepRecord(
        uid=row.uid, run=row.run, pipeline=row.pipeline, name=row.name, position=row.position, status=status,
        cached=status is StepStatus.CACHED, key=row.key,
        material=None if row.material is None else msgspec.convert(row.material, KeyMaterial),
        outputs=_outputs(row.outputs), cached_from=row.cached_from, attempts=row.attempts, started_at=row.started_at,
        ended_at=row.ended_at, seconds=seconds, reason=row.reason, needs=tuple(row.needs),
        error=None if row.error is None else msgspec.convert(row.error, StepError),
    )  # fmt: skip
