"""Incidents that no monitor found: what other floors noticed about an endpoint by itself."""

from __future__ import annotations

from sqlalchemy import insert

from everline.access.unit_of_work import UnitOfWork
from everline.ids import new_uid
from everline.monitoring import tables
from everline.monitoring.types import IncidentStatus
from everline.storage.db import upsert


def open_for_endpoint(
    uow: UnitOfWork, *, project: str, endpoint: str, cause: str, about: str, sentence: str, severity: str = "high"
) -> str | None:
    """Open an incident and leave its alert, in the transaction of what caused it; asks for no permission.

    Args:
        cause: one word, such as `rollout`.
        about: what it is about, such as a release; one incident is open at a time per cause and this.

    Returns:
        The incident's uid, or None if it is open already.
    """
    uid, now = new_uid(), uow.clock.now()
    row = {
        "uid": uid, "project": project, "endpoint": endpoint, "cause": cause, "open_key": f"{about}:{cause}",
        "status": IncidentStatus.OPEN.value, "severity": severity, "sentence": sentence, "features": [], "since": now,
        "window_start": now, "last_window": now, "windows": 1, "opened_at": now, "note": "",
    }  # fmt: skip
    if upsert(uow.conn, tables.incident, [row], keys=["open_key"]) != 1:
        return None
    alert = {
        "uid": new_uid(),
        "project": project,
        "incident": uid,
        "channel": "in-app",
        "sentence": sentence,
        "at": now,
    }
    uow.conn.execute(insert(tables.alert).values(**alert))
    uow.record(
        "incident.open", subject=f"incident:{uid}", project=project, endpoint=endpoint, cause=cause, about=about,
        sentence=sentence,
    )  # fmt: skip
    return uid
