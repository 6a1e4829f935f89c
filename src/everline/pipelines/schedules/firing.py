"""What the control plane does on its clock: makes runs of slots that have come and of events that happened.

Rules that hold here:
1. A run, and how far the clock or the audit log was read for it, are one transaction: whoever dies, each slot and
   each event is made once.
2. Replicas step aside for each other: a row that somebody holds is left for the next look.
3. Nothing here depends on how often or when it is called; late is late by the slot's own time.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, bindparam, exists, func, or_, select, update

from everline.access.unit_of_work import UnitOfWork
from everline.clock import parse_rfc3339, rfc3339
from everline.errors import NotFoundError
from everline.governance import audit
from everline.governance.tables import audit_event, audit_head
from everline.governance.types import AuditEvent
from everline.jobs.tables import job as job_table
from everline.pipelines.schedules import events, outcomes, runs, times
from everline.pipelines.schedules.tables import audit_cursor, schedule, scheduled_run
from everline.pipelines.schedules.types import TIMED, CatchUp, Cron, Interval, Kind, RunStatus, ScheduleSpec
from everline.runs import service as run_service
from everline.runs.tables import run as run_table
from everline.storage.db import upsert
from everline.storage.schema import UtcTime

_SCHEDULES_AT_ONCE = 100
_EVENTS_AT_ONCE = 500
_MISSED_KEPT = 100
_CURSOR_ID = 1
REASON_TAG = "everline.reason"
"""The tag in which a run keeps why it was started."""
EVENT_KINDS = ("dataset", "incident", "release")
_LISTENING = (schedule.c.retired == "", schedule.c.enabled.is_(True), schedule.c.kind.in_(EVENT_KINDS))


_RUN = scheduled_run.c
_DUE = select(
    or_(
        exists().where(schedule.c.retired == "", schedule.c.next_at <= bindparam("now", type_=UtcTime)),
        exists().where(_RUN.status == RunStatus.WAITING.value),
        exists().where(
            _RUN.status == RunStatus.QUEUED.value,
            _RUN.job == job_table.c.uid,
            job_table.c.status.in_(("done", "failed")),
        ),
        exists().where(
            _RUN.status == RunStatus.ASKING.value,
            _RUN.run == run_table.c.uid,
            run_table.c.status.in_(outcomes.RUN_ENDED),
        ),
        exists().where(
            _RUN.status == RunStatus.QUEUED.value,
            _RUN.late.is_(False),
            _RUN.deadline < bindparam("now", type_=UtcTime),
            _RUN.job == job_table.c.uid,
            job_table.c.status == "queued",
            job_table.c.attempts == 0,
        ),
        and_(
            exists().where(*_LISTENING),
            select(func.coalesce(func.max(audit_head.c.size), 0)).scalar_subquery()
            > select(func.coalesce(func.max(audit_cursor.c.position), 0)).scalar_subquery(),
        ),
    )
)  # fmt: skip


def is_due(uow: UnitOfWork) -> bool:
    """Whether `tick` may find anything to do: a look that takes no lock, in one statement."""
    return bool(uow.conn.execute(_DUE, {"now": uow.clock.now()}).scalar())


def tick(uow: UnitOfWork) -> None:
    """Do what there is to do; the worker calls it as the server itself."""
    outcomes.settle(uow)
    make_slots(uow)
    follow_events(uow)
    let_through(uow)
    outcomes.note_late(uow)


def make_slots(uow: UnitOfWork) -> int:
    """Ask for a run of each slot that has come, and of those that passed unseen as each schedule says."""
    now, column, made = uow.clock.now(), schedule.c, 0
    query = (
        select(schedule)
        .where(column.retired == "", column.next_at <= now)
        .order_by(column.next_at)
        .limit(_SCHEDULES_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    for row in uow.conn.execute(query).all():
        spec = runs.spec_of(row)
        if isinstance(spec.trigger, TIMED):
            made += _make(uow, row, spec, spec.trigger, now=now)
    return made


def slot_key(slot: datetime) -> str:
    """The key of a slot's run, whoever asks for it."""
    return f"slot:{rfc3339(slot)}"


def slot_reason(spec: ScheduleSpec, slot: datetime) -> str:
    """A slot in words, on the schedule's own clocks."""
    zone = times.zone_name(spec.trigger)
    return f"slot {slot.astimezone(times.zone_of(zone)):%Y-%m-%d %H:%M:%S} {zone}"


def _make(uow: UnitOfWork, row: Row[Any], spec: ScheduleSpec, clock: Cron | Interval, *, now: datetime) -> int:
    wanted = {CatchUp.NONE: 1, CatchUp.LAST: 1, CatchUp.ALL: spec.catch_up_max}[spec.catch_up]
    slots, more = times.newest_slots(clock, start=row.next_at, end=now, count=wanted + _MISSED_KEPT)
    kept = slots[-wanted:]
    if spec.catch_up is CatchUp.NONE:
        kept = [slot for slot in kept if slot + timedelta(seconds=spec.start_within_s) >= now]
    dropped = slots[: len(slots) - len(kept)]
    if dropped:
        _drop(uow, row, spec, dropped, more=more)
    for slot in kept:
        # Several at once were missed together: they wait for their turn, whatever becomes of a run beyond the limit.
        runs.ask(
            uow, row, kind=Kind.SLOT, slot=slot, key=slot_key(slot), reason=slot_reason(spec, slot),
            wait=len(kept) > 1,
        )  # fmt: skip
    following = times.next_slot(clock, now)
    uow.conn.execute(update(schedule).where(schedule.c.uid == row.uid).values(next_at=following))
    return len(kept)


