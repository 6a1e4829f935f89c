"""Schedules: what sets a pipeline going, and when.

Rules that hold here:
1. A schedule that was saved can be carried out: its clock, its zone and its parameters are tried when it is saved.
2. Saving the same again changes nothing; a changed clock counts from the moment of the change, a changed event from
   the event after it.
3. A deleted schedule starts nothing more: what waited is skipped, what no worker had taken is taken back. Its history
   stays in the audit log, under `schedule:<uid>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Row, and_, func, insert, or_, select, type_coerce, update

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, InvalidInputError, NotFoundError
from everline.governance import audit
from everline.ids import check_name, new_uid
from everline.jobs.tables import job as job_table
from everline.pipelines.schedules import events, runs, templates, times
from everline.pipelines.schedules.secrets import secret_of
from everline.pipelines.schedules.tables import schedule, scheduled_run
from everline.pipelines.schedules.types import (
    TIMED,
    CalendarDay,
    IncidentOpened,
    NewVersion,
    Promoted,
    RunStatus,
    Schedule,
    ScheduleDetail,
    ScheduledRun,
    ScheduleSpec,
    Trouble,
    WebhookCall,
    WebhookSecret,
)
from everline.runs.limits import check_length
from everline.storage.schema import microseconds

COMING_MAX = 100
_DAY_US = 86_400_000_000
_RUNS_AT_ONCE_MAX = 100
_CATCH_UP_MAX = 1_000
_START_WITHIN_S = (10, 30 * 86_400)
_TEXT_CHARACTERS_MAX = 1_000
_IN_TROUBLE = and_(
    schedule.c.retired == "", or_(schedule.c.missed_slot.is_not(None), schedule.c.failed_slot.is_not(None))
)
_SPEC = ScheduleSpec.__struct_fields__


@act
def put_schedule(uow: UnitOfWork, project: str, spec: ScheduleSpec) -> Schedule:
    """Create the schedule of that name, or make it as said; the same again is no change.

    Raises:
        InvalidInputError: something of it could not be carried out; the error names the field.
        ConflictError: the project has as many schedules as one may have.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    check(spec, now=uow.clock.now())
    row = _find(uow, project, spec.name, lock=True)
    if row is None:
        return _create(uow, project, spec)
    before, wanted = msgspec.to_builtins(runs.spec_of(row)), msgspec.to_builtins(spec)
    changed = sorted(name for name in wanted if before.get(name) != wanted[name])
    if not changed:
        uow.unchanged()
        return _schedule(row)
    changes: dict[str, Any] = {
        "spec": wanted, "kind": _kind(spec), "enabled": spec.enabled, "updated_at": uow.clock.now(),
    }  # fmt: skip
    if {"trigger", "enabled"} & set(changed):
        changes |= _from_now(uow, spec)
    uow.conn.execute(update(schedule).where(schedule.c.uid == row.uid).values(**changes))
    uow.record(
        "schedule.change", subject=f"schedule:{row.uid}", project=project, name=spec.name,
        before={name: before.get(name) for name in changed}, after={name: wanted[name] for name in changed},
    )  # fmt: skip
    return get_schedule(uow, project, spec.name)


@act
def create_schedule(uow: UnitOfWork, project: str, spec: ScheduleSpec) -> Schedule:
    """Create a schedule.

    Raises:
        ConflictError: the project has one of that name, or as many as it may have.
        InvalidInputError: something of it could not be carried out; the error names the field.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    if _find(uow, project, spec.name) is not None:
        raise ConflictError(
            f"The schedule {spec.name!r} exists already.", hint="`everline schedules show` shows it.", field="name"
        )
    return put_schedule(uow, project, spec)


@act
def change_schedule(uow: UnitOfWork, project: str, name: str, changes: Mapping[str, Any]) -> Schedule:
    """Change what is given and leave the rest as it is.

    Args:
        changes: fields of `ScheduleSpec`, but its name, as values.

    Raises:
        NotFoundError: the project has none of that name.
        InvalidInputError: something of it could not be carried out; the error names the field.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    row = require_row(uow, project, name, lock=True)
    return put_schedule(uow, project, msgspec.structs.replace(runs.spec_of(row), **changes))


