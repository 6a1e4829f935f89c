"""MLflow answers below two prefixes: `/api/` for programs and `/ajax-api/` for its pages and some of its clients."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

_PAGES, _PROGRAMS = "/ajax-api/", "/api/"
_VERSIONS = ("2.0/", "3.0/", "4.0/")


def under_both_prefixes(app: ASGIApp) -> ASGIApp:
    """`app` with what it answers below `/api/2.0/`, `3.0` and `4.0` below `/ajax-api/` too."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.startswith(_PAGES) and path[len(_PAGES) :].startswith(_VERSIONS):
            raw: bytes = scope.get("raw_path") or path.encode()
            scope = {
                **scope,
                "path": _PROGRAMS + path.removeprefix(_PAGES),
                "raw_path": _PROGRAMS.encode() + raw.removeprefix(_PAGES.encode()),
            }
        await app(scope, receive, send)

    return application
