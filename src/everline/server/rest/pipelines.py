"""REST face of pipelines: step records, kept results, triggers."""

from __future__ import annotations

from typing import Any

import msgspec

from everline.pipelines import service
from everline.pipelines.types import CacheEntry, KeyMaterial, PipelineSummary, RecordSteps, StepRecord
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="pipelines")


class Lookup(msgspec.Struct, forbid_unknown_fields=True):
    """Step keys whose kept results are wanted."""

    keys: list[str]


class Found(msgspec.Struct, frozen=True):
    """The kept results; keys without one are left out."""

    entries: list[CacheEntry]


class Trigger(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A pipeline run that is left to a worker."""

    pipeline: str
    directory: str
    parameters: dict[str, Any] = {}
    reason: str = "asked for by API"
    key: str | None = None


class Triggered(msgspec.Struct, frozen=True):
    """The job, or null if its key was there already."""

    job: str | None


@routes.get("/pipelines", returns=Page[PipelineSummary])
def list_pipelines(request: Request) -> Page[PipelineSummary]:
    """List the pipelines that have run."""
    with begin(request) as uow:
        return Page(items=service.list_pipelines(uow, request.project, limit=request.limit))


@routes.get("/pipelines/runs/{run}/steps", returns=Page[StepRecord])
def list_steps(request: Request) -> Page[StepRecord]:
    """List the steps of a run in the order of its graph."""
    with begin(request) as uow:
        return Page(items=service.list_steps(uow, request.project, request.path["run"]))


@routes.post("/pipelines/runs/{run}/steps", body=RecordSteps)
def record_steps(request: Request) -> None:
    """Report how steps of a run stand."""
    body = decode(RecordSteps, request)
    with begin(request) as uow:
        service.record_steps(uow, request.project, request.path["run"], report=body)


@routes.get("/pipelines/materials", returns=dict[str, KeyMaterial])
def last_materials(request: Request) -> dict[str, KeyMaterial]:
    """Say what each step of a pipeline depended on when it last ended well."""
    with begin(request) as uow:
        return service.last_materials(uow, request.project, pipeline=request.query("pipeline", str))


@routes.post("/pipelines/cache/lookup", body=Lookup, returns=Found)
def lookup(request: Request) -> Found:
    """Look up kept results by step key."""
    body = decode(Lookup, request)
    with request.app.begin(request.actor, read_only=True) as uow:
        return Found(service.lookup(uow, request.project, keys=body.keys))


@routes.post("/pipelines/trigger", body=Trigger, returns=Triggered, status=201)
def trigger(request: Request) -> Triggered:
    """Leave a pipeline run to the next worker."""
    body = decode(Trigger, request)
    with begin(request) as uow:
        return Triggered(
            service.trigger(
                uow,
                request.project,
                pipeline=body.pipeline,
                directory=body.directory,
                parameters=body.parameters,
                reason=body.reason,
                key=body.key,
            )
        )
