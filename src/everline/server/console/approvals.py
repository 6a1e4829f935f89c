"""Questions of runs to people: all that are open with what they show, and what was answered."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from everline.access.types import Role
from everline.errors import EverlineError
from everline.pipelines import approvals, history
from everline.pipelines.types import ApprovalRecord
from everline.server.console import pages
from everline.server.console.view import render, shown
from everline.server.http import Request

routes = pages.console_routes()
OPEN_MAX, PAST_MAX = 100, 200
DONE = {
    "approve": "Your approval is recorded. The run goes on by itself where a worker finds its code.",
    "reject": "Your no is recorded with its reason.",
}


@routes.get("/approvals")
def list_questions(request: Request) -> Response:
    """Every open question of the project, and the newest answers."""
    return page(request)


def page(
    request: Request, *, problem: EverlineError | None = None, run: str = "", step: str = "", reason: str = ""
) -> Response:
    """The page of all questions.

    Args:
        problem: why an answer was refused.
        run, step, reason: whose question it was, and what the person had written.
    """
    with request.app.begin(request.actor, read_only=True) as uow:
        open_ = approvals.list_approvals(uow, request.project, open_only=True, limit=OPEN_MAX)
        past = approvals.list_approvals(uow, request.project, limit=PAST_MAX)
        alive = history.not_ended(uow, request.project, runs=[one.run for one in (*open_, *past)])
    open_ = [one for one in open_ if one.run in alive]
    return pages.page(
        request,
        "approvals.html",
        title="Approvals",
        section="approvals",
        status=problem.status if problem else 200,
        problem=problem,
        done=DONE.get(request.query("done", str, "")),
        questions=[
            view(request, one, by_itself=True, alive=True, reason=reason if (one.run, one.step) == (run, step) else "")
            for one in sorted(open_, key=lambda one: not _may_answer(request, one))
        ],
        mine=sum(_may_answer(request, one) for one in open_),
        past=[_answered(one) for one in past if one.approved is not None or one.run not in alive],
    )


def view(request: Request, one: ApprovalRecord, *, by_itself: bool, alive: bool, reason: str = "") -> dict[str, Any]:
    """What the template of a question takes.

    Args:
        alive: its run has not ended, so that an answer is of use.
        by_itself: away from the page of its run.
        reason: what somebody wrote who was refused.
    """
    project = request.project
    held = sorted(request.actor.roles_in(project))
    return {
        "run": one.run,
        "pipeline": one.pipeline,
        "step": one.step,
        "question": one.question,
        "role": one.role,
        "others": one.others,
        "asked_by": one.asked_by,
        "asked_at": one.asked_at,
        "approved": one.approved,
        "open": one.approved is None and alive,
        "answered_by": one.answered_by,
        "answered_at": one.answered_at,
        "reason": one.reason or reason,
        "by_itself": by_itself,
        "shown": shown.of(one.shown),
        "href": render.path("runs", one.run, "answers", project=project),
        "run_href": render.path("runs", one.run, project=project),
        "refused": None if one.approved is not None or _may_answer(request, one) else _why_not(one, held),
    }


def _may_answer(request: Request, one: ApprovalRecord) -> bool:
    held = request.actor.roles_in(request.project)
    if Role.ADMIN not in held and one.role not in held:
        return False
    return not (one.others and one.asked_by == request.actor.name)


def _why_not(one: ApprovalRecord, held: list[Role]) -> str:
    if one.role in held or Role.ADMIN in held:
        return "You started this run, and somebody else must answer."
    return f"Asks for the role {one.role}; you are {', '.join(held)} here."


def _answered(one: ApprovalRecord) -> dict[str, Any]:
    return {
        "run": one.run, "pipeline": one.pipeline, "step": one.step, "question": one.question, "role": one.role,
        "state": {True: "approved", False: "rejected", None: "withdrawn"}[one.approved], "answered_by": one.answered_by,
        "answered_at": one.answered_at, "reason": one.reason,
        "asked_at": one.asked_at, "after": render.seconds_between(one.asked_at, one.answered_at),
    }  # fmt: skip
