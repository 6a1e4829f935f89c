"""REST face of delivery as code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from everline.access.types import Permission
from everline.delivery import history, pipelines, service
from everline.delivery.types import (
    ApplyRequest,
    Drifted,
    Pipeline,
    Plan,
    PlanRequest,
    Problem,
    Record,
    Source,
    Stack,
)
from everline.errors import EverlineError
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="delivery")
_STANDS_FOR = "https://example.com/"
"""For variables that were not sent: what is tried out is taken back, so that only its form counts."""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What an application did; `record` is null if everything was as declared already."""

    record: Record | None


class RunPipeline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters that replace those that are declared, and why the run is asked for."""

    params: dict[str, Any] = {}
    reason: str = ""


class Queued(msgspec.Struct, frozen=True, kw_only=True):
    """The job that a worker takes."""

    job: str


class _TakenBackError(Exception):
    pass


@routes.post("/delivery/plan", body=PlanRequest, returns=Plan)
def plan(request: Request) -> Plan:
    """Say what applying a file would do, and try it out: everything is done in a transaction that is taken back."""
    body = decode(PlanRequest, request)
    with request.app.begin(request.actor, read_only=True) as uow:
        made = service.plan(uow, body.source, project=request.project, environment=body.environment)
    may_write = request.actor.may(Permission.DELIVERY_WRITE, request.project)
    if made.changes and may_write and not made.missing:
        made = msgspec.structs.replace(made, problem=_try_out(request, body.source, body.environment, made))
    if made.changes and may_write and body.keep:
        with begin(request) as uow:
            made = msgspec.structs.replace(made, kept=history.keep_plan(uow, made, project=request.project))
    return made


@routes.post("/delivery/apply", body=ApplyRequest, returns=Applied)
def apply(request: Request) -> Applied:
    """Make everything as a file declares it, in one transaction; with a plan, only if it is still true."""
    body = decode(ApplyRequest, request)
    with begin(request) as uow:
        record = service.apply(
            uow, body.source, project=request.project, environment=body.environment, expected=body.plan
        )
    return Applied(record=record)


@routes.get("/delivery/stacks", returns=Page[Stack])
def list_stacks(request: Request) -> Page[Stack]:
    """List the files that were applied."""
    with begin(request) as uow:
        return Page(items=service.list_stacks(uow, project=request.project))


@routes.get("/delivery/drift", returns=Page[Drifted])
def drift(request: Request) -> Page[Drifted]:
    """Show everything that is declared beside what is, what drifted first."""
    stack = request.query("stack", str, None)
    with begin(request) as uow:
        return Page(items=service.drift(uow, project=request.project, stack=stack))


@routes.get("/delivery/history", returns=Page[Record])
def list_records(request: Request) -> Page[Record]:
    """List plans and applications, the newest first, without their changes."""
    limit = request.limit
    with begin(request) as uow:
        items = history.list_records(
            uow,
            project=request.project,
            stack=request.query("stack", str, None),
            before=request.query("cursor", str, None),
            limit=limit,
        )
    return Page(items=items, next=items[-1].uid if len(items) == limit else None)


@routes.get("/delivery/history/{record}", returns=Record)
def get_record(request: Request) -> Record:
    """Show one plan or application with its changes."""
    with begin(request) as uow:
        return history.get_record(uow, request.path["record"], project=request.project)


@routes.get("/delivery/pipelines", returns=Page[Pipeline])
def list_pipelines(request: Request) -> Page[Pipeline]:
    """List the pipelines that are declared under a name."""
    with begin(request) as uow:
        return Page(items=pipelines.list_pipelines(uow, project=request.project))


@routes.post("/delivery/pipelines/{name}/run", body=RunPipeline, returns=Queued, status=202)
def run_pipeline(request: Request) -> Queued:
    """Leave a run of a declared pipeline to the next worker."""
    body = decode(RunPipeline, request)
    with begin(request) as uow:
        name, project = request.path["name"], request.project
        return Queued(job=pipelines.run_pipeline(uow, name, project=project, params=body.params, reason=body.reason))


def _try_out(request: Request, source: Source, environment: Mapping[str, str], made: Plan) -> Problem | None:
    known = dict.fromkeys(made.variables, _STANDS_FOR) | dict(environment)
    try:
        with request.app.begin(request.actor) as uow:
            service.apply(uow, source, project=request.project, environment=known)
            raise _TakenBackError
    except _TakenBackError:
        return None
    except EverlineError as error:
        return Problem(message=error.message, hint=error.hint)
