"""Incidents and their alerts: one per cause while it lasts, joined by later signals, closed by people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, Select, insert, select, update

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, NotFoundError
from everline.governance import audit
from everline.ids import check_uid, new_uid
from everline.monitoring import tables
from everline.monitoring.types import Alert, Diagnosis, Incident, IncidentStatus, Monitor
from everline.pipelines.schedules import templates
from everline.pipelines.schedules.runs import enqueue_pipeline
from everline.serving.service import get_endpoint

NOTE_CHARS_MAX = 4_000
_OPEN = (IncidentStatus.OPEN.value, IncidentStatus.ACKNOWLEDGED.value)


@read
def list_incidents(
    uow: UnitOfWork,
    *,
    project: str,
    endpoint: str | None = None,
    monitor: str | None = None,
    status: IncidentStatus | None = None,
    limit: int = 100,
    before: str | None = None,
) -> list[Incident]:
    """The project's incidents, the newest first.

    Args:
        monitor: name of a monitor.
        before: an incident; only older ones. The last of a page fetches the next page.
    """
    uow.require(Permission.INCIDENT_READ, project)
    column = tables.incident.c
    query = _incidents().where(column.project == project).order_by(column.uid.desc())
    if endpoint is not None:
        query = query.where(column.endpoint == endpoint)
    if monitor is not None:
        query = query.where(tables.monitor.c.name == monitor)
    if status is not None:
        query = query.where(column.status == status.value)
    if before is not None:
        query = query.where(column.uid < check_uid(before, field="cursor"))
    limit = max(1, min(limit, uow.settings.page_items_max))
    return [_incident(row) for row in uow.conn.execute(query.limit(limit))]


@read
def get_incident(uow: UnitOfWork, incident: str, *, project: str) -> Incident:
    """One incident with its diagnosis.

    Raises:
        NotFoundError: the project has none of that uid.
    """
    uow.require(Permission.INCIDENT_READ, project)
    return _incident(_require_incident(uow, incident, project))


@act
def acknowledge_incident(uow: UnitOfWork, incident: str, *, project: str, note: str = "") -> Incident:
    """Say that somebody looks after it; again changes nothing.

    Raises:
        ConflictError: it is resolved already.
    """
    uow.require(Permission.INCIDENT_WRITE, project)
    row = _require_incident(uow, incident, project, lock=True)
    if row.status == IncidentStatus.RESOLVED.value:
        raise ConflictError("The incident is resolved already.", hint="It opens anew if its signals go on.")
    if row.status == IncidentStatus.ACKNOWLEDGED.value and note in ("", row.note):
        uow.unchanged()
        return _incident(row)
    changes = {
        "status": IncidentStatus.ACKNOWLEDGED.value,
        "acknowledged_at": row.acknowledged_at or uow.clock.now(),
        "acknowledged_by": row.acknowledged_by or uow.actor.name,
        "note": note[:NOTE_CHARS_MAX] or row.note,
    }
    return _change(uow, row, changes, action="incident.acknowledge", project=project)


@act
def resolve_incident(uow: UnitOfWork, incident: str, *, project: str, note: str = "") -> Incident:
    """Close it; the evidence on its features starts from nothing, so that it opens anew only if signals go on.

    Raises:
        ConflictError: it is resolved already.
    """
    uow.require(Permission.INCIDENT_WRITE, project)
    monitor = _require_incident(uow, incident, project).monitor or ""
    # The monitor first, as its own runs do: two who lock in different orders would wait for each other.
    uow.conn.execute(select(tables.monitor.c.uid).where(tables.monitor.c.uid == monitor).with_for_update())
    row = _require_incident(uow, incident, project, lock=True)
    if row.status == IncidentStatus.RESOLVED.value:
        raise ConflictError("The incident is resolved already.", hint="`everline incidents show` says by whom.")
    evidence = tables.evidence
    uow.conn.execute(
        update(evidence)
        .where(evidence.c.monitor == row.monitor, evidence.c.feature.in_(row.features))
        .values(value=0.0, windows=0)
    )
    changes = {
        "status": IncidentStatus.RESOLVED.value,
        "resolved_at": uow.clock.now(),
        "resolved_by": uow.actor.name,
        "note": note[:NOTE_CHARS_MAX] or row.note,
        "open_key": None,
    }
    return _change(uow, row, changes, action="incident.resolve", project=project)


@read
def list_alerts(uow: UnitOfWork, *, project: str, limit: int = 100) -> list[Alert]:
    """The project's notifications, the newest first."""
    uow.require(Permission.INCIDENT_READ, project)
    column = tables.alert.c
    limit = max(1, min(limit, uow.settings.page_items_max))
    query = select(tables.alert).where(column.project == project).order_by(column.uid.desc()).limit(limit)
    return [Alert(**dict(row._mapping)) for row in uow.conn.execute(query)]


def open_incidents(uow: UnitOfWork, monitor: Monitor) -> list[Incident]:
    """The monitor's incidents that are not resolved; the caller has asked for its permission."""
    column = tables.incident.c
    query = _incidents().where(column.monitor == monitor.uid, column.status.in_(_OPEN)).order_by(column.uid)
    return [_incident(row) for row in uow.conn.execute(query.limit(uow.settings.page_items_max))]


