"""Scheduled runs: each asked for once, held to the limit of runs at once.

Rules that hold here:
1. A schedule's row is locked before a run of it is let through: whoever asks, the limit holds, and it counts jobs
   that have not ended, so that it holds with any number of workers.
2. What a run stands for is its key, unique per schedule, and part of its job's key: a slot, an event or a request
   gives one job, whichever replica sees it, however often.
3. Slots go before what a backfill left waiting.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, and_, func, or_, select, update

from everline.access.unit_of_work import UnitOfWork
from everline.clock import rfc3339
from everline.errors import EverlineError
from everline.ids import new_uid
from everline.jobs import queue
from everline.jobs.tables import job as job_table
from everline.pipelines.schedules import templates, times
from everline.pipelines.schedules.tables import schedule, scheduled_run
from everline.pipelines.schedules.types import Beyond, Kind, RunStatus, ScheduledRun, ScheduleSpec
from everline.pipelines.types import JOB_KIND, QUEUE

_UNENDED = ("queued", "running")


def spec_of(row: Row[Any]) -> ScheduleSpec:
    """What a schedule's row declares."""
    return msgspec.convert(row.spec, ScheduleSpec)


def lock(uow: UnitOfWork, uid: str, *, wait: bool = True) -> Row[Any] | None:
    """The schedule's row, held until the transaction ends; None if somebody else has it and `wait` is off."""
    query = select(schedule).where(schedule.c.uid == uid)
    return uow.conn.execute(query.with_for_update(skip_locked=not wait)).first()


def enqueue_pipeline(
    uow: UnitOfWork,
    project: str,
    *,
    pipeline: str,
    directory: str | None,
    parameters: Mapping[str, Any],
    reason: str,
    key: str,
    **about: Any,
) -> str | None:
    """Leave a pipeline run to the next worker, because something happened; the caller records what.

    Args:
        key: at most one run with this key is ever enqueued.
        about: more for the job's payload: what happened.

    Returns:
        The job's uid, or None if its key was there already.
    """
    payload = {"pipeline": pipeline, "parameters": dict(parameters), "reason": reason[:1000], **about}
    if directory is not None:
        payload["directory"] = directory
    return queue.enqueue(uow, JOB_KIND, payload, project=project, queue=QUEUE, key=key)


def ask(
    uow: UnitOfWork,
    row: Row[Any],
    *,
    kind: Kind,
    slot: datetime,
    key: str,
    reason: str,
    facts: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    wait: bool = False,
    attempt: int = 1,
) -> RunStatus | None:
    """Ask for a run of a schedule whose row the caller holds.

    Args:
        key: what it stands for, at most 200 characters.
        facts: JSON values that the parameters may name, beside the slot.
        params: instead of the schedule's own of the same name, filled in as well.
        wait: whatever the schedule says, a run beyond the limit waits for its turn.

    Returns:
        What became of it at first, or None if there was one of this key before.

    Raises:
        InvalidInputError: a parameter names a fact that is not there; only for what a person or program asks for.
    """
    spec, given = spec_of(row), {"slot": rfc3339(slot), **(facts or {})}
    uid = new_uid()
    values: dict[str, Any] = {
        "uid": uid, "schedule": row.uid, "key": key, "kind": kind.value, "slot": slot, "attempt": attempt,
        "status": RunStatus.WAITING.value, "job": None, "run": None, "late": kind is Kind.BACKFILL,
        "deadline": (slot if kind is Kind.SLOT else uow.clock.now()) + timedelta(seconds=spec.start_within_s),
        "reason": reason[:1000], "error": None, "facts": given, "parameters": {},
        "created_at": uow.clock.now(), "ended_at": None,
    }  # fmt: skip
    known = select(scheduled_run.c.uid).where(scheduled_run.c.schedule == row.uid, scheduled_run.c.key == key)
    if uow.conn.execute(known).first() is not None:
        return None
    try:
        local = slot.astimezone(times.zone_of(times.zone_name(spec.trigger)))
        values["parameters"] = templates.fill(spec.params | dict(params or {}), given | {"slot": local})
    except EverlineError as error:
        if kind in (Kind.MANUAL, Kind.WEBHOOK):
            raise
        return _not_run(uow, row, values, status=RunStatus.FAILED, error=error.message)
    refusal = None if wait else _refusal(uow, row, spec)
    if refusal is not None:
        return _not_run(uow, row, values, status=RunStatus.SKIPPED, error=refusal)
    uow.conn.execute(scheduled_run.insert().values(**values))
    record(uow, row, "schedule.fire", values, reason=values["reason"])
    let_through(uow, row)
    status = select(scheduled_run.c.status).where(scheduled_run.c.uid == uid)
    return RunStatus(uow.conn.execute(status).scalar_one())


def note_missed(uow: UnitOfWork, row: Row[Any], *, slot: datetime, key: str, reason: str) -> None:
    """Keep that a slot was not run, because no control plane was up in time."""
    values: dict[str, Any] = {
        "uid": new_uid(), "schedule": row.uid, "key": key, "kind": Kind.SLOT.value, "slot": slot, "attempt": 1,
        "status": RunStatus.MISSED.value, "job": None, "run": None, "late": True, "deadline": slot, "reason": reason,
        "error": None, "facts": {"slot": rfc3339(slot)}, "parameters": {}, "created_at": uow.clock.now(),
        "ended_at": uow.clock.now(),
    }  # fmt: skip
    known = select(scheduled_run.c.uid).where(scheduled_run.c.schedule == row.uid, scheduled_run.c.key == key)
    if uow.conn.execute(known).first() is None:
        uow.conn.execute(scheduled_run.insert().values(**values))


