"""REST face of pipelines: step records, kept results, triggers."""

from __future__ import annotations

from typing import Any

import msgspec

from everline.pipelines import approvals, running, service
from everline.pipelines.types import (
    ApprovalRecord,
    Asked,
    CacheEntry,
    Orders,
    PipelineRun,
    PipelineSummary,
    PrintedPiece,
    Recent,
    RecordSteps,
    Started,
    StartRun,
    StepRecord,
)
from everline.pipelines.values import Approval
from everline.runs.types import RunStatus
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


class StopRun(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A driver's last word on a run: how it ended, or `scheduled` if it waits for people."""

    epoch: int
    status: RunStatus


class Answered(msgspec.Struct, frozen=True):
    """The answer to a question, or null."""

    answer: Approval | None


class Answer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a person says to a question of a run."""

    step: str
    approved: bool
    reason: str = ""


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


@routes.post("/pipelines/runs/{run}/steps", body=RecordSteps, returns=Orders)
def record_steps(request: Request) -> Orders:
    """Report how steps of a run stand, or only that its driver is alive; hear whether to go on."""
    body = decode(RecordSteps, request)
    # What is told here survives the death of every process; after a power cut the last steps run again.
    with request.app.begin(request.actor, power_safe=False) as uow:
        return service.record_steps(uow, request.project, request.path["run"], report=body)


@routes.get("/pipelines/runs/{run}", returns=PipelineRun)
def get_run(request: Request) -> PipelineRun:
    """Return a run of a pipeline with its driver and plan."""
    with begin(request) as uow:
        return running.get(uow, request.project, request.path["run"])


@routes.post("/pipelines/runs/{run}/start", body=StartRun, returns=Started)
def start_run(request: Request) -> Started:
    """Become the driver of a run."""
    body = decode(StartRun, request)
    with begin(request) as uow:
        return running.start(uow, request.project, request.path["run"], body=body)


@routes.post("/pipelines/runs/{run}/stop", body=StopRun)
def stop_run(request: Request) -> None:
    """Be done with a run."""
    body = decode(StopRun, request)
    with begin(request) as uow:
        running.stop(uow, request.project, request.path["run"], epoch=body.epoch, status=body.status)


@routes.post("/pipelines/runs/{run}/cancel", returns=PipelineRun)
def cancel_run(request: Request) -> PipelineRun:
    """Have a run stopped at once."""
    with begin(request) as uow:
        return running.cancel(uow, request.project, request.path["run"])


@routes.get("/pipelines/runs/{run}/output", returns=Page[PrintedPiece])
def read_output(request: Request) -> Page[PrintedPiece]:
    """Return what a step printed, piece by piece."""
    step, after = request.query("step", str), request.query("after", str, "")
    with begin(request) as uow:
        return Page(
            items=running.output(uow, request.project, request.path["run"], step=step, after=after, limit=request.limit)
        )


@routes.post("/pipelines/runs/{run}/questions", body=Asked, returns=Answered)
def ask(request: Request) -> Answered:
    """Ask people a question, or look for its answer."""
    body = decode(Asked, request)
    with begin(request) as uow:
        return Answered(approvals.ask(uow, request.project, request.path["run"], asked=body))


@routes.post("/pipelines/runs/{run}/answers", body=Answer, returns=ApprovalRecord)
def answer(request: Request) -> ApprovalRecord:
    """Answer a question of a run."""
    body = decode(Answer, request)
    with begin(request) as uow:
        return approvals.answer(
            uow, request.project, request.path["run"], step=body.step, approved=body.approved, reason=body.reason
        )


@routes.get("/pipelines/approvals", returns=Page[ApprovalRecord])
def list_approvals(request: Request) -> Page[ApprovalRecord]:
    """List the questions that runs ask people."""
    with begin(request) as uow:
        return Page(
            items=approvals.list_approvals(
                uow, request.project, run=request.query("run", str, None),
                open_only=request.query("open", bool, False), limit=request.limit,
            )
        )  # fmt: skip


@routes.get("/pipelines/recent", returns=Recent)
def recent(request: Request) -> Recent:
    """Say what the steps of a pipeline depended on when they last ended well, and which of their results are kept."""
    with begin(request) as uow:
        return service.recent(uow, request.project, pipeline=request.query("pipeline", str))


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
