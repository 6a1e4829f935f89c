"""Runs that people and programs ask for: now, over a range of slots, and by a webhook."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

import msgspec
from sqlalchemy import select

from everline.access.declare import act
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.clock import as_utc, parse_rfc3339, rfc3339
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, TooLargeError
from everline.ids import digest_bytes, new_uid
from everline.pipelines.schedules import runs, templates, times
from everline.pipelines.schedules.firing import slot_key, slot_reason
from everline.pipelines.schedules.secrets import identifier, knows, secret_of
from everline.pipelines.schedules.service import require_row
from everline.pipelines.schedules.tables import scheduled_run
from everline.pipelines.schedules.types import TIMED, Backfill, Kind, RunStatus, ScheduledRun

BODY_BYTES_MAX = 64 * 1024
_FILLED = (RunStatus.MISSED.value, RunStatus.SKIPPED.value)
"""Slots that nothing was run of: a backfill may."""


@act
def run_now(
    uow: UnitOfWork,
    project: str,
    name: str,
    *,
    params: Mapping[str, Any] | None = None,
    reason: str = "",
    key: str | None = None,
) -> ScheduledRun:
    """Ask for a run at once, of a paused schedule too; the limit of runs at once holds for it as well.

    Args:
        params: instead of the schedule's own, by name; they may hold facts as well.
        key: the same key again gives the run that it gave before.

    Raises:
        NotFoundError: the project has none of that name.
        InvalidInputError: a parameter names a fact that only an event brings.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    row, now = require_row(uow, project, name, lock=True), uow.clock.now()
    given = dict(params or {})
    templates.check(given, {"slot": now})
    run_key = f"manual:{new_uid() if key is None else digest_bytes(key.encode())}"
    why = reason or f"asked for by {uow.actor.name}"
    asked = runs.ask(uow, row, kind=Kind.MANUAL, slot=now, key=run_key, reason=why, params=given)
    if asked is None:
        uow.unchanged()
    return _by_key(uow, row.uid, run_key)


