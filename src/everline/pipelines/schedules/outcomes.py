"""What became of scheduled runs: how they ended, which were late, and whether that is trouble.

Replicas step aside for each other, and a run is changed only as it was seen: each outcome is written down once.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, or_, select, update

from everline.access.unit_of_work import UnitOfWork
from everline.jobs.tables import job as job_table
from everline.pipelines.schedules import runs
from everline.pipelines.schedules.tables import schedule, scheduled_run
from everline.pipelines.schedules.types import Kind, RunStatus
from everline.runs.tables import run as run_table
from everline.runs.types import RunStatus as PipelineRunStatus

_AT_ONCE = 500
_ERROR_CHARACTERS_MAX = 2_000
RUN_ENDED = tuple(status.value for status in PipelineRunStatus if status.is_terminal)


def settle(uow: UnitOfWork) -> None:
    """Write down what became of runs whose jobs have ended, and of those that asked people."""
    _settle_jobs(uow)
    _settle_asking(uow)


def _settle_jobs(uow: UnitOfWork) -> None:
    run = scheduled_run.c
    query = (
        select(
            scheduled_run, schedule.c.project, schedule.c.name, job_table.c.status.label("job_status"),
            job_table.c.result, job_table.c.error.label("job_error"), job_table.c.ended_at.label("job_ended_at"),
        )
        .select_from(
            scheduled_run.join(job_table, job_table.c.uid == run.job).join(
                schedule, schedule.c.uid == run.schedule
            )
        )
        .where(run.status == RunStatus.QUEUED.value, job_table.c.status.in_(("done", "failed")))
        .order_by(run.uid)
        .limit(_AT_ONCE)
    )  # fmt: skip
    for one in uow.conn.execute(query).all():
        result = one.result or {}
        if one.job_status == "done" and result.get("status") == "waiting":
            _change(uow, one, {"status": RunStatus.ASKING.value, "run": result.get("run")})
            continue
        well = one.job_status == "done" and result.get("status") != "failed"
        error = None if well else str(result.get("error") or one.job_error or "")
        _end(uow, one, well=well, run=result.get("run"), error=error, at=one.job_ended_at)


def _settle_asking(uow: UnitOfWork) -> None:
    """The run itself says how it went on after the answer, whoever resumed it."""
    run = scheduled_run.c
    query = (
        select(scheduled_run, schedule.c.project, schedule.c.name, run_table.c.status.label("run_status"))
        .select_from(
            scheduled_run.join(run_table, run_table.c.uid == run.run).join(schedule, schedule.c.uid == run.schedule)
        )
        .where(run.status == RunStatus.ASKING.value, run_table.c.status.in_(RUN_ENDED))
        .order_by(run.uid)
        .limit(_AT_ONCE)
    )
    for one in uow.conn.execute(query).all():
        well = one.run_status == PipelineRunStatus.FINISHED.value
        error = None if well else f"the run ended as {one.run_status} after it had asked people"
        _end(uow, one, well=well, run=one.run, error=error, at=uow.clock.now())


def note_late(uow: UnitOfWork) -> None:
    """Mark what has not started when its time was over."""
    run = scheduled_run.c
    query = (
        select(scheduled_run, schedule.c.project, schedule.c.name)
        .select_from(
            scheduled_run.join(schedule, schedule.c.uid == run.schedule).outerjoin(
                job_table, job_table.c.uid == run.job
            )
        )
        .where(
            run.status.in_((RunStatus.WAITING.value, RunStatus.QUEUED.value)),
            run.late.is_(False),
            run.deadline < uow.clock.now(),
            or_(job_table.c.uid.is_(None), and_(job_table.c.status == "queued", job_table.c.attempts == 0)),
        )
        .order_by(run.slot)
        .limit(_AT_ONCE)
    )
    for one in uow.conn.execute(query).all():
        if not _change(uow, one, {"late": True}):
            continue
        runs.trouble(uow, one.schedule, missed_slot=one.slot)
        told = dict(one._mapping)
        runs.record(uow, told, "schedule.miss", told, reason="it had not started when its time was over")


def _change(uow: UnitOfWork, one: Row[Any], changes: dict[str, Any]) -> bool:
    """Change a run as it was seen; False if another replica holds its schedule, or has changed it since."""
    if runs.lock(uow, one.schedule, wait=False) is None:
        return False
    run = scheduled_run.c
    seen = update(scheduled_run).where(run.uid == one.uid, run.status == one.status, run.late.is_(one.late))
    return uow.conn.execute(seen.values(**changes)).rowcount == 1


def _end(uow: UnitOfWork, one: Row[Any], *, well: bool, run: str | None, error: str | None, at: datetime) -> None:
    changes = {
        "status": (RunStatus.SUCCEEDED if well else RunStatus.FAILED).value, "run": run,
        "error": error and error[:_ERROR_CHARACTERS_MAX], "ended_at": at,
    }  # fmt: skip
    if not _change(uow, one, changes):
        return
    told = {**one._mapping, **changes}
    runs.record(uow, told, "schedule.end", told, run=run, error=changes["error"])
    if well:
        _recovered(uow, one.schedule, one.slot)
    elif one.kind != Kind.BACKFILL.value:
        runs.trouble(uow, one.schedule, failed_slot=one.slot)


def _recovered(uow: UnitOfWork, uid: str, slot: datetime) -> None:
    """A run went well: trouble up to its slot is over."""
    for column in (schedule.c.missed_slot, schedule.c.failed_slot):
        over = update(schedule).where(schedule.c.uid == uid, column <= slot)
        uow.conn.execute(over.values({column.name: None}))
