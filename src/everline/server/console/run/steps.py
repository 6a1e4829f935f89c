"""The steps of a run: when each was at work, why it ran, what it printed, and what it failed with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from everline.access.unit_of_work import UnitOfWork
from everline.errors import NotFoundError
from everline.pipelines import history, running
from everline.pipelines.history import Outline
from everline.pipelines.types import PrintedPiece, StepRecord
from everline.runs import service
from everline.runs.types import TrackedRun
from everline.server.console import files, pages
from everline.server.console.run import frame, pipeline
from everline.server.console.view import folding, render, terminal
from everline.server.http import Request, begin, json_response

routes = pages.console_routes()
STEPS_PER_PAGE = 100
_FIRST = {state: place for place, state in enumerate(("failed", "waiting", "running"))}
OUTPUT_SHOWN = 200_000
"""Characters of a step's output on its page: the last ones."""
PIECES_PER_LOOK = 500
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_PICTURES = ("graph", "timeline")


@routes.get("/runs/{run}/steps")
def show_steps(request: Request) -> Response:
    """Graph, timeline and table of a run's steps: what needs eyes first, then in the order of the graph.

    `?of=` shows the calls of one step, `?state=` and `?q=` narrow it.
    """
    with begin(request) as uow:
        run, shown = _gather(uow, request)
    state, of = request.query("state", str, ""), request.query("of", str, "")
    wanted = request.query("q", str, "").casefold()[:200]
    number = max(0, min(request.query("page", int, 0), 10_000))
    rows = [
        *_rows(run, shown.steps),
        *(_row(run, one, folding.LOST) for one in shown.lost),
        *_planned(shown),
    ]
    fit = [
        row
        for row in rows
        if (not state or row["state"] == state)
        and (not of or folding.belongs(row["name"], of))
        and wanted in row["name"].casefold()
    ]
    chosen = {"state": state, "of": of, "q": wanted}
    fit.sort(key=lambda row: _FIRST.get(row["state"], len(_FIRST)))
    first = number * STEPS_PER_PAGE
    return frame.page(
        request,
        "run_steps.html",
        run,
        here="steps",
        live=shown.is_at_work,
        pipeline=pipeline.view(request, run, shown),
        timeline=pipeline.draw_timeline(run, shown),
        steps=fit[first : first + STEPS_PER_PAGE],
        found=len(fit),
        first=first + 1,
        total=len(rows),
        left=max(0, shown.total - len(shown.steps) - len(shown.lost)),
        chosen=chosen,
        before=_address(run, page=number - 1 or None, **chosen) if number else None,
        after=_address(run, page=number + 1, **chosen) if first + STEPS_PER_PAGE < len(fit) else None,
    )


@routes.get("/runs/{run}/steps/{step}")
def show_step(request: Request) -> Response:
    """One step: what it was made of, why it ran, how it ended, and the end of what it printed."""
    with begin(request) as uow:
        run, shown = _gather(uow, request)
        step = history.get_step(uow, run.project, run.run, request.path["step"])
        tail = history.tail(uow, run.project, run.run, step=step.uid, characters=OUTPUT_SHOWN)
    live = step.ended_at is None and shown.is_at_work
    state = folding.LOST if any(one.uid == step.uid for one in shown.lost) else step.status.value
    uids = {one.name: one.uid for one in shown.steps}
    text = "".join(piece.text for piece in tail.pieces)
    done, _, unfinished = text.rpartition("\n")
    return frame.page(
        request,
        "run_step.html",
        run,
        here="steps",
        live=live,
        step=step,
        state=state,
        problem=_problem(step),
        facts=_facts(step),
        needs=[(name, _page_of(run, uids[name]) if name in uids else None) for name in step.needs],
        takers=[(one.name, _page_of(run, one.uid)) for one in shown.steps if step.name in one.needs][:20],
        inputs=_inputs(step),
        cached_from=render.path("runs", step.cached_from, project=run.project) if step.cached_from else None,
        output=terminal.plain(f"{done}\n" if done or text.startswith("\n") else ""),
        unfinished=terminal.plain(unfinished),
        unfinished_raw=unfinished,
        cut=tail.cut,
        last=tail.pieces[-1].uid if tail.pieces else "",
        more=render.path("runs", run.run, "steps", step.uid, "output.json", project=run.project),
        whole=render.path("runs", run.run, "steps", step.uid, "output.txt", project=run.project),
    )


@routes.get("/runs/{run}/steps/{step}/output.json")
def more_output(request: Request) -> Response:
    """What a step printed after the piece `?after=`, as it is, and whether there may come more."""
    with begin(request) as uow:
        step = history.get_step(uow, request.project, request.path["run"], request.path["step"])
        pieces = _pieces(uow, request, step, after=request.query("after", str, "")[:64])
        run = service.get_run(uow, request.project, step.run)
    ended = step.ended_at is not None or run.status.is_terminal
    answer = {
        "text": "".join(piece.text for piece in pieces),
        "last": pieces[-1].uid if pieces else None,
        "ended": ended and len(pieces) < PIECES_PER_LOOK,
    }
    response = json_response(answer)
    response.headers.update({**render.HEADERS, "cache-control": "no-store"})
    return response


