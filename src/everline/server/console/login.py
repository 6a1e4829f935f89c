"""Pages to log in and out."""

from __future__ import annotations

from starlette.responses import Response

from everline.access import service
from everline.errors import UnauthenticatedError
from everline.server.authentication import SESSION_COOKIE
from everline.server.console import pages
from everline.server.http import Request

routes = pages.console_routes()


@routes.get("/login", public=True)
def show_login(request: Request) -> Response:
    """The login page."""
    target = pages.own_address(request.query("next", str, "/"))
    if not request.app.settings.login:
        return pages.redirect(target)
    return pages.page(request, "login.html", title="Log in", next=target, name="", problem=None)


@routes.post("/login", public=True)
def log_in(request: Request) -> Response:
    """Open a session."""
    given = pages.fields(request)
    target, name = pages.own_address(given.get("next", "/")), given.get("name", "").strip()
    try:
        with request.app.begin() as uow:
            _, secret, ends = service.open_session(uow, name, given.get("password", ""))
    except UnauthenticatedError as error:
        return pages.page(
            request, "login.html", title="Log in", status=401, next=target, name=name, problem=error.message
        )
    response = pages.redirect(target)
    response.set_cookie(
        SESSION_COOKIE,
        secret,
        expires=ends,
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.raw.url.scheme == "https",
    )
    return response


@routes.post("/logout")
def log_out(request: Request) -> Response:
    """Close the session."""
    pages.form(request)
    with request.app.begin(request.actor) as uow:
        service.close_session(uow, request.raw.cookies.get(SESSION_COOKIE, ""))
    response = pages.redirect("/login")
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")
    return response
