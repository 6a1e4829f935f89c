"""Pages of pipelines: all that have run with their last runs, and one with the time of its steps over its runs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from starlette.responses import Response

from everline.errors import NotFoundError
from everline.pipelines import history
from everline.pipelines.history import PastRun
from everline.pipelines.schedules import service as schedules
from everline.pipelines.schedules.types import Schedule
from everline.server.console import files, pages
from everline.server.console.run import steps
from everline.server.console.view import folding, past, render
from everline.server.http import Request, begin

routes = pages.console_routes()
RUNS_SHOWN = 30


@routes.get("/pipelines")
def list_pipelines(request: Request) -> Response:
    """Every pipeline that has run, and when it runs next."""
    with begin(request) as uow:
        found = history.list_past(uow, request.project, runs=past.SQUARES)
        coming = _coming(schedules.list_schedules(uow, request.project))
    href = partial(_run_address, request)
    rows = [
        {
            "name": one.name,
            "href": render.path("pipelines", one.name, project=request.project),
            "total": one.total,
            "squares": past.squares(one.runs, href),
            "said": _said(one.runs),
            "rate": past.success_rate(one.runs),
            "took": past.median_seconds(one.runs),
            "cached": _cached_share(one.runs),
            "last": one.runs[0],
            "state": past.state_of(one.runs[0]),
            "next": coming.get(one.name),
        }
        for one in found
    ]
    return pages.page(
        request, "pipelines.html", title="Pipelines", section="pipelines", pipelines=rows, scheduled=bool(coming)
    )


@routes.get("/pipelines/{pipeline:path}/steps.svg")
def save_picture(request: Request) -> Response:
    """How long the steps of the last runs took, as an SVG file that stands by itself."""
    _, drawn, _ = _look(request)
    if drawn is None:
        raise NotFoundError("There is nothing to draw yet.", hint="Wait for a step that is computed.", field="pipeline")
    content = steps.xml(render.render("picture.svg", {"graph": None, "timeline": None, "stacked": drawn}))
    headers = {**files.SAFE, "content-disposition": 'attachment; filename="steps.svg"'}
    return Response(content, media_type="application/octet-stream", headers=headers)


@routes.get("/pipelines/{pipeline:path}")
def show_pipeline(request: Request) -> Response:
    """One pipeline: its last runs, how long their steps took, and which of them got slower."""
    one, drawn, over_time = _look(request)
    return pages.page(
        request,
        "pipeline.html",
        title=one.name,
        section="pipelines",
        name=one.name,
        total=one.total,
        runs=[_run(request, run) for run in one.runs],
        rate=past.success_rate(one.runs),
        took=past.median_seconds(one.runs),
        cached=_cached_share(one.runs),
        stacked=drawn,
        steps=over_time,
        slower=[step.name for step in over_time if step.slower],
        picture=render.path("pipelines", one.name, "steps.svg", project=request.project),
    )


def _coming(known: Iterable[Schedule]) -> dict[str, Schedule]:
    """By pipeline, the schedule that comes next."""
    timed = [(one.next_at, one.name, one) for one in known if one.next_at is not None]
    return {one.pipeline: one for _, _, one in sorted(timed, key=lambda item: item[:2], reverse=True)}


def _look(request: Request) -> tuple[history.PipelinePast, past.Stacked | None, list[past.StepPast]]:
    name = request.path["pipeline"]
    with begin(request) as uow:
        found = history.list_past(uow, request.project, pipeline=name, runs=RUNS_SHOWN)
        if not found:
            raise NotFoundError(
                f"No pipeline {name[:200]!r} has run.", hint="The page of all pipelines lists those that have.",
                field="pipeline",
            )  # fmt: skip
        spans = history.list_spans(uow, request.project, runs=[run.run for run in found[0].runs])
    runs = found[0].runs
    return found[0], past.stacked(runs, spans, partial(_run_address, request)), past.steps(runs, spans)


def _run(request: Request, run: PastRun) -> dict[str, Any]:
    state = past.state_of(run)
    return {
        "run": run.run, "name": run.name, "href": _run_address(request, run.run), "state": state,
        "word": folding.words(state), "started_at": run.started_at, "took": run.seconds,
        "cached": run.cached_share, "steps": sum(run.steps.values()), "parts": folding.shares(run.steps, 100.0),
        "said": folding.counted(run.steps),
    }  # fmt: skip


def _run_address(request: Request, run: str) -> str:
    return render.path("runs", run, project=request.project)


def _said(runs: list[PastRun]) -> str:
    """The squares in words, for who does not see them."""
    return "The last runs, the oldest first: " + ", ".join(past.state_of(run) for run in runs[: past.SQUARES][::-1])


def _cached_share(runs: list[PastRun]) -> float | None:
    cached = sum(run.steps.get("cached", 0) for run in runs)
    ran = sum(run.steps.get("succeeded", 0) for run in runs)
    return cached / (cached + ran) if cached + ran else None