@routes.get("/runs/{run}/steps/{step}/output.txt")
def download_output(request: Request) -> Response:
    """All that is kept of what a step printed, byte for byte, to be saved."""
    found: list[str] = []
    with begin(request) as uow:
        step = history.get_step(uow, request.project, request.path["run"], request.path["step"])
        pieces = _pieces(uow, request, step, after="")
        while pieces:  # a step's output is bounded by `step_output_bytes_max`
            found += [piece.text for piece in pieces]
            pieces = _pieces(uow, request, step, after=pieces[-1].uid)
    return _download("".join(found).encode(errors="replace"), f"output-{step.uid}.txt")


@routes.get("/runs/{run}/pictures/{picture}")
def save_picture(request: Request) -> Response:
    """The graph or the timeline of a run as an SVG file that stands by itself: `graph.svg`, `timeline.svg`."""
    name = request.path["picture"].removesuffix(".svg")
    if name not in _PICTURES:
        raise NotFoundError("There is no such picture.", hint="There are graph.svg and timeline.svg.", field="picture")
    with begin(request) as uow:
        run, shown = _gather(uow, request)
    drawn: Any = pipeline.draw_graph(run, shown) if name == "graph" else pipeline.draw_timeline(run, shown)
    if drawn is None:
        raise NotFoundError("There is nothing to draw yet.", hint="Wait for the first step.", field="picture")
    text = render.render("picture.svg", {"graph": drawn if name == "graph" else None, "timeline": drawn})
    return _download(xml(text), f"{name}-{run.run}.svg")


def xml(text: str) -> bytes:
    """Text without the characters that no XML file may have."""
    return _NOT_XML.sub("", text).encode(errors="ignore")


def _download(content: bytes, name: str) -> Response:
    headers = {**files.SAFE, "content-disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="application/octet-stream", headers=headers)


def _gather(uow: UnitOfWork, request: Request) -> tuple[TrackedRun, pipeline.Shown]:
    run = service.get_run(uow, request.project, request.path["run"])
    shown = pipeline.gather(uow, run)
    if shown is None:
        raise NotFoundError(
            f"Run {run.run} has no steps.", hint="Runs of pipelines have: `everline run MODULE:PIPELINE`.", field="run"
        )
    return run, shown


def _pieces(uow: UnitOfWork, request: Request, step: StepRecord, *, after: str) -> list[PrintedPiece]:
    return running.output(uow, request.project, step.run, step=step.uid, after=after, limit=PIECES_PER_LOOK)


def _address(run: TrackedRun, **query: object) -> str:
    return render.path("runs", run.run, "steps", project=run.project, **query)


def _page_of(run: TrackedRun, uid: str) -> str:
    return render.path("runs", run.run, "steps", uid, project=run.project)


def _rows(run: TrackedRun, steps: Sequence[Outline]) -> list[dict[str, Any]]:
    return [_row(run, one, one.status.value) for one in steps]


def _row(run: TrackedRun, one: Outline, state: str) -> dict[str, Any]:
    return {
        "name": one.name, "state": state, "word": folding.words(state), "href": _page_of(run, one.uid),
        "started_at": one.started_at, "took": render.seconds_between(one.started_at, one.ended_at),
        "attempts": one.attempts, "reason": one.reason, "problem": one.problem,
    }  # fmt: skip


def _planned(shown: pipeline.Shown) -> list[dict[str, Any]]:
    """What the plan has and no record yet."""
    recorded = {one.name for one in shown.steps}
    return [
        {
            "name": one.name, "state": folding.PENDING, "word": folding.words(folding.PENDING), "href": None,
            "started_at": None, "took": None, "attempts": 0, "reason": "", "problem": "",
        }
        for one in (shown.engine.plan if shown.engine else ())
        if one.name not in recorded and one.kind in ("step", "question")
    ]  # fmt: skip


def _problem(step: StepRecord) -> dict[str, str] | None:
    if step.error is None:
        return None
    error = step.error
    return {
        "type": error.type, "message": terminal.plain(error.message), "traceback": terminal.plain(error.traceback),
    }  # fmt: skip


def _facts(step: StepRecord) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [
        ("Started", render.when(step.started_at)),
        ("Ended", render.when(step.ended_at) if step.ended_at else "–"),
        ("Took", render.duration(step.seconds)),
        ("Attempts", render.number(step.attempts)),
    ]
    if step.material is not None and step.material.code:
        facts += [
            ("Code", render.short(step.material.code)),
            ("Environment", render.short(step.material.environment)),
            ("Threads", render.number(step.material.threads)),
        ]
    return facts


def _inputs(step: StepRecord) -> list[dict[str, Any]]:
    """What the step was given, by parameter: a digest, or a value."""
    given = step.material.inputs if step.material is not None else {}
    return [
        {"name": name, "digest": one["digest"], "value": ""}
        if isinstance(one, dict) and isinstance(one.get("digest"), str)
        else {"name": name, "digest": None, "value": render.clip(render.value(one), 300)}
        for name, one in given.items()
    ]
