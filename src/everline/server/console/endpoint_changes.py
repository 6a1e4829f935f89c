"""What people change of an endpoint on its page: how traffic is split, and who may ask it; and what an A/B shows."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, EverlineError, InvalidInputError
from everline.releases import advancing, experiments, plans, shadows
from everline.releases.types import Plan
from everline.server.console import pages
from everline.server.console.view import render
from everline.server.http import Request, begin
from everline.serving import keys, options, service
from everline.serving.types import ChangeEndpoint, CreateEndpointKey, EndpointAccess, Revision, RevisionRole

routes = pages.console_routes()


def canary_of(revisions: list[Revision]) -> Revision | None:
    """The canary among the revisions of an endpoint."""
    return next((one for one in revisions if one.role is RevisionRole.CANARY), None)


@routes.post("/endpoints/{endpoint}/split")
def split(request: Request) -> Response:
    """Move the canary's share; without a canary, that of the releases to come."""
    given, name, project = pages.form(request), request.path["endpoint"], request.project
    share = _share(given.get("percent", ""))
    with begin(request) as uow:
        canary = canary_of(service.get_endpoint(uow, name, project=project).revisions)
        if canary is not None:
            advancing.set_share(uow, canary.release, share=share, reason=given.get("reason", "") or "on the console")
            return pages.redirect(render.path("releases", canary.release, project=project))
        plans.set_plan(uow, name, Plan(canary_share=share), project=project)
    return pages.redirect(render.path("endpoints", name, project=project))


@routes.get("/endpoints/{endpoint}/compare")
def compare(request: Request) -> Response:
    """The canary beside the primary, and the shadow beside what was answered."""
    name, project = request.path["endpoint"], request.project
    metric = request.query("metric", str, "outcome")
    with begin(request) as uow:
        endpoint = service.get_endpoint(uow, name, project=project)
        experiment = _told(lambda: experiments.compare_revisions(uow, name, project=project, metric=metric))
        shadow = _told(lambda: shadows.compare_shadow(uow, name, project=project))
    return pages.page(
        request,
        "endpoint_compare.html",
        title=f"{name}: comparison",
        section="endpoints",
        endpoint=endpoint,
        metric=metric,
        experiment=experiment,
        shadow=shadow,
    )


@routes.get("/endpoints/{endpoint}/keys")
def show_keys(request: Request) -> Response:
    """Who may ask the endpoint."""
    with begin(request) as uow:
        return _keys(request, uow)


@routes.post("/endpoints/{endpoint}/keys")
def change_keys(request: Request) -> Response:
    """Make or revoke a key, or say whether one is needed; a new secret is shown on this one answer."""
    given, name, project = pages.form(request), request.path["endpoint"], request.project
    secret, act = None, given.get("act", "")
    try:
        with begin(request) as uow:
            if act == "create":
                wanted = CreateEndpointKey(
                    name=given.get("name", ""),
                    requests_per_s=_number(given.get("requests_per_s", ""), "requests_per_s"),
                    requests_per_day=_whole(given.get("requests_per_day", ""), "requests_per_day"),
                )
                secret = keys.create_key(uow, name, wanted, project=project).secret
            elif act == "revoke":
                keys.revoke_key(uow, name, given.get("key", ""), project=project)
            elif act in ("open", "key"):
                change = ChangeEndpoint(access=EndpointAccess(act))
                options.change_endpoint(uow, name, change, project=project)
            else:
                raise InvalidInputError("This page has no such button.", hint="Reload the page.", field="act")
    except EverlineError as problem:
        if problem.status >= 500 or problem.status == 404:
            raise
        with request.app.begin(request.actor, read_only=True) as uow:
            return _keys(request, uow, problem=problem)
    with request.app.begin(request.actor, read_only=True) as uow:
        return _keys(request, uow, secret=secret)


def _keys(
    request: Request, uow: UnitOfWork, *, secret: str | None = None, problem: EverlineError | None = None
) -> Response:
    name, project = request.path["endpoint"], request.project
    return pages.page(
        request,
        "endpoint_keys.html",
        title=f"{name}: API keys",
        section="endpoints",
        status=problem.status if problem else 200,
        endpoint=service.get_endpoint(uow, name, project=project),
        keys=keys.list_keys(uow, name, project=project),
        secret=secret,
        problem=problem,
    )


def _told(ask: Any) -> Any:
    """What a comparison says, or None where there is nothing to compare."""
    try:
        return ask()
    except ConflictError:
        return None


def _share(text: str) -> float:
    return round((_number(text, "percent") or 0.0) / 100, 6)


def _number(text: str, field: str) -> float | None:
    try:
        return float(text) if text.strip() else None
    except ValueError:
        raise InvalidInputError(f"{text[:40]!r} is no number.", hint="Write it like 12.5.", field=field) from None


def _whole(text: str, field: str) -> int | None:
    value = _number(text, field)
    if value is not None and not value.is_integer():
        raise InvalidInputError(f"{text[:40]!r} is no whole number.", hint="Write it like 1000.", field=field)
    return None if value is None else int(value)