@act
def set_enabled(uow: UnitOfWork, project: str, name: str, *, enabled: bool) -> Schedule:
    """Pause a schedule, or let it go on from now: what passes while it is paused is not run afterwards.

    Raises:
        NotFoundError: the project has none of that name.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    row = require_row(uow, project, name, lock=True)
    if row.enabled == enabled:
        uow.unchanged()
        return _schedule(row)
    spec = msgspec.structs.replace(runs.spec_of(row), enabled=enabled)
    changes = {"spec": msgspec.to_builtins(spec), "enabled": enabled, "updated_at": uow.clock.now()}
    uow.conn.execute(update(schedule).where(schedule.c.uid == row.uid).values(**changes, **_from_now(uow, spec)))
    verb = "schedule.resume" if enabled else "schedule.pause"
    uow.record(verb, subject=f"schedule:{row.uid}", project=project, name=name)
    return get_schedule(uow, project, name)


@act
def delete_schedule(uow: UnitOfWork, project: str, name: str, *, reason: str = "") -> None:
    """Start nothing more by this schedule; runs that workers have taken go on.

    Raises:
        NotFoundError: the project has none of that name.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    row = require_row(uow, project, name, lock=True)
    dropped = _take_back(uow, row)
    uow.conn.execute(
        update(schedule)
        .where(schedule.c.uid == row.uid)
        .values(retired=row.uid, next_at=None, updated_at=uow.clock.now())
    )
    uow.record(
        "schedule.delete", subject=f"schedule:{row.uid}", project=project, name=name, spec=row.spec,
        dropped=dropped, reason=check_length(reason, limit=_TEXT_CHARACTERS_MAX, field="reason"),
    )  # fmt: skip


@read
def list_schedules(uow: UnitOfWork, project: str, *, limit: int = 1_000, after: str = "") -> list[Schedule]:
    """The project's schedules by name.

    Args:
        after: a name; only those after it. The last of a page fetches the next page.
    """
    uow.require(Permission.PIPELINE_READ, project)
    column = schedule.c
    query = (
        select(schedule)
        .where(column.project == project, column.retired == "", column.name > after)
        .order_by(column.name)
        .limit(max(1, min(limit, uow.settings.page_items_max)))
    )
    return [_schedule(row) for row in uow.conn.execute(query)]


@read
def get_schedule(uow: UnitOfWork, project: str, name: str) -> Schedule:
    """One schedule as it stands.

    Raises:
        NotFoundError: the project has none of that name.
    """
    uow.require(Permission.PIPELINE_READ, project)
    return _schedule(require_row(uow, project, name))


@read
def show_schedule(
    uow: UnitOfWork, project: str, name: str, *, coming: int = 5, limit: int = 20
) -> ScheduleDetail:  # fmt: skip
    """A schedule with its coming slots and its newest runs."""
    uow.require(Permission.PIPELINE_READ, project)
    row = require_row(uow, project, name)
    return ScheduleDetail(
        schedule=_schedule(row),
        coming=_coming(row, count=max(0, min(coming, COMING_MAX))),
        runs=list_runs(uow, project, name, limit=limit),
    )


@read
def list_runs(
    uow: UnitOfWork, project: str, name: str, *, limit: int = 100, before: str | None = None
) -> list[ScheduledRun]:
    """What a schedule asked for, the newest first.

    Args:
        before: a scheduled run; only older ones. The last of a page fetches the next page.
    """
    uow.require(Permission.PIPELINE_READ, project)
    row, run = require_row(uow, project, name), scheduled_run.c
    query = runs.runs_query().where(run.schedule == row.uid)
    if before is not None:
        query = query.where(run.uid < before)
    limit = max(1, min(limit, uow.settings.page_items_max))
    return [runs.run_of(one) for one in uow.conn.execute(query.order_by(run.uid.desc()).limit(limit))]


@read
def calendar(
    uow: UnitOfWork, project: str, *, start: date, days: int, name: str | None = None, limit: int = 200
) -> dict[str, list[CalendarDay]]:
    """What became of slots, events and requests day by day, in UTC, by schedule; coming slots are marked.

    Args:
        days: from `start` on, 1 to 400.
        name: of this schedule only.
        limit: most schedules, the first by name.

    Raises:
        NotFoundError: the project has no schedule of that name.
    """
    uow.require(Permission.PIPELINE_READ, project)
    column, run, days = schedule.c, scheduled_run.c, max(1, min(days, 400))
    wanted = select(schedule).where(column.project == project, column.retired == "")
    if name is not None:
        wanted = wanted.where(column.uid == require_row(uow, project, name).uid)
    rows = uow.conn.execute(wanted.order_by(column.name).limit(max(1, min(limit, uow.settings.page_items_max)))).all()
    first = datetime.combine(start, time(), tzinfo=UTC)
    day = type_coerce(run.slot, BigInteger) // _DAY_US
    query = (
        select(run.schedule, day.label("day"), run.status, func.count().label("runs"))
        .where(run.schedule.in_([row.uid for row in rows]))
        .where(run.slot >= first, run.slot < first + timedelta(days=days))
        .group_by(run.schedule, day, run.status)
    )
    counts: dict[tuple[str, int], dict[str, int]] = {}
    for one in uow.conn.execute(query):
        counts.setdefault((one.schedule, one.day), {})[one.status] = one.runs
    zero = microseconds(first) // _DAY_US
    return {
        row.name: [
            CalendarDay(
                day=start + timedelta(days=number), counts=counts.get((row.uid, zero + number), {}),
                coming=_comes(row, first + timedelta(days=number)),
            )
            for number in range(days)
        ]
        for row in rows
    }  # fmt: skip


