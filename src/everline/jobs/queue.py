"""Durable jobs in the database: enqueued in the transaction of their cause, leased, retried with back-off.

A job runs at least once and, as long as its worker renews its lease, at most once at a time. A worker that
dies loses the lease; the next one takes the job over. A `key` makes enqueueing idempotent.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, or_, select, update

from everline.access.declare import read, stream
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import NotFoundError, StaleError
from everline.ids import new_uid
from everline.jobs import tables
from everline.jobs.types import Job
from everline.storage.db import upsert

_COLUMNS = [column for column in tables.job.c if column.name != "key"]


def enqueue(
    uow: UnitOfWork,
    kind: str,
    payload: dict[str, Any],
    *,
    project: str,
    queue: str = "server",
    due_at: datetime | None = None,
    key: str | None = None,
) -> str | None:
    """Leave work to be done after this transaction commits; the caller has asked for its own permission.

    Args:
        key: at most one job with this key is ever enqueued.

    Returns:
        The job's uid, or None if its key was there already.
    """
    uid, now = new_uid(), uow.clock.now()
    row = {
        "uid": uid, "project": project, "queue": queue, "kind": kind, "key": key, "payload": payload,
        "status": "queued", "attempts": 0, "created_at": now, "due_at": due_at or now,
    }  # fmt: skip
    if key is None:
        uow.conn.execute(tables.job.insert().values(**row))
        return uid
    return uid if upsert(uow.conn, tables.job, [row], keys=["key"]) > 0 else None


@stream
def claim(uow: UnitOfWork, *, queue: str, worker: str, project: str) -> Job | None:
    """Lease the oldest due job of a queue, or one whose worker has fallen silent; None if there is none."""
    uow.require(Permission.JOB_WRITE, project)
    return take(uow, queue=queue, worker=worker, project=project)


def take(uow: UnitOfWork, *, queue: str, worker: str, project: str | None = None) -> Job | None:
    """`claim` without a permission, for the control plane's own worker; `project` None means any."""
    now, job = uow.clock.now(), tables.job.c
    query = select(*_COLUMNS).where(job.queue == queue, _free(now)).order_by(job.due_at, job.uid).limit(1)
    if project is not None:
        query = query.where(job.project == project)
    row = uow.conn.execute(query.with_for_update(skip_locked=True)).first()
    if row is None:
        return None
    lease_until = now + timedelta(seconds=uow.settings.job_lease_s)
    changes = {"status": "running", "lease": worker, "lease_until": lease_until, "attempts": row.attempts + 1}
    uow.conn.execute(update(tables.job).where(job.uid == row.uid).values(**changes))
    return _job(row, **changes)


@stream
def renew(uow: UnitOfWork, uid: str, *, worker: str) -> Job:
    """Say that the worker is alive and at it."""
    row = _require_leased(uow, uid, worker)
    lease_until = uow.clock.now() + timedelta(seconds=uow.settings.job_lease_s)
    uow.conn.execute(update(tables.job).where(tables.job.c.uid == uid).values(lease_until=lease_until))
    return _job(row, lease_until=lease_until)


@stream
def complete(uow: UnitOfWork, uid: str, *, worker: str, result: dict[str, Any]) -> Job:
    """End a job well."""
    row = _require_leased(uow, uid, worker)
    return end(uow, _job(row), result=result)


def end(uow: UnitOfWork, job: Job, *, result: dict[str, Any]) -> Job:
    """`complete` without a permission, for the control plane's own worker."""
    changes = {"status": "done", "result": result, "ended_at": uow.clock.now(), "lease_until": None}
    uow.conn.execute(update(tables.job).where(tables.job.c.uid == job.uid).values(**changes))
    uow.record("job.done", subject=f"job:{job.uid}", project=job.project, kind=job.kind)
    return _changed(job, changes)


@stream
def fail(uow: UnitOfWork, uid: str, *, worker: str, error: str) -> Job:
    """Report a failed try: the job is due again after a growing pause, or failed for good after the last try."""
    row = _require_leased(uow, uid, worker)
    return retry(uow, _job(row), error=error)