def _drop(uow: UnitOfWork, row: Row[Any], spec: ScheduleSpec, slots: list[datetime], *, more: bool) -> None:
    reason = f"no control plane was up in time, and catch-up is {spec.catch_up.value}"
    for slot in slots:
        runs.note_missed(uow, row, slot=slot, key=slot_key(slot), reason=reason)
    runs.trouble(uow, row.uid, missed_slot=slots[-1])
    uow.record(
        "schedule.miss", subject=f"schedule:{row.uid}", project=row.project, name=row.name, slots=len(slots),
        first=rfc3339(row.next_at if more else slots[0]), last=rfc3339(slots[-1]), and_more=more, reason=reason,
    )  # fmt: skip


def follow_events(uow: UnitOfWork) -> int:
    """Ask for a run of each event since the last look that a schedule waits for."""
    # The head first: a schedule that is seen after it has missed nothing before it.
    head = audit.read_head(uow).size
    if _position(uow) >= head:
        return 0
    since = uow.conn.execute(select(func.min(schedule.c.since_position)).where(*_LISTENING)).scalar()
    if since is None or not _hold_cursor(uow):
        return 0
    start = max(_position(uow), since)
    found = _events(uow, start=start, end=head)
    made = _answer_all(uow, found) if found else 0
    reached = found[-1].index + 1 if len(found) == _EVENTS_AT_ONCE else max(start, head)
    uow.conn.execute(update(audit_cursor).where(audit_cursor.c.id == _CURSOR_ID).values(position=reached))
    return made


def _answer_all(uow: UnitOfWork, found: list[AuditEvent]) -> int:
    query = select(schedule).where(*_LISTENING).order_by(schedule.c.uid)
    listeners = [(row, runs.spec_of(row)) for row in uow.conn.execute(query).all()]
    made = 0
    for event in found:
        for row, spec in listeners:
            if row.project == event.project and event.index >= row.since_position:
                made += events.matches(spec.trigger, event) and _answer(uow, row, spec, event)
    return made


def let_through(uow: UnitOfWork) -> int:
    """Make jobs of what waits, wherever a place has become free."""
    run, made = scheduled_run.c, 0
    waiting = select(run.schedule).where(run.status == RunStatus.WAITING.value).distinct()
    for uid in uow.conn.execute(waiting).scalars().all():
        row = runs.lock(uow, uid, wait=False)
        if row is not None:
            made += runs.let_through(uow, row)
    return made


def _position(uow: UnitOfWork) -> int:
    """Up to where the audit log was read."""
    found = uow.conn.execute(select(audit_cursor.c.position).where(audit_cursor.c.id == _CURSOR_ID)).scalar()
    return int(found or 0)


def _hold_cursor(uow: UnitOfWork) -> bool:
    """Take the turn to read on, until the transaction ends; False if another replica has it."""
    upsert(uow.conn, audit_cursor, [{"id": _CURSOR_ID, "position": 0}], keys=["id"])
    mine = select(audit_cursor.c.id).where(audit_cursor.c.id == _CURSOR_ID).with_for_update(skip_locked=True)
    return uow.conn.execute(mine).first() is not None


def _events(uow: UnitOfWork, *, start: int, end: int) -> list[AuditEvent]:
    column = audit_event.c
    query = (
        select(column.position, column.leaf)
        .where(column.position >= start, column.position < end, column.action.in_(sorted(events.ACTION.values())))
        .order_by(column.position)
        .limit(_EVENTS_AT_ONCE)
    )
    return [audit.parse_event(row.position, row.leaf) for row in uow.conn.execute(query)]


def _answer(uow: UnitOfWork, row: Row[Any], spec: ScheduleSpec, event: AuditEvent) -> int:
    held = runs.lock(uow, row.uid)
    if held is None or held.retired or not held.enabled:
        return 0
    facts = events.facts(spec.trigger, event)
    at, key, why = parse_rfc3339(event.at), f"event:{event.index}", events.sentence(spec.trigger, facts)
    if _is_own(uow, row, event):
        uow.record(
            "schedule.skip", subject=f"schedule:{row.uid}", project=row.project, name=row.name, event=event.index,
            reason=f"{why} came of a run of this schedule itself: it would start itself for ever",
        )  # fmt: skip
        return 0
    asked = runs.ask(uow, held, kind=Kind.EVENT, slot=at, key=key, reason=why, facts=facts | {"event": event.index})
    return int(asked is not None)


def _is_own(uow: UnitOfWork, row: Row[Any], event: AuditEvent) -> bool:
    """Whether an event comes of a run that this schedule itself has started: answered, it would never end."""
    made_by = event.data.get("run")
    if not made_by:
        return False
    try:
        reason = run_service.get_run(uow, row.project, made_by).tags.get(REASON_TAG, "")
    except NotFoundError:
        return False
    return reason.startswith(f"schedule {row.name}: ")