@act
def backfill(
    uow: UnitOfWork, project: str, name: str, *, start: str, end: str, failed: bool = False
) -> Backfill:  # fmt: skip
    """Run each slot of a range that has no run yet: once, however often this is asked.

    Args:
        start, end: times or dates, both within the range; without an offset on the schedule's own clocks. A date as
            `end` is the whole day. Slots that have not come are left to come.
        failed: also run again the slots whose last run failed.

    Raises:
        NotFoundError: the project has none of that name.
        ConflictError: its trigger has no slots.
        InvalidInputError: a time cannot be read, the range is empty or has more slots than one call may ask for.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    row = require_row(uow, project, name, lock=True)
    spec, limit = runs.spec_of(row), uow.settings.backfill_slots_max
    if not isinstance(spec.trigger, TIMED):
        raise ConflictError(
            f"The schedule {name!r} has no slots: it is set going by {row.kind.replace('_', ' ')}.",
            hint=f"`everline schedules run {name}` runs it once.",
            field="trigger",
        )
    zone = times.zone_name(spec.trigger)
    first = _moment(start, zone, field="start", last=False)
    last = min(_moment(end, zone, field="end", last=True), uow.clock.now())
    slots = times.slots_between(spec.trigger, start=first, end=last, limit=limit + 1) if first <= last else []
    if not slots:
        raise InvalidInputError(
            f"Schedule {name!r} has no slot that has come between {start} and {end}.",
            hint="Name a range in the past that holds a slot; `everline schedules show` lists some.",
            field="start",
        )
    if len(slots) > limit:
        raise InvalidInputError(
            f"From {start} to {end} there are more than {limit:,} slots.",
            hint="Ask for parts of the range, one after the other; EVERLINE_BACKFILL_SLOTS_MAX is the limit.",
            field="end",
        )
    known, made = _last_attempts(uow, row.uid, slots[0], slots[-1]), 0
    for slot in slots:
        attempt, status = known.get(slot, (0, None))
        if status is not None and status not in _FILLED and not (failed and status == RunStatus.FAILED.value):
            continue
        key = slot_key(slot) + (f"#{attempt + 1}" if attempt else "")
        reason = f"backfill, {slot_reason(spec, slot)}"
        asked = runs.ask(
            uow, row, kind=Kind.BACKFILL, slot=slot, key=key, reason=reason, wait=True, attempt=attempt + 1
        )
        made += asked is not None
    if made:
        uow.record(
            "schedule.backfill", subject=f"schedule:{row.uid}", project=project, name=name, slots=len(slots),
            made=made, first=rfc3339(slots[0]), last=rfc3339(slots[-1]), failed=failed,
        )  # fmt: skip
    else:
        uow.unchanged()
    return Backfill(
        schedule=name, slots=len(slots), made=made, already=len(slots) - made, first=slots[0], last=slots[-1]
    )


@act
def receive(uow: UnitOfWork, uid: str, *, headers: Mapping[str, str], body: bytes) -> ScheduledRun:
    """Set a schedule going for a program that knows its secret; a delivery that is sent again gives the same run.

    Args:
        uid: the schedule's.
        headers: by names in lower case.
        body: JSON or nothing; parameters may name what is in it.

    Raises:
        ForbiddenError: no such schedule, or the secret is not known; neither is told apart.
        ConflictError: it is paused.
        InvalidInputError: the body is not JSON, or lacks what a parameter names.
        TooLargeError: the body is larger than 64 KiB.
    """
    row = runs.lock(uow, uid) if len(uid) == 36 and uid.isascii() else None
    known = row is not None and not row.retired and row.kind == "webhook" and row.secret_number > 0
    if row is None or not known or not knows(
        secret_of(uow.settings, row.uid, number=row.secret_number), headers, body, now=uow.clock.now()
    ):  # fmt: skip
        uow.checks += 1
        raise ForbiddenError(
            "This address is not for you: there is no such webhook, or its secret was not shown.",
            hint="Send the secret as a Bearer token, or sign with it; `everline schedules secret NAME` gives one.",
        )
    uow.require(Permission.PIPELINE_WRITE, row.project)
    if not row.enabled:
        raise ConflictError(
            f"The schedule {row.name!r} is paused.", hint=f"`everline schedules resume {row.name}`.", field="schedule"
        )
    if len(body) > BODY_BYTES_MAX:
        raise TooLargeError(f"The body has {len(body)} bytes; {BODY_BYTES_MAX} are allowed.")
    given = identifier(headers)
    key = f"webhook:{given or new_uid()}"
    asked = runs.ask(
        uow, row, kind=Kind.WEBHOOK, slot=uow.clock.now(), key=key, reason="webhook", facts={"body": _json(body)}
    )
    if asked is None:
        uow.unchanged()
    return _by_key(uow, row.uid, key)


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body) if body.strip() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"The body is not JSON: {error}.", hint="Send application/json, or nothing.") from None


def _moment(text: str, zone: str, *, field: str, last: bool) -> datetime:
    """A time in UTC; without an offset on the clocks of a zone; a date is its first or its last moment."""
    clock = times.zone_of(zone)
    try:
        day = date.fromisoformat(text)
        if last:
            moment = datetime.combine(day + timedelta(days=1), time(), tzinfo=clock)
            return as_utc(moment) - timedelta(microseconds=1)
        return as_utc(datetime.combine(day, time(), tzinfo=clock))
    except OverflowError:
        raise InvalidInputError(f"{field} {text[:80]!r} lies outside the calendar.", field=field) from None
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return parse_rfc3339(text, field=field)  # says what is wrong
    return as_utc(found.replace(tzinfo=clock) if found.tzinfo is None else found)


def _last_attempts(
    uow: UnitOfWork, uid: str, first: datetime, last: datetime
) -> dict[datetime, tuple[int, str]]:  # fmt: skip
    run = scheduled_run.c
    query = (
        select(run.slot, run.attempt, run.status)
        .where(run.schedule == uid, run.slot >= first, run.slot <= last)
        .where(run.kind.in_((Kind.SLOT.value, Kind.BACKFILL.value)))
        .order_by(run.attempt)
    )
    return {row.slot: (row.attempt, row.status) for row in uow.conn.execute(query)}


def _by_key(uow: UnitOfWork, uid: str, key: str) -> ScheduledRun:
    run = scheduled_run.c
    return runs.run_of(uow.conn.execute(runs.runs_query().where(run.schedule == uid, run.key == key)).one())
