"""The law of monitors: what is watched on an endpoint, against which reference, with which promise."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, func, insert, select, update

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.datasets import service as datasets
from everline.errors import ConflictError, InvalidInputError, NotFoundError, TooLargeError
from everline.governance import audit
from everline.ids import check_name, new_uid
from everline.loader import load
from everline.monitoring import tables
from everline.monitoring.types import CreateMonitor, IncidentStatus, Monitor, MonitorKind, Signal, Window
from everline.pipelines.schedules import events, templates
from everline.pipelines.schedules.types import IncidentOpened
from everline.serving.service import get_endpoint

QUALITY_DELAY_S = 25 * 3600
BASELINE_WINDOWS_MIN, BASELINE_WINDOWS_MAX = 8, 366
WINDOWS_BETWEEN_MIN = 2
_WINDOW = re.compile(r"([1-9][0-9]{0,3})([hd])")
_WINDOW_MAX = timedelta(days=31)
CHANGE_IN_PLACE = {"on_incident", "outcome_wait_s", "delay_s"}
"""What may change without making the evidence so far one about something else."""
_COLUMNS_OF_ROW = ("uid", "project", "name", "endpoint", "next_start", "created_at", "created_by")


@act
def create_monitor(uow: UnitOfWork, body: CreateMonitor, *, project: str) -> Monitor:
    """Watch an endpoint from now on; the reference's version is fixed here and never moves by itself.

    Raises:
        NotFoundError: no such endpoint or dataset version.
        InvalidInputError: the window, the reference or the promise cannot be used.
        ConflictError: the project has a monitor of that name.
    """
    uow.require(Permission.MONITOR_WRITE, project)
    check_name(body.name, field="name")
    get_endpoint(uow, body.endpoint, project=project)
    _check(uow, body)
    if _find(uow, body.name, project=project) is not None:
        raise ConflictError(
            f"The monitor {body.name!r} exists already.", hint="`everline monitors show` shows it.", field="name"
        )
    body = settled(uow, body, project=project)
    reference = body.reference
    table = load("everline.monitoring.references").reference_table(uow, reference, project=project)
    if body.target is not None and body.target not in table.column_names:
        raise InvalidInputError(
            f"The reference has no column {body.target!r}.",
            hint=f"It has: {', '.join(table.column_names[:40])}.",
            field="target",
        )
    config = msgspec.to_builtins(body)
    values = {
        "uid": new_uid(), "project": project, "name": body.name, "endpoint": body.endpoint, "kind": body.kind.value,
        "config": config, "created_at": uow.clock.now(), "created_by": uow.actor.name,
    }  # fmt: skip
    uow.conn.execute(insert(tables.monitor).values(**values))
    audit.record(
        uow, "monitor.create", subject=f"monitor:{values['uid']}", project=project, name=body.name,
        endpoint=body.endpoint, kind=body.kind.value, reference=msgspec.to_builtins(reference),
    )  # fmt: skip
    return get_monitor(uow, body.name, project=project)


def settled(uow: UnitOfWork, body: CreateMonitor, *, project: str, current: Monitor | None = None) -> CreateMonitor:
    """The body with what it leaves open: the delay of its kind, and the number of its reference's version.

    Args:
        current: a monitor of this name; where the body names no version, it keeps the one that it began with.

    Raises:
        NotFoundError: no such dataset version.
    """
    delay = body.delay_s if body.delay_s is not None else QUALITY_DELAY_S if body.kind is MonitorKind.QUALITY else 0
    reference = body.reference
    if current is not None and reference.version is None and reference.dataset == current.reference.dataset:
        version = current.reference.version
    else:
        version = str(datasets.version_number(uow, project, reference.dataset, reference.version))
    return msgspec.structs.replace(body, delay_s=delay, reference=msgspec.structs.replace(reference, version=version))


@act
def change_monitor(uow: UnitOfWork, body: CreateMonitor, *, project: str) -> Monitor:
    """Make the monitor of that name as said; the same again is no change.

    What an incident sets going, and how long is waited, change in place. Anything else makes the evidence so far one
    about something else: the monitor is retired, and another of its name begins with nothing.

    Raises:
        NotFoundError: no such monitor, endpoint or dataset version.
        InvalidInputError: the window, the reference or the promise cannot be used.
    """
    uow.require(Permission.MONITOR_WRITE, project)
    row = require_monitor(uow, body.name, project=project, lock=True)
    body = settled(uow, body, project=project, current=monitor_of(row))
    wanted = msgspec.json.decode(msgspec.json.encode(body))
    changed = sorted(key for key, value in wanted.items() if row.config.get(key) != value)
    if not changed:
        uow.unchanged()
    elif set(changed) <= CHANGE_IN_PLACE:
        _check(uow, body)
        uow.conn.execute(update(tables.monitor).where(tables.monitor.c.uid == row.uid).values(config=wanted))
        audit.record(
            uow, "monitor.change", subject=f"monitor:{row.uid}", project=project, name=body.name,
            before={key: row.config.get(key) for key in changed}, after={key: wanted[key] for key in changed},
        )  # fmt: skip
    else:
        _retire(uow, row, reason=f"replaced: {', '.join(changed)} changed")
        return create_monitor(uow, body, project=project)
    return get_monitor(uow, body.name, project=project)


@act
def delete_monitor(uow: UnitOfWork, name: str, *, project: str, reason: str = "") -> None:
    """Stop watching; windows, signals and incidents stay, and open incidents stay open until a person closes them.

    Raises:
        NotFoundError: the project has none of that name.
    """
    uow.require(Permission.MONITOR_WRITE, project)
    _retire(uow, require_monitor(uow, name, project=project, lock=True), reason=reason)


def _retire(uow: UnitOfWork, row: Row[Any], *, reason: str) -> None:
    uow.conn.execute(update(tables.monitor).where(tables.monitor.c.uid == row.uid).values(retired=row.uid))
    audit.record(
        uow, "monitor.delete", subject=f"monitor:{row.uid}", project=row.project, name=row.name, reason=reason[:500]
    )


@read
def get_monitor(uow: UnitOfWork, name: str, *, project: str) -> Monitor:
    """One monitor by name.

    Raises:
        NotFoundError: the project has none of that name.
    """
    uow.require(Permission.MONITOR_READ, project)
    return monitor_of(require_monitor(uow, name, project=project), open_incidents=_open_count(uow, project, name))


@read
def list_monitors(uow: UnitOfWork, *, project: str, endpoint: str | None = None) -> list[Monitor]:
    """The project's monitors by name, at most `page_items_max`."""
    uow.require(Permission.MONITOR_READ, project)
    column = tables.monitor.c
    query = select(tables.monitor).where(column.project == project, column.retired == "").order_by(column.name)
    if endpoint is not None:
        query = query.where(tables.monitor.c.endpoint == endpoint)
    rows = uow.conn.execute(query.limit(uow.settings.page_items_max)).all()
    return [monitor_of(row, open_incidents=_open_count(uow, project, row.name)) for row in rows]


