"""The control plane inside of its client's process: faces are loaded when they are first asked.

A command asks two or three faces out of thirty. Loading the others would take longer than its work.
"""

from __future__ import annotations

import threading

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from everline.loader import load
from everline.server.application import Application
from everline.server.dispatch import Dispatcher

_REST = "/api/v1/"
REST_FACES: dict[str, tuple[str, ...]] = {
    "audit": ("audit",),
    "alerts": ("incidents",),
    "backtests": ("backtests",),
    "blobs": ("blobs",),
    "bundles": ("bundles",),
    "certificates": ("reproduction",),
    "dataplane": ("dataplane",),
    "datasets": ("datasets",),
    "delivery": ("delivery",),
    "endpoints": ("endpoints", "predictions"),
    "evidence": ("evidence",),
    "experiments": ("runs",),
    "explanations": ("explanations",),
    "feedback": ("feedback",),
    "hooks": ("schedules",),
    "incidents": ("incidents",),
    "info": ("system",),
    "jobs": ("jobs",),
    "keys": ("audit",),
    "models": ("models",),
    "monitors": ("monitors",),
    "pipelines": ("pipelines",),
    "policies": ("policies",),
    "predictions": ("predictions",),
    "projects": ("access",),
    "releases": ("releases",),
    "replays": ("reproduction",),
    "replicas": ("endpoints",),
    "reproductions": ("reproduction",),
    "runs": ("runs", "reproduction"),
    "schedules": ("schedules",),
    "tokens": ("access",),
    "users": ("access",),
    "views": ("views",),
    "webhooks": ("webhooks",),
}
"""Modules of `server.rest` that answer a word of the API, in the order in which they are asked."""


class Embedded:
    """The ASGI application of a control plane that only its own process asks."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._faces: dict[str, Dispatcher] = {}
        self._loading = threading.Lock()
        self._whole: ASGIApp | None = None

    def answer_here(self, scope: Scope, body: bytes) -> Response | None:
        """Answer a request in this thread; None if it must go the whole way, over the event loop."""
        found = self._find(scope)
        if found is None:
            return None
        dispatcher, known, matched = found
        if not dispatcher.is_plain(known, body):
            return None
        return dispatcher.answer_here(known, {**scope, **matched}, body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the face that knows the path, or with the whole application if none does."""
        found = self._find(scope)
        if found is not None:
            _, known, matched = found
            scope.update(matched)
            await known.handle(scope, receive, send)
            return
        if self._whole is None:
            self._whole = load("everline.server.app").create_app(self._application)
        await self._whole(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[Dispatcher, BaseRoute, Scope] | None:
        path: str = scope.get("path", "")
        word = path.removeprefix(_REST).partition("/")[0] if path.startswith(_REST) else ""
        for name in REST_FACES.get(word, ()):
            dispatcher = self._face(name)
            for known in dispatcher.routes:
                match, matched = known.matches(scope)
                if match is Match.FULL:
                    return dispatcher, known, dict(matched)
        return None

    def close(self) -> None:
        """End the threads of the faces."""
        for dispatcher in self._faces.values():
            dispatcher.close()

    def _face(self, name: str) -> Dispatcher:
        with self._loading:
            if name not in self._faces:
                routes = load(f"everline.server.rest.{name}").routes.all
                self._faces[name] = Dispatcher(self._application, routes)
        return self._faces[name]
