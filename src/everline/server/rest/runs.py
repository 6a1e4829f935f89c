"""REST face of runs and experiments."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
from starlette.responses import Response, StreamingResponse

from everline.errors import InvalidInputError
from everline.runs import artifacts, comparing, curves, experiments, filters, search, service, streaming, tracking
from everline.runs.columns import StreamAnswer, decode_body
from everline.runs.types import (
    Artifact,
    CodeDifference,
    Comparison,
    CreateRun,
    Curves,
    Difference,
    Experiment,
    FinishRun,
    Metric,
    MetricHistory,
    Run,
    RunInput,
    RunOutput,
    RunStatus,
    TrackedRun,
    View,
    to_ms,
)
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="runs")


class SearchRuns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A search: conditions and sort keys in MLflow's language, in the named experiments or in all."""

    filter: str = ""
    order_by: list[str] = []
    experiments: list[str] = []
    view: View = View.ACTIVE
    limit: int = 100
    cursor: str | None = None


class LoggedMetric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A measured value on the wire, where JSON has no NaN and no infinities."""

    key: str
    value: float | Literal["NaN", "Infinity", "-Infinity"]
    at_ms: int
    step: int = 0


class LogBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged at once."""

    metrics: list[LoggedMetric] = []
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    inputs: list[RunInput] = []
    outputs: list[RunOutput] = []


class Record(msgspec.Struct, frozen=True):
    """Where a run's record is kept."""

    digest: str


class NameArtifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kept blob that becomes a file of a run."""

    path: str
    digest: str


@routes.post("/runs", body=CreateRun, returns=Run, status=201)
def create_run(request: Request) -> Run:
    """Start a run."""
    body = decode(CreateRun, request)
    with begin(request) as uow:
        return service.create_run(
            uow,
            request.project,
            experiment=body.experiment,
            name=body.name,
            pipeline=body.pipeline,
            params=body.params,
            tags=body.tags,
            started_ms=None if body.started_at is None else to_ms(body.started_at),
            uid=body.run,
        ).public()


@routes.get("/runs", returns=Page[Run])
def list_runs(request: Request) -> Page[Run]:
    """List the newest runs, of one experiment, pipeline or status if asked."""
    with begin(request) as uow:
        found, after = service.list_runs(
            uow,
            request.project,
            experiment=request.query("experiment", str, None),
            pipeline=request.query("pipeline", str, None),
            status=request.query("status", RunStatus, None),
            limit=request.limit,
            offset=filters.page_offset(request.query("cursor", str, None)),
        )
    return _page(found, after)


@routes.post("/runs/search", body=SearchRuns, returns=Page[Run])
def search_runs(request: Request) -> Page[Run]:
    """Search runs by metrics, parameters, tags, datasets and attributes."""
    body = decode(SearchRuns, request)
    with request.app.begin(request.actor, read_only=True) as uow:
        numbers = experiments.numbers(uow, request.project, body.experiments)
        found, after = search.search_runs(
            uow,
            request.project,
            experiments=numbers,
            filter=body.filter,
            order_by=body.order_by,
            view=body.view,
            limit=body.limit,
            offset=filters.page_offset(body.cursor),
        )
    return _page(found, after)


@routes.get("/runs/compare", returns=Comparison)
def compare_runs(request: Request) -> Comparison:
    """Put runs side by side: `?runs=UID,UID`."""
    uids = request.query("runs", str)
    with begin(request) as uow:
        return service.compare_runs(uow, request.project, [uid for uid in uids.split(",") if uid])


@routes.get("/runs/curves", returns=Curves)
def metric_curves(request: Request) -> Curves:
    """Return curves to draw: `?runs=UID,UID&key=loss&key=auc&points=500`; long histories are thinned."""
    uids = [uid for uid in request.query("runs", str).split(",") if uid]
    keys = request.raw.query_params.getlist("key")
    points = request.query("points", int, curves.POINTS_DEFAULT)
    with begin(request) as uow:
        return curves.metric_curves(uow, request.project, uids, keys, points=points)


@routes.get("/runs/compare/code", returns=CodeDifference)
def compare_code(request: Request) -> CodeDifference:
    """Show the difference of the recorded source files of two runs: `?runs=BEFORE,AFTER`."""
    uids = [uid for uid in request.query("runs", str).split(",") if uid]
    if len(uids) != 2:
        raise InvalidInputError(f"Code is compared between two runs, not {len(uids)}.", field="runs")
    with begin(request) as uow:
        return comparing.compare_code(uow, request.project, uids[0], uids[1])


@routes.get("/runs/compare/packages", returns=list[Difference])
def compare_packages(request: Request) -> list[Difference]:
    """Put the installed distributions of runs side by side: `?runs=UID,UID`."""
    uids = [uid for uid in request.query("runs", str).split(",") if uid]
    with begin(request) as uow:
        return comparing.compare_packages(uow, request.project, uids)


@routes.get("/runs/{run}", returns=Run)
def get_run(request: Request) -> Run:
    """Return a run."""
    with begin(request) as uow:
        return service.get_run(uow, request.project, request.path["run"]).public()


@routes.post("/runs/{run}/batch", body=LogBatch)
def log_batch(request: Request) -> None:
    """Log metrics, parameters, tags, inputs and outputs at once, all or nothing."""
    body = decode(LogBatch, request)
    metrics = [Metric(key=item.key, value=float(item.value), at_ms=item.at_ms, step=item.step) for item in body.metrics]
    with begin(request) as uow:
        tracking.log_batch(
            uow,
            request.project,
            request.path["run"],
            metrics=metrics,
            params=body.params,
            tags=body.tags,
            inputs=body.inputs,
            outputs=body.outputs,
        )


@routes.post("/runs/{run}/stream", body=bytes, returns=StreamAnswer)
def append_to_stream(request: Request) -> StreamAnswer:
    """Take what `everline.run()` logs: columns of points in MessagePack, each batch once however often it comes."""
    body = decode_body(request.body)
    with begin(request) as uow:
        return streaming.append(uow, request.project, request.path["run"], stream=body.stream, batches=body.batches)


@routes.post("/runs/{run}/finish", body=FinishRun, returns=Run)
def finish_run(request: Request) -> Run:
    """End a run."""
    body = decode(FinishRun, request)
    with begin(request) as uow:
        return service.finish_run(
            uow,
            request.project,
            request.path["run"],
            status=body.status,
            ended_ms=None if body.ended_at is None else to_ms(body.ended_at),
        ).public()


@routes.delete("/runs/{run}")
def delete_run(request: Request) -> None:
    """Hide a run; `restore` brings it back."""
    with begin(request) as uow:
        service.delete_run(uow, request.project, request.path["run"])


@routes.post("/runs/{run}/restore")
def restore_run(request: Request) -> None:
    """Bring a deleted run back."""
    with begin(request) as uow:
        service.restore_run(uow, request.project, request.path["run"])


@routes.put("/runs/{run}/record", body=dict[str, Any], returns=Record)
def set_record(request: Request) -> Record:
    """Keep what is needed to do the run again; it never changes afterwards."""
    body = decode(dict[str, Any], request)
    with begin(request) as uow:
        return Record(service.set_record(uow, request.project, request.path["run"], body))


@routes.get("/runs/{run}/record", returns=dict[str, Any])
def get_record(request: Request) -> dict[str, Any]:
    """Return what is needed to do the run again."""
    with begin(request) as uow:
        return service.get_record(uow, request.project, request.path["run"])


@routes.get("/runs/{run}/metrics", returns=MetricHistory)
def metric_history(request: Request) -> MetricHistory:
    """Return the points of one metric in order of time: `?key=auc`."""
    key = request.query("key", str)
    with begin(request) as uow:
        points, after = tracking.metric_history(
            uow,
            request.project,
            request.path["run"],
            key,
            limit=request.query("limit", int, 100_000),
            offset=filters.page_offset(request.query("cursor", str, None)),
        )
    return MetricHistory(
        key=key,
        steps=[point.step for point in points],
        at_ms=[point.at_ms for point in points],
        values=[None if math.isnan(point.value) else point.value for point in points],
        next=None if after is None else filters.page_token(after),
    )


@routes.get("/runs/{run}/artifacts", returns=Page[Artifact])
def list_artifacts(request: Request) -> Page[Artifact]:
    """List files and folders directly below `?path=`."""
    with begin(request) as uow:
        path = request.query("path", str, "")
        return Page(items=artifacts.list_artifacts(uow, request.project, request.path["run"], path=path))


@routes.put("/runs/{run}/artifacts", body=NameArtifact, returns=Artifact, status=201)
def put_artifact(request: Request) -> Artifact:
    """Name a kept blob as a file of a run."""
    body = decode(NameArtifact, request)
    with begin(request) as uow:
        return artifacts.put_artifact(uow, request.project, request.path["run"], body.path, digest=body.digest)


@routes.get("/runs/{run}/artifacts/content", returns=bytes)
def get_artifact(request: Request) -> Response:
    """Stream the file at `?path=`."""
    with begin(request) as uow:
        found = artifacts.get_artifact(uow, request.project, request.path["run"], request.query("path", str))
    return stream_artifact(request, found)


@routes.get("/experiments", returns=Page[Experiment])
def list_experiments(request: Request) -> Page[Experiment]:
    """List experiments, the newest first."""
    with begin(request) as uow:
        found, after = search.search_experiments(
            uow,
            request.project,
            limit=request.limit,
            offset=filters.page_offset(request.query("cursor", str, None)),
        )
    return Page(items=found, next=None if after is None else filters.page_token(after))


def stream_artifact(request: Request, found: Artifact) -> Response:
    """A file as it is; never run or shown by a browser as a page of ours."""
    if found.digest is None:
        raise InvalidInputError(f"{found.path!r} is a folder.", hint="Name a file.", field="path")
    headers = {
        "Content-Length": str(found.bytes),
        "ETag": f'"{found.digest}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": "attachment",
    }
    return StreamingResponse(
        request.app.blobs.stream(found.digest), media_type="application/octet-stream", headers=headers
    )


def _page(found: list[TrackedRun], after: int | None) -> Page[Run]:
    return Page(items=[run.public() for run in found], next=None if after is None else filters.page_token(after))