@read
def list_windows(uow: UnitOfWork, name: str, *, project: str, limit: int = 100) -> list[Window]:
    """The monitor's closed windows, the newest first."""
    uow.require(Permission.MONITOR_READ, project)
    row = require_monitor(uow, name, project=project)
    column = tables.window.c
    query = select(tables.window).where(column.monitor == row.uid).order_by(column.start.desc())
    rows = uow.conn.execute(query.limit(max(1, min(limit, uow.settings.page_items_max))))
    return [Window(**{field: getattr(one, field) for field in Window.__struct_fields__}) for one in rows]


@read
def list_signals(
    uow: UnitOfWork,
    name: str,
    *,
    project: str,
    feature: str | None = None,
    since: datetime | None = None,
    limit: int = 1000,
) -> list[Signal]:
    """The monitor's signals, the newest window first, features by name.

    Args:
        since: only windows that start at or after it.
        limit: 1 to `page_items_max` times 10.
    """
    uow.require(Permission.MONITOR_READ, project)
    row = require_monitor(uow, name, project=project)
    column = tables.signal.c
    query = select(tables.signal).where(column.monitor == row.uid).order_by(column.start.desc(), column.feature)
    if feature is not None:
        query = query.where(column.feature == feature)
    if since is not None:
        query = query.where(column.start >= since)
    rows = uow.conn.execute(query.limit(max(1, min(limit, 10 * uow.settings.page_items_max))))
    return [signal_of(one) for one in rows]


def require_monitor(uow: UnitOfWork, name: str, *, project: str, lock: bool = False) -> Row[Any]:
    """The monitor's row, locked against other runs if asked; the caller has asked for its permission."""
    row = _find(uow, check_name(name, field="monitor"), project=project, lock=lock)
    if row is None:
        raise NotFoundError(
            f"There is no monitor {name!r} in project {project!r}.",
            hint="`everline monitors list` shows them.",
            field="monitor",
        )
    return row