def let_through(uow: UnitOfWork, row: Row[Any]) -> int:
    """Make jobs of what waits, as far as the limit allows; the caller holds the schedule's row."""
    spec, run = spec_of(row), scheduled_run.c
    free = spec.runs_max - active(uow, row.uid)
    if free <= 0:
        return 0
    waiting = (
        select(scheduled_run)
        .where(run.schedule == row.uid, run.status == RunStatus.WAITING.value)
        .order_by(run.kind == Kind.BACKFILL.value, run.slot, run.uid)
        .limit(free)
    )
    made = 0
    for one in uow.conn.execute(waiting).all():
        job = enqueue_pipeline(
            uow, row.project, pipeline=spec.pipeline, directory=spec.directory, parameters=one.parameters,
            reason=f"schedule {row.name}: {one.reason}", key=f"schedule:{row.uid}:{one.key}", schedule=row.name,
            scheduled_run=one.uid,
        )  # fmt: skip
        changes = {"status": RunStatus.QUEUED.value, "job": job}
        uow.conn.execute(update(scheduled_run).where(run.uid == one.uid).values(**changes))
        made += 1
    return made


def active(uow: UnitOfWork, uid: str, *, backfills: bool = True) -> int:
    """How many runs of a schedule go on: with the workers, or asking people."""
    run = scheduled_run.c
    query = (
        select(func.count())
        .select_from(scheduled_run.join(job_table, job_table.c.uid == run.job))
        .where(
            run.schedule == uid,
            or_(
                run.status == RunStatus.ASKING.value,
                and_(run.status == RunStatus.QUEUED.value, job_table.c.status.in_(_UNENDED)),
            ),
        )
    )
    if not backfills:
        query = query.where(run.kind != Kind.BACKFILL.value)
    return int(uow.conn.execute(query).scalar_one())


def trouble(uow: UnitOfWork, uid: str, **slots: datetime) -> None:
    """Keep the slot since which a schedule is in trouble, for whoever asks."""
    uow.conn.execute(update(schedule).where(schedule.c.uid == uid).values(**slots))


def record(uow: UnitOfWork, row: Any, action: str, values: Mapping[str, Any], **more: Any) -> None:
    """Leave what happened to a run in the audit log, under its schedule, whose history outlives it there."""
    about = row if isinstance(row, Mapping) else row._mapping
    uow.record(
        action, subject=f"schedule:{values['schedule']}", project=about["project"], name=about["name"],
        kind=values["kind"], slot=rfc3339(values["slot"]), status=values["status"], scheduled_run=values["uid"], **more,
    )  # fmt: skip


def run_of(row: Row[Any]) -> ScheduledRun:
    """A row of `runs_query` as a value."""
    known = {name: getattr(row, name) for name in ScheduledRun.__struct_fields__ if name != "status"}
    status = RunStatus(row.status)
    if status is RunStatus.QUEUED and (row.job_status != "queued" or (row.job_attempts or 0) > 0):
        status = RunStatus.RUNNING
    return ScheduledRun(status=status, **known | {"kind": Kind(row.kind)})


def runs_query() -> Any:
    """Scheduled runs with their schedule's name and how their jobs stand."""
    return select(
        scheduled_run, schedule.c.name.label("schedule_name"), job_table.c.status.label("job_status"),
        job_table.c.attempts.label("job_attempts"),
    ).select_from(
        scheduled_run.join(schedule, schedule.c.uid == scheduled_run.c.schedule).outerjoin(
            job_table, job_table.c.uid == scheduled_run.c.job
        )
    )  # fmt: skip


def _refusal(uow: UnitOfWork, row: Row[Any], spec: ScheduleSpec) -> str | None:
    """Why a run beyond the limit is not even to wait; backfills take nobody's turn."""
    if spec.beyond is Beyond.SKIP:
        others = active(uow, row.uid, backfills=False)
        if others >= spec.runs_max:
            return f"{others} of at most {spec.runs_max} runs were going on"
        return None
    run = scheduled_run.c
    waiting = select(func.count()).where(
        run.schedule == row.uid, run.status == RunStatus.WAITING.value, run.kind != Kind.BACKFILL.value
    )
    limit = uow.settings.schedule_waiting_max
    if uow.conn.execute(waiting).scalar_one() >= limit:
        return f"{limit} runs were waiting for their turn already"
    return None


def _not_run(
    uow: UnitOfWork, row: Row[Any], values: dict[str, Any], *, status: RunStatus, error: str
) -> RunStatus:  # fmt: skip
    values |= {"status": status.value, "error": error, "ended_at": uow.clock.now()}
    uow.conn.execute(scheduled_run.insert().values(**values))
    if status is RunStatus.FAILED:
        trouble(uow, row.uid, failed_slot=values["slot"])
    record(uow, row, "schedule.skip" if status is RunStatus.SKIPPED else "schedule.end", values, error=error)
    return status
