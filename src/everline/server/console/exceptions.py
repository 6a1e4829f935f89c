"""What lets a release past a rule, as forms on its page: waivers, broken glass, and the review that closes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from starlette.responses import Response

from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError, InvalidInputError
from everline.releases import breakglass, waiving
from everline.server.console import pages, releases
from everline.server.console.view import render
from everline.server.http import Request, begin

routes = pages.console_routes()
Act = Callable[[UnitOfWork, str, Mapping[str, str]], Any]


@routes.post("/releases/{release}/waive")
def waive(request: Request) -> Response:
    """Set a rule aside for this release."""
    return _act(request, _waive, done="waive")


@routes.post("/releases/{release}/revoke")
def revoke(request: Request) -> Response:
    """Take a waiver back."""
    return _act(request, _revoke, done="revoke")


@routes.post("/releases/{release}/break-glass")
def break_glass(request: Request) -> Response:
    """Bring this release live past its policies."""
    return _act(request, _break, done="break")


@routes.post("/releases/{release}/review")
def review(request: Request) -> Response:
    """Close a review that blocks this release, or is about it."""
    return _act(request, _close, done="review")


def _waive(uow: UnitOfWork, uid: str, given: Mapping[str, str]) -> Any:
    policy, _, rule = given.get("rule", "").partition("/")
    days = given.get("days", "")
    if not days.isascii() or not days.isdigit() or len(days) > 3:
        raise InvalidInputError("Say for how many days, 1 to 90.", field="days")
    return waiving.waive(
        uow, uid, policy=policy, rule=rule, reason=given.get("reason", ""), owner=given.get("owner", "").strip(),
        expires_at=uow.clock.now() + timedelta(days=int(days)),
    )  # fmt: skip


def _revoke(uow: UnitOfWork, uid: str, given: Mapping[str, str]) -> Any:
    return waiving.revoke_waiver(uow, uid, given.get("waiver", ""), reason=given.get("reason", ""))


def _break(uow: UnitOfWork, uid: str, given: Mapping[str, str]) -> Any:
    return breakglass.break_glass(uow, uid, reason=given.get("reason", ""))


def _close(uow: UnitOfWork, _uid: str, given: Mapping[str, str]) -> Any:
    return breakglass.close_review(uow, given.get("review", ""), finding=given.get("finding", ""))


def _act(request: Request, act: Act, *, done: str) -> Response:
    given, uid = pages.form(request), request.path["release"]
    try:
        with begin(request) as uow:
            act(uow, uid, given)
    except EverlineError as problem:
        if problem.status >= 500 or problem.status == 404:
            raise
        return releases.page(request, problem=problem)
    return pages.redirect(render.path("releases", uid, project=request.project, done=done))