def retry(uow: UnitOfWork, job: Job, *, error: str) -> Job:
    """`fail` without a permission, for the control plane's own worker."""
    last = job.attempts >= uow.settings.job_attempts_max
    changes: dict[str, Any] = {"error": error[:4000], "lease_until": None, "lease": None}
    if last:
        changes |= {"status": "failed", "ended_at": uow.clock.now()}
        uow.record("job.failed", subject=f"job:{job.uid}", project=job.project, kind=job.kind, error=error[:500])
    else:
        changes |= {"status": "queued", "due_at": uow.clock.now() + timedelta(seconds=2.0**job.attempts)}
    uow.conn.execute(update(tables.job).where(tables.job.c.uid == job.uid).values(**changes))
    return _changed(job, changes)


@read
def list_jobs(uow: UnitOfWork, *, project: str, queue: str | None = None, limit: int = 100) -> list[Job]:
    """The newest jobs of a project."""
    uow.require(Permission.JOB_READ, project)
    query = select(*_COLUMNS).where(tables.job.c.project == project).order_by(tables.job.c.uid.desc())
    if queue is not None:
        query = query.where(tables.job.c.queue == queue)
    return [_job(row) for row in uow.conn.execute(query.limit(min(limit, uow.settings.page_items_max)))]


def keyed(uow: UnitOfWork, prefix: str, *, limit: int) -> list[Job]:
    """The newest jobs whose key begins with `prefix`, which ends in a colon; asks for no permission."""
    key = tables.job.c.key
    query = select(*_COLUMNS).where(key >= prefix, key < prefix[:-1] + ";").order_by(tables.job.c.uid.desc())
    return [_job(row) for row in uow.conn.execute(query.limit(max(1, min(limit, uow.settings.page_items_max))))]


def is_due(uow: UnitOfWork, *, queue: str) -> bool:
    """Whether `take` would find a job: a look that takes no lock."""
    free = _free(uow.clock.now())
    return (
        uow.conn.execute(select(tables.job.c.uid).where(tables.job.c.queue == queue, free).limit(1)).first() is not None
    )


def abandon(uow: UnitOfWork, job: Job, *, error: str, result: dict[str, Any] | None = None) -> Job:
    """End a job badly at once: another try would end the same way."""
    changes = {
        "status": "failed", "error": error[:4000], "result": result, "ended_at": uow.clock.now(),
        "lease_until": None, "lease": None,
    }  # fmt: skip
    uow.conn.execute(update(tables.job).where(tables.job.c.uid == job.uid).values(**changes))
    uow.record("job.failed", subject=f"job:{job.uid}", project=job.project, kind=job.kind, error=error[:500])
    return _changed(job, changes)


def _free(now: datetime) -> ColumnElement[bool]:
    """What may be taken: due, or left by a worker that fell silent."""
    job = tables.job.c
    return or_(
        and_(job.status == "queued", job.due_at <= now),
        and_(job.status == "running", job.lease_until < now),
    )


def _require_leased(uow: UnitOfWork, uid: str, worker: str) -> Row[Any]:
    row = uow.conn.execute(select(*_COLUMNS).where(tables.job.c.uid == uid).with_for_update()).first()
    project = row.project if row is not None else "*"
    if row is None:
        uow.checks += 1
        raise NotFoundError(f"There is no job {uid!r}.", field="job")
    uow.require(Permission.JOB_WRITE, project)
    if row.status != "running" or row.lease != worker:
        raise StaleError(
            f"The job {uid} is no longer {worker}'s: it is {row.status}.",
            hint="Its lease ran out and another worker took it; drop this work.",
        )
    return row


def _job(row: Row[Any], **changes: Any) -> Job:
    return Job(**({name: getattr(row, name) for name in Job.__struct_fields__} | changes))


def _changed(job: Job, changes: dict[str, Any]) -> Job:
    known = {name: getattr(job, name) for name in Job.__struct_fields__}
    return Job(**(known | {name: value for name, value in changes.items() if name in known}))