def open_incident(
    uow: UnitOfWork,
    monitor: Monitor,
    *,
    cause: str,
    severity: str,
    features: Sequence[str],
    diagnosis: Diagnosis,
    start: datetime,
    until: datetime,
) -> str:
    """Open an incident, leave its alert, and set its pipeline going; all in the transaction of its window.

    Returns:
        The incident's uid.
    """
    uid, now = new_uid(), uow.clock.now()
    facts = _facts(uow, monitor, cause, diagnosis, start=start, until=until)
    job = _trigger(uow, monitor, uid, facts)
    values = {
        "uid": uid, "project": monitor.project, "monitor": monitor.uid, "endpoint": monitor.endpoint, "cause": cause,
        "open_key": f"{monitor.uid}:{cause}"[:400], "status": IncidentStatus.OPEN.value, "severity": severity,
        "sentence": diagnosis.sentence, "features": list(features), "diagnosis": msgspec.to_builtins(diagnosis),
        "since": diagnosis.since, "window_start": start, "last_window": start, "windows": 1, "opened_at": now,
        "note": "", "job": job,
    }  # fmt: skip
    uow.conn.execute(insert(tables.incident).values(**values))
    alert = {
        "uid": new_uid(), "project": monitor.project, "incident": uid, "channel": "in-app",
        "sentence": diagnosis.sentence, "at": now,
    }  # fmt: skip
    uow.conn.execute(insert(tables.alert).values(**alert))
    audit.record(
        uow, "incident.open", subject=f"incident:{uid}", project=monitor.project, features=list(features), job=job,
        **facts,
    )  # fmt: skip
    return uid


def join_incident(uow: UnitOfWork, incident: Incident, *, features: Sequence[str], start: datetime) -> None:
    """Count one more window of an open incident, with the features that joined it."""
    together = [*incident.features, *(name for name in features if name not in incident.features)]
    uow.conn.execute(
        update(tables.incident)
        .where(tables.incident.c.uid == incident.uid)
        .values(features=together, last_window=start, windows=tables.incident.c.windows + 1)
    )
    if len(together) > len(incident.features):
        audit.record(
            uow, "incident.join", subject=f"incident:{incident.uid}", project=incident.project,
            features=[name for name in together if name not in incident.features],
        )  # fmt: skip


def _trigger(uow: UnitOfWork, monitor: Monitor, incident: str, facts: dict[str, Any]) -> str | None:
    trigger = monitor.on_incident
    if trigger is None or facts["proposed"] in trigger.unless:
        return None
    known = facts | {"incident": incident, "model": next(iter(facts["models"]), None), "slot": uow.clock.now()}
    return enqueue_pipeline(
        uow, monitor.project, pipeline=trigger.pipeline, directory=trigger.directory,
        parameters=templates.fill(trigger.params, known), reason=f"incident {incident}: {facts['sentence']}",
        key=f"incident:{incident}", incident=incident,
    )  # fmt: skip


def _facts(
    uow: UnitOfWork, monitor: Monitor, cause: str, diagnosis: Diagnosis, *, start: datetime, until: datetime
) -> dict[str, Any]:
    """What pipelines may be told of an incident, by its monitor's own trigger or by a schedule."""

    def day(at: datetime) -> str:
        return datetime.fromtimestamp(at.timestamp() - monitor.offset_s, tz=at.tzinfo).date().isoformat()

    return {
        "monitor": monitor.name, "endpoint": monitor.endpoint, "models": _models(uow, monitor), "cause": cause,
        "sentence": diagnosis.sentence, "since": day(diagnosis.since), "window_start": day(start),
        "window_end": day(until), "proposed": diagnosis.action.verb if diagnosis.action is not None else None,
    }  # fmt: skip


def _models(uow: UnitOfWork, monitor: Monitor) -> list[str]:
    """The models that answer at the monitor's endpoint."""
    revisions = get_endpoint(uow, monitor.endpoint, project=monitor.project).revisions
    return sorted({one.model for one in revisions})


def _incidents() -> Select[Any]:
    return select(*tables.incident.c, tables.monitor.c.name.label("monitor_name")).outerjoin(
        tables.monitor, tables.monitor.c.uid == tables.incident.c.monitor
    )


def _require_incident(uow: UnitOfWork, incident: str, project: str, *, lock: bool = False) -> Row[Any]:
    uid = check_uid(incident, field="incident")
    query = _incidents().where(tables.incident.c.uid == uid, tables.incident.c.project == project)
    row = uow.conn.execute(query.with_for_update(of=tables.incident) if lock else query).first()
    if row is None:
        raise NotFoundError(
            f"There is no incident {uid} in project {project!r}.",
            hint="`everline incidents list` shows them.",
            field="incident",
        )
    return row


def _change(uow: UnitOfWork, row: Row[Any], changes: dict[str, Any], *, action: str, project: str) -> Incident:
    uow.conn.execute(update(tables.incident).where(tables.incident.c.uid == row.uid).values(**changes))
    audit.record(uow, action, subject=f"incident:{row.uid}", project=project, note=changes["note"])
    return _incident(_require_incident(uow, row.uid, project))


def _incident(row: Row[Any]) -> Incident:
    values = {name: getattr(row, name) for name in Incident.__struct_fields__}
    values["diagnosis"] = None if row.diagnosis is None else msgspec.convert(row.diagnosis, Diagnosis)
    values["status"] = IncidentStatus(row.status)
    return Incident(**values)
