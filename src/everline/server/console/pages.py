"""How a page is written: a handler that asks services and hands a view to a template; the rest is here, once."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.responses import RedirectResponse, Response

from everline.access.types import Permission
from everline.errors import EverlineError, ForbiddenError, InvalidInputError, UnauthenticatedError
from everline.pipelines import history
from everline.server.authentication import SESSION_COOKIE
from everline.server.console.view import render
from everline.server.http import Request, Routes

SECTIONS = (
    ("", "Overview"),
    ("pipelines", "Pipelines"),
    ("schedules", "Schedules"),
    ("runs", "Runs"),
    ("models", "Models"),
    ("approvals", "Approvals"),
    ("releases", "Releases"),
    ("endpoints", "Endpoints"),
    ("incidents", "Incidents"),
    ("datasets", "Datasets"),
    ("delivery", "Delivery"),
    ("audit", "Audit"),
)
FORM_FIELDS_MAX = 20
_PROCESS_SECRET = secrets.token_bytes(32)


def console_routes() -> Routes:
    """An empty group of routes whose errors are pages."""
    return Routes(tag="console", prefix="", on_error=error_page)


def page(
    request: Request, template: str, *, title: str, section: str | None = None, status: int = 200, **view: Any
) -> Response:
    """Fill a template with a view and what every page shows."""
    project = request.raw.query_params.get("project", "default")
    actor = getattr(request.actor, "name", "")
    common = {
        "title": title,
        "section": section,
        "status": status,
        "sections": SECTIONS,
        "marks": _marks(request) if status < 400 else {},
        "project": project,
        "actor": actor,
        "login": request.app.settings.login and bool(actor),
        "form_token": form_token(request),
        "url": partial(render.path, project=project),
    }
    text = render.render(template, common | view)
    headers = {**render.HEADERS, "cache-control": "no-store"}
    return Response(text, status_code=status, media_type="text/html", headers=headers)


def _marks(request: Request) -> dict[str, int]:
    """By section, how much there waits for whoever looks."""
    if not getattr(request.actor, "roles", None):  # the login page has no actor
        return {}
    project = request.project
    if not request.actor.may(Permission.PIPELINE_READ, project):
        return {}
    with request.app.begin(request.actor, read_only=True) as uow:
        return {"approvals": history.waiting_for(uow, project)}


def redirect(address: str) -> Response:
    """Send the browser to another page after a form was done."""
    return RedirectResponse(address, status_code=303, headers=render.HEADERS)


def form(request: Request) -> Mapping[str, str]:
    """The fields of a posted form, once its token shows that one of our own pages sent it.

    Raises:
        InvalidInputError: not a form.
        ForbiddenError: the token is missing or of another session.
    """
    given = fields(request)
    if not hmac.compare_digest(given.get("form_token", "").encode(errors="replace"), form_token(request).encode()):
        raise ForbiddenError(
            "This form is older than your session, or does not come from this console.",
            hint="Go back, reload the page and send the form again.",
        )
    return given


def fields(request: Request) -> Mapping[str, str]:
    """The fields of a posted form, whoever sent it."""
    try:
        text = request.body.decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX))
    except (UnicodeDecodeError, ValueError):
        raise InvalidInputError("The form cannot be read.", hint="Reload the page and send it again.") from None


def form_token(request: Request) -> str:
    """A token that only pages of this session carry; without login, of this process."""
    session = request.raw.cookies.get(SESSION_COOKIE, "")
    key = session.encode() if request.app.settings.login and session else _PROCESS_SECRET
    return hmac.new(key, b"everline console form", hashlib.sha256).hexdigest()


def own_address(text: str) -> str:
    """The address if it is one of this console's own, else the front page: no open redirect."""
    parts = urlsplit(text)
    mine = text.startswith("/") and not text.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return text if mine and "\\" not in text and text.isprintable() else "/"


def error_page(error: EverlineError, request: Request) -> Response:
    """An error as people read it; who is not logged in is sent to the login page."""
    if isinstance(error, UnauthenticatedError) and request.method == "GET":
        target = request.raw.url.path + (f"?{request.raw.url.query}" if request.raw.url.query else "")
        return redirect("/login?next=" + quote(own_address(target), safe=""))
    titles = {403: "Not allowed", 404: "Not found", 409: "Not possible now"}
    return page(
        request,
        "error.html",
        title=titles.get(error.status, "Something went wrong" if error.status >= 500 else "This did not work"),
        status=error.status,
        message=error.message,
        hint=error.hint,
        back=own_address(urlsplit(request.headers.get("referer", "/")).path or "/"),
    )


def bare_error_page(error: EverlineError) -> Response:
    """An error as people read it where no request of ours is at hand: an address that nothing answers."""
    marks: dict[str, int] = {}
    view = {
        "title": "Not found", "section": None, "sections": SECTIONS, "marks": marks, "project": "default", "actor": "",
        "login": False, "form_token": "", "url": render.path, "status": error.status, "message": error.message,
        "hint": "The sections on the left are all there is.", "back": "/",
    }  # fmt: skip
    return Response(
        render.render("error.html", view), status_code=error.status, media_type="text/html", headers=render.HEADERS
    )


def subject_address(subject: str, *, project: str) -> str | None:
    """The page of a subject such as `release:0192…`, or None where it has none."""
    kind, _, name = subject.partition(":")
    sections = {
        "run": "runs", "release": "releases", "incident": "incidents", "prediction": "predictions",
        "delivery": "delivery",
    }  # fmt: skip
    return render.path(sections[kind], name, project=project) if kind in sections and name else None