def _find(uow: UnitOfWork, name: str, *, project: str, lock: bool = False) -> Row[Any] | None:
    column = tables.monitor.c
    query = select(tables.monitor).where(column.project == project, column.name == name, column.retired == "")
    return uow.conn.execute(query.with_for_update() if lock else query).first()


def monitor_of(row: Row[Any], *, open_incidents: int = 0) -> Monitor:
    """A monitor from its row."""
    known = {name: getattr(row, name) for name in _COLUMNS_OF_ROW}
    config = {name: value for name, value in row.config.items() if name not in known}
    return msgspec.convert(known | config | {"open_incidents": open_incidents}, Monitor)


def signal_of(row: Row[Any]) -> Signal:
    """A signal from its row."""
    return Signal(**{field: getattr(row, field) for field in Signal.__struct_fields__})


def window_length(text: str) -> timedelta:
    """Read "1d" or "6h".

    Raises:
        InvalidInputError: not of that form, or longer than 31 days.

    Example:
        >>> window_length("6h")
        datetime.timedelta(seconds=21600)
    """
    match = _WINDOW.fullmatch(text)
    length = timedelta(hours=int(match[1]) * (24 if match[2] == "d" else 1)) if match else timedelta(0)
    if not timedelta(0) < length <= _WINDOW_MAX:
        raise InvalidInputError(
            f"{text!r} is no length of a window.", hint='Write "1d" or "6h", at most 31 days.', field="window"
        )
    return length


def window_start(at: datetime, *, length: timedelta, offset_s: int) -> datetime:
    """The start of the window that holds a moment: windows tile time from 1970-01-01 plus the offset.

    Example:
        >>> window_start(datetime(2013, 4, 1, 3, tzinfo=UTC), length=timedelta(days=1), offset_s=18000).isoformat()
        '2013-03-31T05:00:00+00:00'
    """
    origin = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=offset_s)
    return origin + (at - origin) // length * length


def _check(uow: UnitOfWork, body: CreateMonitor) -> None:
    length = window_length(body.window)
    if abs(body.offset_s) >= length.total_seconds():
        raise InvalidInputError("The offset is as long as a window or longer.", field="offset_s")
    if body.windows_between_false_alarms < WINDOWS_BETWEEN_MIN:
        raise InvalidInputError(
            f"A promise of {body.windows_between_false_alarms} windows between false alarms says nothing.",
            hint=f"Give at least {WINDOWS_BETWEEN_MIN}; 91 days is a quarter.",
            field="windows_between_false_alarms",
        )
    if (body.delay_s or 0) < 0 or body.outcome_wait_s < 0:
        raise InvalidInputError("A delay is not negative.", field="delay_s")
    if body.start is not None and body.start.tzinfo is None:
        raise InvalidInputError(
            "The start has no time zone.", hint="Write it like 2013-04-01T05:00:00Z.", field="start"
        )
    if len(body.features or []) > uow.settings.monitor_features_max:
        raise TooLargeError(
            f"A monitor watches at most {uow.settings.monitor_features_max} features.", field="features"
        )
    if body.baseline_windows is not None and not BASELINE_WINDOWS_MIN <= body.baseline_windows <= BASELINE_WINDOWS_MAX:
        raise InvalidInputError(
            f"A baseline is learnt from {BASELINE_WINDOWS_MIN} to {BASELINE_WINDOWS_MAX} windows.",
            field="baseline_windows",
        )
    if body.on_incident is not None:
        templates.check(body.on_incident.params, {"slot": uow.clock.now()} | events.examples(IncidentOpened()))
    if body.kind is MonitorKind.QUALITY and body.target is None and body.baseline_windows is None:
        raise InvalidInputError(
            "A quality monitor needs the reference's column with the outcome.",
            hint="Name it as `target`, or give `baseline_windows`.",
            field="target",
        )


def _open_count(uow: UnitOfWork, project: str, name: str) -> int:
    incident, monitor = tables.incident.c, tables.monitor.c
    query = (
        select(func.count())
        .select_from(tables.incident.join(tables.monitor, monitor.uid == incident.monitor))
        .where(monitor.project == project, monitor.name == name, monitor.retired == "")
        .where(incident.status != IncidentStatus.RESOLVED.value)
    )
    return int(uow.conn.execute(query).scalar_one())
