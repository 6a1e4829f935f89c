"""Who is speaking: token, password, session cookie, or the local user of a server without login."""

from __future__ import annotations

import base64
import binascii
import functools
from urllib.parse import urlsplit

from everline.access import service as access
from everline.access.types import LOCAL, Actor
from everline.errors import ForbiddenError, UnauthenticatedError
from everline.server.application import Application
from everline.server.http import Request

SESSION_COOKIE = "everline_session"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def authenticate(app: Application, request: Request) -> Actor:
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
    cookie = request.raw.cookies.get(SESSION_COOKIE) if app.settings.login else None
    if cookie:
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


def _refuse_other_sites(request: Request) -> None:
    """A cookie or the local user's power must not be lent to a page of another origin."""
    origin = request.headers.get("origin")
    if origin and origin != "null" and urlsplit(origin).netloc == request.headers.get("host"):
        return
    if origin or request.headers.get("sec-fetch-site", "same-origin") == "cross-site":
        if request.method in ("GET", "HEAD") and not origin:
            return  # following a link is harmless: a GET changes nothing
        raise ForbiddenError(
            "This request comes from a page of another site.", hint="Use an API token for programs on other origins."
        )


def _refuse_rebinding(request: Request) -> None:
    """Without login, only names of this machine are answered: a foreign name that points here is an attack."""
    host = _host_name(request.headers.get("host", ""))
    if host not in LOOPBACK:
        raise ForbiddenError(
            f"Without login, this server answers only under 127.0.0.1 or localhost, not {host[:80]!r}.",
            hint="Switch login on (EVERLINE_LOGIN=true) to serve other names.",
        )


@functools.lru_cache(maxsize=64)
def _host_name(host: str) -> str:
    return urlsplit("//" + host).hostname or ""
