"""What was live at a moment: which version answered each endpoint, who allowed it, on what evidence."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.responses import Response

from everline.clock import parse_rfc3339
from everline.errors import EverlineError
from everline.releases import history
from everline.releases.types import LiveAt
from everline.server.console import pages
from everline.server.console.view import render
from everline.server.http import Request

routes = pages.console_routes()


@routes.get("/releases/at")
def show_live(request: Request) -> Response:
    """Ask for a moment, now unless one is given."""
    asked, endpoint = request.query("time", str, "").strip(), request.query("endpoint", str, "").strip()
    problem: EverlineError | None = None
    found: list[LiveAt] = []
    moment: datetime | None = None
    with request.app.begin(request.actor, read_only=True) as uow:
        try:
            moment = parse_rfc3339(asked) if asked else uow.clock.now()
            found = history.live_at(uow, moment, project=request.project, endpoint=endpoint or None)
        except EverlineError as error:
            if error.status >= 500 or error.status == 403:
                raise
            problem = error
    return pages.page(
        request,
        "live.html",
        title="What was live",
        section="releases",
        status=problem.status if problem else 200,
        problem=problem,
        asked=asked,
        endpoint=endpoint,
        moment=moment,
        live=[_view(one, request.project) for one in found],
    )


def _view(one: LiveAt, project: str) -> dict[str, Any]:
    check = one.check
    return {
        "endpoint": one.endpoint,
        "role": one.role.value,
        "share": render.percent(one.share),
        "since": one.since,
        "until": one.until,
        "model": one.model,
        "version": one.version,
        "author": one.author_name,
        "package": one.package,
        "release": one.release,
        "moved": one.moved,
        "approvals": one.approvals,
        "waivers": one.waivers,
        "verdicts": check.verdicts if check else [],
        "evidence": check.evidence if check else [],
        "change": check.change if check else None,
        "release_href": render.path("releases", one.release, project=project),
        "version_href": render.path("models", one.model, one.version, project=project),
    }
