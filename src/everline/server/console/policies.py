"""Pages of policies: what is in force, what waits for a second person, and the packs to take from."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from everline.errors import EverlineError, InvalidInputError
from everline.governance import enforcing, policies
from everline.governance.document import compile_document
from everline.governance.types import Policy
from everline.server.console import pages
from everline.server.console.view import render
from everline.server.http import Request, begin

routes = pages.console_routes()
_DONE = {
    "activate": "It is in force.",
    "deactivate": "It is out of force.",
    "asked": "Asked for. Another person with the role admin or approver agrees by pressing the same button.",
    "save": "Saved as a version of its own. Another person puts it into force.",
}


@routes.get("/policies")
def list_policies(request: Request) -> Response:
    """Every policy of the project, and the packs."""
    return _page(request, done=_DONE.get(request.query("done", str, "")))


@routes.post("/policies")
def change(request: Request) -> Response:
    """Put a version into force, take a policy out of it, or save a pack; a refusal is shown on the page."""
    given = pages.form(request)
    act, name = given.get("act", ""), given.get("name", "")
    try:
        with begin(request) as uow:
            if act == "activate":
                found = enforcing.activate(uow, name, project=request.project)
            elif act == "deactivate":
                found = enforcing.deactivate(uow, name, project=request.project, reason=given.get("reason", ""))
            elif act == "save":
                [pack] = [one for one in policies.list_packs(uow, project=request.project) if one.name == name]
                found = policies.save(uow, pack.source, project=request.project)
            else:
                raise InvalidInputError("This page has no such button.", hint="Reload the page.", field="act")
    except ValueError:
        raise InvalidInputError("There is no such pack.", hint="Reload the page.", field="name") from None
    except EverlineError as problem:
        if problem.status >= 500 or problem.status == 404:
            raise
        return _page(request, problem=problem)
    waits = act != "save" and found.active != (act == "activate")
    return pages.redirect(render.path("policies", project=request.project, done="asked" if waits else act))


def _page(request: Request, *, problem: EverlineError | None = None, done: str | None = None) -> Response:
    with request.app.begin(request.actor, read_only=True) as uow:
        found = policies.list_policies(uow, project=request.project)
        packs = policies.list_packs(uow, project=request.project)
        newest = {one.name: policies.newest_version(uow, one.name, request.project) for one in found}
    names = {one.name for one in found}
    return pages.page(
        request,
        "policies.html",
        title="Policies",
        section="releases",
        status=problem.status if problem else 200,
        problem=problem,
        done=done,
        policies=[_view(one, newest=newest[one.name]) for one in found],
        packs=[_view(one, newest=0) | {"taken": one.name in names} for one in packs if one.name != "baseline"],
    )


def _view(policy: Policy, *, newest: int) -> dict[str, Any]:
    document = compile_document(policy.source).document
    asked = policy.proposal
    return {
        "name": policy.name,
        "title": policy.title,
        "reason": policy.reason,
        "version": policy.version,
        "newest": newest,
        "active": policy.active,
        "digest": policy.digest,
        "by": policy.actor_name,
        "rules": document.rules,
        "approvals": document.approvals,
        "cases": len(document.cases),
        "scope": [*document.scope.endpoints, *document.scope.models],
        "asked": None
        if asked is None
        else f"{asked.by} asks to put "
        + ("it out of force" if asked.version is None else f"version {asked.version} into force")
        + (f": {asked.reason}" if asked.reason else "."),
    }
