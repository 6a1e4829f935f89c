"""The page of an alias: what it points at, what it pointed at then, and every move."""

from __future__ import annotations

import contextlib
from datetime import datetime

from starlette.responses import Response

from everline.clock import parse_rfc3339
from everline.errors import NotFoundError
from everline.models import aliases, registry
from everline.server.console import pages
from everline.server.console.view import render
from everline.server.http import Request, begin

routes = pages.console_routes()
MOVES_SHOWN = 200


@routes.get("/models/{model}/aliases/{alias}")
def show_alias(request: Request) -> Response:
    """One alias of a model; `?at=` asks what it pointed at then."""
    project, name, alias = request.project, request.path["model"], request.path["alias"]
    moment = _moment(request)
    with begin(request) as uow:
        model = registry.get_model(uow, project, name)
        moves = aliases.list_moves(uow, project, name, alias=alias, limit=MOVES_SHOWN)
        then = None
        if moment is not None:
            with contextlib.suppress(NotFoundError):  # it pointed at nothing: the page says so
                then = aliases.alias_at(uow, project, name, alias=alias, at=moment)
    if not moves and alias not in model.aliases:
        raise NotFoundError(f"The model {name!r} never had an alias @{alias[:80]}.", field="alias")
    return pages.page(
        request,
        "alias.html",
        title=f"{name}@{alias}",
        section="models",
        model=model,
        alias=alias,
        version=model.aliases.get(alias),
        follows=model.following.get(alias),
        moves=moves,
        moment=moment,
        then=then,
        here=render.path("models", name, "aliases", alias, project=project),
    )


def _moment(request: Request) -> datetime | None:
    """The time that the page is asked about; a form sends it without a zone, and UTC is meant."""
    text = request.query("at", str, "")
    return parse_rfc3339(text, field="at") if text else None
