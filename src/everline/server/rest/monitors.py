"""REST face of monitors, their windows and signals."""

from __future__ import annotations

from everline.clock import parse_rfc3339
from everline.loader import load
from everline.monitoring import service
from everline.monitoring.types import CreateMonitor, Monitor, MonitorRun, RunMonitor, Signal, Window
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="monitors")


@routes.post("/monitors", body=CreateMonitor, returns=Monitor, status=201)
def create_monitor(request: Request) -> Monitor:
    """Create a monitor of an endpoint."""
    body = decode(CreateMonitor, request)
    with begin(request) as uow:
        return service.create_monitor(uow, body, project=request.project)


@routes.get("/monitors", returns=Page[Monitor])
def list_monitors(request: Request) -> Page[Monitor]:
    """List monitors by name."""
    with begin(request) as uow:
        found = service.list_monitors(uow, project=request.project, endpoint=request.query("endpoint", str, None))
        return Page(items=found)


@routes.get("/monitors/{name}", returns=Monitor)
def get_monitor(request: Request) -> Monitor:
    """One monitor."""
    with begin(request) as uow:
        return service.get_monitor(uow, request.path["name"], project=request.project)


@routes.delete("/monitors/{name}")
def delete_monitor(request: Request) -> None:
    """Stop watching; windows and incidents stay."""
    with begin(request) as uow:
        service.delete_monitor(uow, request.path["name"], project=request.project)


@routes.post("/monitors/{name}/run", body=RunMonitor, returns=MonitorRun)
def run_monitor(request: Request) -> MonitorRun:
    """Close the complete windows of a monitor now."""
    body = decode(RunMonitor, request)
    watch = load("everline.monitoring.watch")  # late: the mathematics is heavy, and few requests need it
    with begin(request) as uow:
        done: MonitorRun = watch.run_monitor(uow, request.path["name"], project=request.project, until=body.until)
        return done


@routes.get("/monitors/{name}/windows", returns=Page[Window])
def list_windows(request: Request) -> Page[Window]:
    """List a monitor's closed windows, the newest first."""
    with begin(request) as uow:
        return Page(items=service.list_windows(uow, request.path["name"], project=request.project, limit=request.limit))


@routes.get("/monitors/{name}/signals", returns=Page[Signal])
def list_signals(request: Request) -> Page[Signal]:
    """List a monitor's signals, the newest window first."""
    since = request.query("since", str, None)
    with begin(request) as uow:
        return Page(
            items=service.list_signals(
                uow,
                request.path["name"],
                project=request.project,
                feature=request.query("feature", str, None),
                since=None if since is None else parse_rfc3339(since),
                limit=request.limit,
            )
        )
