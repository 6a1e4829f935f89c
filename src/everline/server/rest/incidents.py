"""REST face of incidents and their alerts."""

from __future__ import annotations

from everline.monitoring import incidents
from everline.monitoring.types import Alert, CloseIncident, Incident, IncidentStatus
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="incidents")


@routes.get("/incidents", returns=Page[Incident])
def list_incidents(request: Request) -> Page[Incident]:
    """List incidents, the newest first."""
    limit = request.limit
    with begin(request) as uow:
        found = incidents.list_incidents(
            uow,
            project=request.project,
            endpoint=request.query("endpoint", str, None),
            monitor=request.query("monitor", str, None),
            status=request.query("status", IncidentStatus, None),
            limit=limit,
            before=request.query("cursor", str, None),
        )
        return Page(items=found, next=found[-1].uid if len(found) == limit else None)


@routes.get("/incidents/{uid}", returns=Incident)
def get_incident(request: Request) -> Incident:
    """One incident with its diagnosis."""
    with begin(request) as uow:
        return incidents.get_incident(uow, request.path["uid"], project=request.project)


@routes.post("/incidents/{uid}/acknowledge", body=CloseIncident, returns=Incident)
def acknowledge_incident(request: Request) -> Incident:
    """Say that somebody looks after an incident."""
    body = decode(CloseIncident, request)
    with begin(request) as uow:
        return incidents.acknowledge_incident(uow, request.path["uid"], project=request.project, note=body.note)


@routes.post("/incidents/{uid}/resolve", body=CloseIncident, returns=Incident)
def resolve_incident(request: Request) -> Incident:
    """Close an incident."""
    body = decode(CloseIncident, request)
    with begin(request) as uow:
        return incidents.resolve_incident(uow, request.path["uid"], project=request.project, note=body.note)


@routes.get("/alerts", returns=Page[Alert])
def list_alerts(request: Request) -> Page[Alert]:
    """List notifications, the newest first."""
    with begin(request) as uow:
        return Page(items=incidents.list_alerts(uow, project=request.project, limit=request.limit))
