"""Schedules that are watched: an incident while their runs are missed or fail, over by itself when one succeeds.

Schedules lie below and know nothing of incidents: they keep what is wrong, and are asked. An incident that a person
resolved opens anew only for a later slot than it has told of.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, insert, select, update

from everline.access.unit_of_work import UnitOfWork
from everline.clock import rfc3339
from everline.ids import new_uid
from everline.monitoring import tables
from everline.monitoring.types import IncidentStatus
from everline.pipelines.schedules import service as schedules
from everline.pipelines.schedules.types import Trouble
from everline.storage.db import upsert

_SEVERITY = {"missed": "high", "failed": "medium"}


def is_due(uow: UnitOfWork) -> bool:
    """Whether `watch_schedules` may find anything to do: a look that takes no lock."""
    column = tables.incident.c
    query = select(column.uid).where(column.schedule.is_not(None), column.status != IncidentStatus.RESOLVED.value)
    return schedules.any_trouble(uow) or uow.conn.execute(query.limit(1)).first() is not None


def watch_schedules(uow: UnitOfWork) -> None:
    """Open, join and close the incidents of schedules; the worker calls it on its clock, as the server itself."""
    column = tables.incident.c
    query = select(tables.incident).where(column.schedule.is_not(None), column.status != IncidentStatus.RESOLVED.value)
    open_now = {(row.schedule, row.cause): row for row in uow.conn.execute(query).all()}
    wrong = {(one.schedule, one.cause): one for one in schedules.troubles(uow)}
    for key, trouble in wrong.items():
        if key not in open_now:
            _open(uow, trouble)
        elif trouble.slot > open_now[key].last_window:
            _join(uow, open_now[key], trouble)
    for key, row in open_now.items():
        if key not in wrong:
            _close(uow, row)


def _open(uow: UnitOfWork, trouble: Trouble) -> None:
    column = tables.incident.c
    told = select(column.uid).where(
        column.schedule == trouble.schedule, column.cause == trouble.cause, column.last_window >= trouble.slot
    )
    if uow.conn.execute(told.limit(1)).first() is not None:
        return
    uid, now = new_uid(), uow.clock.now()
    values: dict[str, Any] = {
        "uid": uid, "project": trouble.project, "monitor": None, "endpoint": None, "schedule": trouble.schedule,
        "schedule_name": trouble.name, "cause": trouble.cause, "open_key": f"{trouble.schedule}:{trouble.cause}",
        "status": IncidentStatus.OPEN.value, "severity": _SEVERITY[trouble.cause], "sentence": trouble.sentence,
        "features": [], "diagnosis": None, "since": trouble.slot, "window_start": trouble.slot,
        "last_window": trouble.slot, "windows": 1, "opened_at": now, "note": "", "job": None,
    }  # fmt: skip
    if upsert(uow.conn, tables.incident, [values], keys=["open_key"]) != 1:
        return  # another replica was first
    alert = {
        "uid": new_uid(), "project": trouble.project, "incident": uid, "channel": "in-app",
        "sentence": trouble.sentence, "at": now,
    }  # fmt: skip
    uow.conn.execute(insert(tables.alert).values(**alert))
    uow.record(
        "incident.open", subject=f"incident:{uid}", project=trouble.project, schedule=trouble.schedule,
        name=trouble.name, cause=trouble.cause, sentence=trouble.sentence,
    )  # fmt: skip


def _join(uow: UnitOfWork, row: Row[Any], trouble: Trouble) -> None:
    column = tables.incident.c
    seen = update(tables.incident).where(column.uid == row.uid, column.last_window == row.last_window)
    changes = {"last_window": trouble.slot, "windows": column.windows + 1, "sentence": trouble.sentence}
    if uow.conn.execute(seen.values(**changes)).rowcount == 1:
        uow.record("incident.join", subject=f"incident:{row.uid}", project=row.project, slot=rfc3339(trouble.slot))


def _close(uow: UnitOfWork, row: Row[Any]) -> None:
    column, note = tables.incident.c, "A later run succeeded, or the schedule was deleted."
    still = update(tables.incident).where(column.uid == row.uid, column.status == row.status)
    changes = {
        "status": IncidentStatus.RESOLVED.value, "resolved_at": uow.clock.now(), "resolved_by": uow.actor.name,
        "note": row.note or note, "open_key": None,
    }  # fmt: skip
    if uow.conn.execute(still.values(**changes)).rowcount == 1:
        uow.record("incident.resolve", subject=f"incident:{row.uid}", project=row.project, note=note)