@act
def give_secret(uow: UnitOfWork, project: str, name: str) -> WebhookSecret:
    """Give out a new secret for a schedule's address; the one before is worthless from now on.

    Raises:
        NotFoundError: the project has none of that name.
        ConflictError: it is not set going by a webhook.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    row = require_row(uow, project, name, lock=True)
    if row.kind != "webhook":
        raise ConflictError(
            f"The schedule {name!r} is not set going by a webhook but by {row.kind.replace('_', ' ')}.",
            hint='Save it with the trigger {"kind": "webhook"}.',
            field="trigger",
        )
    number = row.secret_number + 1
    uow.conn.execute(update(schedule).where(schedule.c.uid == row.uid).values(secret_number=number))
    uow.record("schedule.give_secret", subject=f"schedule:{row.uid}", project=project, name=name, number=number)
    return WebhookSecret(path=f"/api/v1/hooks/{row.uid}", secret=secret_of(uow.settings, row.uid, number=number))


def any_trouble(uow: UnitOfWork) -> bool:
    """Whether `troubles` would find any."""
    return uow.conn.execute(select(schedule.c.uid).where(_IN_TROUBLE).limit(1)).first() is not None


def troubles(uow: UnitOfWork) -> list[Trouble]:
    """What is wrong with schedules now, of all projects; monitoring asks this, as the server itself."""
    found = []
    for row in uow.conn.execute(select(schedule).where(_IN_TROUBLE).order_by(schedule.c.uid)).all():
        for cause, slot in (("missed", row.missed_slot), ("failed", row.failed_slot)):
            if slot is not None:
                said = "had not started when its time was over" if cause == "missed" else "failed"
                sentence = f"Schedule {row.name} {cause}: its run of {slot:%Y-%m-%d %H:%M} UTC {said}."
                found.append(
                    Trouble(
                        project=row.project, schedule=row.uid, name=row.name, cause=cause, slot=slot,
                        sentence=sentence,
                    )
                )  # fmt: skip
    return found


def check(spec: ScheduleSpec, *, now: datetime) -> None:
    """Refuse a schedule that could not be carried out.

    Raises:
        InvalidInputError: the error names the field.
    """
    check_name(spec.name, field="name")
    if spec.pipeline.count(":") != 1 or not all(spec.pipeline.split(":")):
        raise InvalidInputError(
            f"{spec.pipeline[:80]!r} is not a pipeline.",
            hint="Write `module:pipeline`, like flight_delay:flight_delay.",
            field="pipeline",
        )
    for field, text in (("pipeline", spec.pipeline), ("directory", spec.directory), ("description", spec.description)):
        check_length(text or "", limit=_TEXT_CHARACTERS_MAX, field=field)
    _check_number("runs_max", spec.runs_max, 1, _RUNS_AT_ONCE_MAX)
    _check_number("catch_up_max", spec.catch_up_max, 1, _CATCH_UP_MAX)
    _check_number("start_within_s", spec.start_within_s, *_START_WITHIN_S)
    trigger = spec.trigger
    if isinstance(trigger, TIMED):
        times.check_clock(trigger)
    elif isinstance(trigger, NewVersion):
        check_name(trigger.dataset, field="trigger.dataset")
    elif isinstance(trigger, (IncidentOpened, Promoted)):
        for field in ("endpoint", "model", "monitor"):
            check_length(getattr(trigger, field, None) or "", limit=256, field=f"trigger.{field}")
    templates.check(spec.params, {"slot": now} | events.examples(trigger), body=isinstance(trigger, WebhookCall))


def _check_number(field: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidInputError(f"{field} is {value}; it may be {least} to {most:,}.", field=field)


def _create(uow: UnitOfWork, project: str, spec: ScheduleSpec) -> Schedule:
    column = schedule.c
    many = uow.settings.schedules_max
    kept = select(column.uid).where(column.project == project, column.retired == "").limit(many)
    if len(uow.conn.execute(kept).all()) >= many:
        raise ConflictError(f"The project has {many} schedules already.", hint="Delete one first.")
    now = uow.clock.now()
    values = {
        "uid": new_uid(), "project": project, "name": spec.name, "spec": msgspec.to_builtins(spec),
        "kind": _kind(spec), "enabled": spec.enabled, "secret_number": 0, "missed_slot": None, "failed_slot": None,
        "created_at": now, "created_by": uow.actor.name, "updated_at": now, "retired": "", **_from_now(uow, spec),
    }  # fmt: skip
    uow.conn.execute(insert(schedule).values(**values))
    uow.record(
        "schedule.create", subject=f"schedule:{values['uid']}", project=project, name=spec.name, spec=values["spec"]
    )
    return get_schedule(uow, project, spec.name)


def _from_now(uow: UnitOfWork, spec: ScheduleSpec) -> dict[str, Any]:
    """Where a schedule begins to count: at the next slot, and at the next event."""
    clock = spec.trigger if isinstance(spec.trigger, TIMED) and spec.enabled else None
    return {
        "next_at": None if clock is None else times.next_slot(clock, uow.clock.now()),
        "since_position": audit.read_head(uow).size,
    }


def _take_back(uow: UnitOfWork, row: Row[Any]) -> int:
    """Skip what waits, and what no worker has taken."""
    run, job = scheduled_run.c, job_table.c
    pending = (
        select(scheduled_run)
        .where(run.schedule == row.uid, run.status.in_((RunStatus.WAITING.value, RunStatus.QUEUED.value)))
        .order_by(run.uid)
    )
    dropped, error = 0, "the schedule was deleted before it started"
    for one in uow.conn.execute(pending).all():
        if one.job is not None:
            untouched = update(job_table).where(job.uid == one.job, job.status == "queued", job.attempts == 0)
            ended = {"status": "failed", "error": error, "ended_at": uow.clock.now()}
            if uow.conn.execute(untouched.values(**ended)).rowcount != 1:
                continue
        changes = {"status": RunStatus.SKIPPED.value, "error": error, "ended_at": uow.clock.now()}
        uow.conn.execute(update(scheduled_run).where(run.uid == one.uid).values(**changes))
        dropped += 1
    return dropped


def _coming(row: Row[Any], *, count: int) -> list[datetime]:
    clock = runs.spec_of(row).trigger
    if not isinstance(clock, TIMED) or row.next_at is None:
        return []
    return list(islice(times.slots_after(clock, row.next_at - timedelta(microseconds=1)), count))


def _comes(row: Row[Any], start: datetime) -> bool:
    """Whether a slot is still to come on the day that begins then."""
    clock, end = runs.spec_of(row).trigger, start + timedelta(days=1)
    if not isinstance(clock, TIMED) or row.next_at is None or row.next_at >= end:
        return False
    following = times.next_slot(clock, max(start, row.next_at) - timedelta(microseconds=1))
    return following is not None and following < end


def _kind(spec: ScheduleSpec) -> str:
    return str(type(spec.trigger).__struct_config__.tag)


def _find(uow: UnitOfWork, project: str, name: str, *, lock: bool = False) -> Row[Any] | None:
    column = schedule.c
    query = select(schedule).where(column.project == project, column.name == name, column.retired == "")
    return uow.conn.execute(query.with_for_update() if lock else query).first()


def require_row(uow: UnitOfWork, project: str, name: str, *, lock: bool = False) -> Row[Any]:
    """The schedule's row, held if asked for; the caller has asked for its permission.

    Raises:
        NotFoundError: the project has none of that name.
    """
    row = _find(uow, project, check_name(name, field="schedule"), lock=lock)
    if row is None:
        raise NotFoundError(
            f"There is no schedule {name!r} in project {project!r}.",
            hint="`everline schedules list` shows them.",
            field="schedule",
        )
    return row


def _schedule(row: Row[Any]) -> Schedule:
    spec = runs.spec_of(row)
    return Schedule(
        **{name: getattr(spec, name) for name in _SPEC}, uid=row.uid, project=row.project, next_at=row.next_at,
        has_secret=row.secret_number > 0, missed_slot=row.missed_slot, failed_slot=row.failed_slot,
        created_at=row.created_at, created_by=row.created_by, updated_at=row.updated_at,
    )  # fmt: skip
