"""What a run's pages show of its pipeline: how it stands, its graph, what it asks people, and what they can do."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import msgspec
from starlette.responses import Response

from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError, InvalidInputError, NotFoundError
from everline.pipelines import approvals, history, running
from everline.pipelines.history import Outline
from everline.pipelines.types import ApprovalRecord, PipelineRun, RunState
from everline.runs.types import RunStatus, TrackedRun
from everline.server.console import approvals as questions
from everline.server.console import pages
from everline.server.console.view import folding, graph, pipeline_graph, render, timeline
from everline.server.http import Request, begin

routes = pages.console_routes()
SMALL_RUN, LARGE_RUN = 300, 3_000
"""Steps up to which a run at work is looked at often, and from which on it is looked at seldom."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a pipeline as services told it.

    Attributes:
        engine: None for steps that no driver of ours reported.
        over: the run has ended, whatever its driver knows: a client may end it.
        asked: the questions, the newest first.
        total: how many steps were recorded; `steps` has the first 20,000.
    """

    engine: PipelineRun | None
    over: bool
    steps: list[Outline]
    lost: list[Outline]
    total: int
    asked: list[ApprovalRecord]
    now: datetime

    @property
    def is_at_work(self) -> bool:
        """Whether the page will change by itself."""
        return self.engine is not None and self.engine.state is not RunState.ENDED and not self.over

    @property
    def is_orphaned(self) -> bool:
        """Whether the run should be at work, and its driver is silent for longer than it may be."""
        engine = self.engine
        return (
            self.is_at_work
            and engine is not None
            and engine.state is RunState.RUNNING
            and engine.lease_until < self.now
        )


def gather(uow: UnitOfWork, run: TrackedRun) -> Shown | None:
    """What services know of a run; None if it is none of a pipeline."""
    if run.pipeline is None:
        return None
    try:
        engine = running.get(uow, run.project, run.run)
    except NotFoundError:
        engine = None
    found = history.outlines(uow, run.project, run.run)
    if engine is None and not found.steps:
        return None
    return Shown(
        engine=engine, over=run.status.is_terminal, steps=found.steps, lost=found.lost, total=found.total,
        now=uow.clock.now(),
        asked=approvals.list_approvals(uow, run.project, run=run.run, limit=100),
    )  # fmt: skip


def view(request: Request, run: TrackedRun, shown: Shown | None) -> dict[str, Any] | None:
    """What the templates of `pipeline_parts.html` take; None without a pipeline."""
    if shown is None:
        return None
    counts = state_counts(shown)
    drawn = draw_graph(run, shown)
    return {
        "at_work": shown.is_at_work,
        "every": _every(shown),
        "sentence": _sentence(shown),
        "orphaned": shown.is_orphaned,
        "driver": shown.engine.driver if shown.engine else "",
        "heard_until": shown.engine.lease_until if shown.engine else None,
        "cancelled_by": shown.engine.cancelled_by if shown.engine and shown.is_at_work else None,
        "resumable": _is_resumable(run, shown),
        "may_cancel": shown.is_at_work and request.actor.may(Permission.PIPELINE_WRITE, run.project),
        "counts": [
            (state, folding.words(state), counts[state], _steps_in(run, state))
            for state in folding.STATES
            if counts[state]
        ],
        "parts": folding.shares(counts, 1000.0),
        "total": sum(counts.values()),
        "graph": drawn,
        "too_large": drawn is None and bool(shown.steps),
        "questions": [
            questions.view(request, one, by_itself=False, alive=shown.is_at_work)
            for one in sorted(shown.asked, key=lambda one: one.approved is not None)
        ],
    }


def state_counts(shown: Shown) -> Counter[str]:
    """How many steps by state, planned ones with them; choices and expansions are no steps."""
    counts = Counter(step.status.value for step in shown.steps)
    recorded = {step.name for step in shown.steps}
    plan = shown.engine.plan if shown.engine else ()
    kinds = ("step", "question")
    counts[folding.PENDING] = sum(one.count for one in plan if one.kind in kinds and one.name not in recorded)
    return counts


def draw_graph(run: TrackedRun, shown: Shown) -> tuple[graph.Drawing, graph.Drawing] | None:
    """The graph, whose vertices lead to their steps."""

    def href(kind: str, what: str) -> str | None:
        if kind == "question":
            return "#questions"
        if kind == "step":
            return render.path("runs", run.run, "steps", what, project=run.project)
        return render.path("runs", run.run, "steps", project=run.project, of=what) + "#table"

    plan = shown.engine.plan if shown.engine else ()
    return pipeline_graph.draw(plan, shown.steps, ended=not shown.is_at_work, href=href)


def draw_timeline(run: TrackedRun, shown: Shown) -> timeline.Timeline | None:
    """The timeline, whose bars lead to their steps."""
    now = shown.now if shown.is_at_work and not shown.is_orphaned else run.ended_at or shown.now
    if shown.is_orphaned and shown.engine is not None:
        now = shown.engine.lease_until
    return timeline.draw(
        shown.steps, shown.lost, now=now,
        href=lambda uid: render.path("runs", run.run, "steps", uid, project=run.project),
    )  # fmt: skip


@routes.post("/runs/{run}/cancel")
def cancel(request: Request) -> Response:
    """Have a run stopped; if it has ended meanwhile its page says how."""
    pages.form(request)
    uid = request.path["run"]
    with begin(request) as uow:
        running.cancel(uow, request.project, uid)
    return pages.redirect(render.path("runs", uid, project=request.project))


@routes.post("/runs/{run}/answers")
def answer(request: Request) -> Response:
    """Answer a question of a run; a refusal is shown on the page of all questions, with what to do."""
    given, uid = pages.form(request), request.path["run"]
    move = given.get("move", "")
    if move not in ("approve", "reject"):
        raise InvalidInputError("This page has no such button.", hint="Reload the page.", field="move")
    step, reason = given.get("step", ""), given.get("reason", "")
    try:
        with begin(request) as uow:
            approvals.answer(uow, request.project, uid, step=step, approved=move == "approve", reason=reason)
    except EverlineError as problem:
        if problem.status >= 500 or problem.status == 404:
            raise
        return questions.page(request, problem=problem, run=uid, step=step, reason=reason)
    back = ("approvals",) if given.get("back") == "approvals" else ("runs", uid)
    return pages.redirect(render.path(*back, project=request.project, done=move))


def _steps_in(run: TrackedRun, state: str) -> str:
    return render.path("runs", run.run, "steps", project=run.project, state=state) + "#table"


def _every(shown: Shown) -> int:
    """Milliseconds between two looks at a run at work."""
    return 1_500 if shown.total <= SMALL_RUN else 4_000 if shown.total <= LARGE_RUN else 15_000


def _is_resumable(run: TrackedRun, shown: Shown) -> bool:
    """Whether somebody may go on with it by hand: its driver died, it failed, or it has all its answers."""
    if shown.engine is None or run.status is RunStatus.FINISHED:
        return False
    answered = all(one.approved is not None for one in shown.asked)
    waits = shown.engine.state is RunState.WAITING
    return shown.is_orphaned or (answered if waits else shown.engine.state is RunState.ENDED)


def _sentence(shown: Shown) -> str:
    open_ = sum(one.approved is None for one in shown.asked)
    if shown.is_orphaned:
        return "Its driver is silent: it died, or lost the server."
    if shown.is_at_work and shown.engine is not None and shown.engine.cancelled_by:
        return f"{shown.engine.cancelled_by} has cancelled it; its driver is stopping."
    if shown.engine is not None and shown.engine.state is RunState.WAITING:
        return f"It waits for {_count(open_, 'answer')}; nothing runs meanwhile." if open_ else "It waits to go on."
    if shown.is_at_work:
        at_work = sum(step.status.value == "running" for step in shown.steps)
        waits = f", and waits for {_count(open_, 'answer')}" if open_ else ""
        return f"{_count(at_work, 'step')} at work{waits}." if at_work or waits else "At work."
    cached = sum(step.status.value == "cached" for step in shown.steps)
    return f"{_count(shown.total, 'step')}, {cached} of them from the cache."


def _count(count: int, one: str) -> str:
    return f"{render.number(count)} {one}{'' if count == 1 else 's'}"
