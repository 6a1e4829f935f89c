"""Who is speaking: token, password, session cookie, or the local user of a server without login."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from everline.access import service as access
from everline.access.types import LOCAL, Actor
from everline.errors import ForbiddenError, UnauthenticatedError
from everline.server.application import Application

SESSION_COOKIE = "everline_session"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def authenticate(app: Application, request: HTTPConnection) -> Actor:
    """Name the actor of a request.

    Raises:
        UnauthenticatedError: nobody, or a token, password or session that does not hold.
        ForbiddenError: a browser was led here by another site.
    """
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        with app.begin(read_only=True) as uow:
            return access.actor_of_token(uow, value.strip())
    if scheme.lower() == "basic":
        name, password = _basic(value)
        with app.begin(read_only=True) as uow:
            return access.actor_of_password(uow, name, password)
    _refuse_other_sites(request)
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie and app.settings.login:
        with app.begin(read_only=True) as uow:
            return access.actor_of_session(uow, cookie)
    if not app.settings.login:
        _refuse_rebinding(request)
        return LOCAL
    raise UnauthenticatedError(
        "Nobody is logged in.",
        hint="Send `Authorization: Bearer TOKEN`, or log in at /login; `everline tokens create` makes tokens.",
    )


def _basic(value: str) -> tuple[str, str]:
    try:
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise UnauthenticatedError(
            "The Basic credentials cannot be read.", hint="Send base64 of name:password."
        ) from None
    return name, password


def _refuse_other_sites(request: HTTPConnection) -> None:
    """A cookie or the local user's power must not be lent to a page of another origin."""
    origin = request.headers.get("origin")
    if origin and origin != "null" and urlsplit(origin).netloc == request.headers.get("host"):
        return
    if origin or request.headers.get("sec-fetch-site", "same-origin") == "cross-site":
        if request.scope.get("method") in ("GET", "HEAD") and not origin:
            return  # following a link is harmless: a GET changes nothing
        raise ForbiddenError(
            "This request comes from a page of another site.", hint="Use an API token for programs on other origins."
        )


def _refuse_rebinding(request: HTTPConnection) -> None:
    """Without login, only names of this machine are answered: a foreign name that points here is an attack."""
    host = urlsplit("//" + request.headers.get("host", "")).hostname or ""
    if host not in LOOPBACK:
        raise ForbiddenError(
            f"Without login, this server answers only under 127.0.0.1 or localhost, not {host[:80]!r}.",
            hint="Switch login on (EVERLINE_LOGIN=true) to serve other names.",
        )
