"""REST face of schedules."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from everline.access.types import ALL_PROJECTS, Actor, Role
from everline.errors import InvalidInputError
from everline.pipelines.schedules import asking, service
from everline.pipelines.schedules.types import (
    Backfill,
    Beyond,
    CatchUp,
    Schedule,
    ScheduleDetail,
    ScheduledRun,
    ScheduleSpec,
    Trigger,
    WebhookSecret,
)
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="schedules")

HOOK = Actor(uid="webhook", name="webhook", roles={ALL_PROJECTS: frozenset({Role.CONTRIBUTOR})})
"""Who acts when another program shows a schedule's secret."""


class ChangeSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall be other; what is left out stays."""

    pipeline: str | UnsetType = UNSET
    trigger: Trigger | UnsetType = UNSET
    directory: str | UnsetType | None = UNSET
    params: dict[str, Any] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    runs_max: int | UnsetType = UNSET
    beyond: Beyond | UnsetType = UNSET
    catch_up: CatchUp | UnsetType = UNSET
    catch_up_max: int | UnsetType = UNSET
    start_within_s: int | UnsetType = UNSET


class RunNow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run at once; `params` go before the schedule's own, and the same `key` gives the same run."""

    params: dict[str, Any] = {}
    reason: str = ""
    key: str | None = None


class AskBackfill(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A range of slots, both ends within: times or dates, without an offset on the schedule's own clocks."""

    start: str
    end: str
    failed: bool = False


class DeleteReason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it goes; kept in the audit log."""

    reason: str = ""


@routes.get("/schedules", returns=Page[Schedule])
def list_schedules(request: Request) -> Page[Schedule]:
    """List the project's schedules by name."""
    limit = request.limit
    with begin(request) as uow:
        found = service.list_schedules(uow, request.project, limit=limit, after=request.query("cursor", str, ""))
    return Page(items=found, next=found[-1].name if len(found) == limit else None)


@routes.post("/schedules", body=ScheduleSpec, returns=Schedule, status=201)
def create(request: Request) -> Schedule:
    """Create a schedule."""
    body = decode(ScheduleSpec, request)
    with begin(request) as uow:
        return service.create_schedule(uow, request.project, body)


@routes.get("/schedules/{name}", returns=ScheduleDetail)
def show(request: Request) -> ScheduleDetail:
    """Show a schedule with its coming slots and its newest runs."""
    with begin(request) as uow:
        return service.show_schedule(
            uow, request.project, request.path["name"], coming=request.query("coming", int, 5), limit=request.limit
        )


@routes.put("/schedules/{name}", body=ScheduleSpec, returns=Schedule)
def put(request: Request) -> Schedule:
    """Create a schedule or make it as said; the same again is no change."""
    body = decode(ScheduleSpec, request)
    if body.name != request.path["name"]:
        raise InvalidInputError(
            f"The body speaks of {body.name[:80]!r}, the address of {request.path['name'][:80]!r}.",
            hint="Write the same name in both.",
            field="name",
        )
    with begin(request) as uow:
        return service.put_schedule(uow, request.project, body)


@routes.patch("/schedules/{name}", body=ChangeSchedule, returns=Schedule)
def change(request: Request) -> Schedule:
    """Change a schedule."""
    body = decode(ChangeSchedule, request)
    given = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    with begin(request) as uow:
        return service.change_schedule(uow, request.project, request.path["name"], given)


@routes.delete("/schedules/{name}", body=DeleteReason)
def delete(request: Request) -> None:
    """Delete a schedule; its history stays in the audit log."""
    body = decode(DeleteReason, request)
    with begin(request) as uow:
        service.delete_schedule(uow, request.project, request.path["name"], reason=body.reason)


@routes.post("/schedules/{name}/pause", returns=Schedule)
def pause(request: Request) -> Schedule:
    """Pause a schedule: only people, programs that ask for a run, and backfills set it going."""
    with begin(request) as uow:
        return service.set_enabled(uow, request.project, request.path["name"], enabled=False)


@routes.post("/schedules/{name}/resume", returns=Schedule)
def resume(request: Request) -> Schedule:
    """Let a schedule go on, from now."""
    with begin(request) as uow:
        return service.set_enabled(uow, request.project, request.path["name"], enabled=True)


@routes.get("/schedules/{name}/runs", returns=Page[ScheduledRun])
def list_runs(request: Request) -> Page[ScheduledRun]:
    """List what a schedule asked for, the newest first."""
    limit, before = request.limit, request.query("cursor", str, None)
    with begin(request) as uow:
        found = service.list_runs(uow, request.project, request.path["name"], limit=limit, before=before)
    return Page(items=found, next=found[-1].uid if len(found) == limit else None)


@routes.post("/schedules/{name}/run", body=RunNow, returns=ScheduledRun, status=201)
def run(request: Request) -> ScheduledRun:
    """Ask for a run at once."""
    body = decode(RunNow, request)
    with begin(request) as uow:
        return asking.run_now(
            uow, request.project, request.path["name"], params=body.params, reason=body.reason, key=body.key
        )


@routes.post("/schedules/{name}/backfill", body=AskBackfill, returns=Backfill)
def backfill(request: Request) -> Backfill:
    """Run each slot of a range that has no run yet."""
    body = decode(AskBackfill, request)
    with begin(request) as uow:
        return asking.backfill(
            uow, request.project, request.path["name"], start=body.start, end=body.end, failed=body.failed
        )


@routes.post("/schedules/{name}/secret", returns=WebhookSecret, status=201)
def secret(request: Request) -> WebhookSecret:
    """Give out a new secret for the schedule's address; the one before is worthless from now on."""
    with begin(request) as uow:
        return service.give_secret(uow, request.project, request.path["name"])


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What another program is told: that its call gave a run, and how that stands."""

    scheduled_run: str
    status: str


@routes.post("/hooks/{schedule}", returns=Taken, status=202, public=True)
def hook(request: Request) -> Taken:
    """Set a schedule going, by whoever knows its secret; the body is JSON or nothing."""
    with request.app.begin(HOOK) as uow:
        found = asking.receive(uow, request.path["schedule"], headers=request.headers, body=request.body)
    return Taken(scheduled_run=found.uid, status=found.status.value)
