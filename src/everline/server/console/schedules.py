"""Pages of schedules: the calendar of all, and one with its weeks, coming slots and runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from starlette.responses import Response

from everline.access.types import Permission
from everline.errors import EverlineError, InvalidInputError
from everline.pipelines.schedules import asking, service
from everline.pipelines.schedules.types import Schedule, ScheduledRun
from everline.server.console import pages
from everline.server.console.view import calendar, render
from everline.server.http import Request, begin

routes = pages.console_routes()
DAYS_BEFORE, DAYS_AFTER = 27, 7
WEEKS_BEFORE = 8
RUNS_MAX = 100
COMING_MAX = 10
_BUTTONS = ("pause", "resume", "run", "backfill")


@routes.get("/schedules")
def list_schedules(request: Request) -> Response:
    """All schedules on one calendar."""
    project = request.project
    with begin(request) as uow:
        today = uow.clock.now().date()
        found = service.list_schedules(uow, project)
        days = service.calendar(
            uow, project, start=today - timedelta(days=DAYS_BEFORE), days=DAYS_BEFORE + 1 + DAYS_AFTER
        )
    hrefs = {one.name: render.path("schedules", one.name, project=project) for one in found}
    return pages.page(
        request,
        "schedules.html",
        title="Schedules",
        section="schedules",
        picture=calendar.by_schedule(days, today=today, hrefs=hrefs),
        schedules=[_line(one) for one in found],
        drawn=len(days),
    )


@routes.get("/schedules/{name}")
def show_schedule(request: Request) -> Response:
    """One schedule."""
    return _page(request)


@routes.post("/schedules/{name}")
def change(request: Request) -> Response:
    """Pause it, let it go on, run it now, or run slots of a range."""
    given, name, project = pages.form(request), request.path["name"], request.project
    move = given.get("move")
    if move not in _BUTTONS:
        raise InvalidInputError("This page has no such button.", hint="Reload the page.", field="move")
    try:
        with begin(request) as uow:
            if move == "run":
                asking.run_now(uow, project, name)
            elif move == "backfill":
                asking.backfill(
                    uow, project, name, start=given.get("start", ""), end=given.get("end", ""),
                    failed=given.get("failed") == "yes",
                )  # fmt: skip
            else:
                service.set_enabled(uow, project, name, enabled=move == "resume")
    except EverlineError as problem:
        if problem.status >= 500 or problem.status in (403, 404):
            raise
        return _page(request, problem=problem)
    return pages.redirect(render.path("schedules", name, project=project))


def _page(request: Request, *, problem: EverlineError | None = None) -> Response:
    project, name = request.project, request.path["name"]
    with request.app.begin(request.actor, read_only=True) as uow:
        today = uow.clock.now().date()
        found = service.show_schedule(uow, project, name, coming=COMING_MAX, limit=RUNS_MAX)
        first = calendar.monday(today) - timedelta(weeks=WEEKS_BEFORE - 1)
        days = service.calendar(uow, project, start=first, days=7 * (WEEKS_BEFORE + 1), name=name)[name]
    one = found.schedule
    return pages.page(
        request,
        "schedule.html",
        title=one.name,
        section="schedules",
        status=problem.status if problem else 200,
        problem=problem,
        schedule=_line(one),
        picture=calendar.by_week(days, today=today),
        coming=found.coming,
        runs=[_run(run) for run in found.runs],
        about=_about(one),
        may_change=request.actor.may(Permission.PIPELINE_WRITE, project),
        history=render.path("audit", project=project, action="schedule."),
    )


def _line(one: Schedule) -> dict[str, Any]:
    state = "paused" if not one.enabled else "failing" if one.failed_slot else "missed" if one.missed_slot else "on"
    return {
        "name": one.name,
        "pipeline": one.pipeline,
        "description": one.description,
        "trigger": spoken(one),
        "state": state,
        "enabled": one.enabled,
        "timed": one.trigger.__struct_config__.tag in ("cron", "interval"),
        "next_at": one.next_at,
    }


def spoken(one: Schedule) -> str:
    """A trigger in words."""
    given = msgspec.to_builtins(one.trigger)
    kind, place = given["kind"], given.get("endpoint") or given.get("model") or given.get("monitor") or "any endpoint"
    said = {
        "cron": f"{given.get('expression')} {given.get('zone')}",
        "interval": f"every {given.get('every')}",
        "on_demand": "on demand",
        "dataset": f"new version of {given.get('dataset')}",
        "incident": f"incident on {place}",
        "release": f"release promoted on {place}",
        "webhook": "webhook",
    }
    return said[kind]


def _run(run: ScheduledRun) -> dict[str, Any]:
    return {
        "slot": run.slot,
        "kind": run.kind.value,
        "status": run.status.value,
        "late": run.late and run.kind != "backfill",
        "run": run.run,
        "why": run.error or run.reason,
        "parameters": msgspec.json.encode(run.parameters).decode() if run.parameters else "",
        "ended_at": run.ended_at,
    }


def _about(one: Schedule) -> list[tuple[str, str]]:
    return [
        ("Pipeline", one.pipeline),
        ("Folder", one.directory or "the worker's own"),
        ("Parameters", msgspec.json.encode(one.params).decode() if one.params else "none"),
        ("Runs at once", f"{one.runs_max}; beyond that: {one.beyond.value}"),
        ("Catch-up", f"{one.catch_up.value}, at most {one.catch_up_max} slots"),
        ("Missed after", f"{one.start_within_s} s"),
        ("Made by", one.created_by),
    ]
