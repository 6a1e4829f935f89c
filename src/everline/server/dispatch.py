"""From the network to a handler and back: addresses, limits and body on the event loop, the work in threads.

Routes without parameters, which are most of what programs call, are found in a dictionary; Starlette's router tries
its patterns one after another and gets the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

import anyio.to_thread
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from everline.errors import EverlineError, ForbiddenError, UnauthenticatedError
from everline.server import uploads
from everline.server.application import Application
from everline.server.authentication import authenticate
from everline.server.gathering import Lanes
from everline.server.http import ANSWERED_HERE, Request, Route, json_response, unexpected

HANDED_FILE = "everline.file"
"""Extension of a scope that only a client in this process can set: the body, as an open file."""
Answer = Callable[[StarletteRequest], Awaitable[Response]]


class Dispatcher:
    """Answers the declared routes of one control plane."""

    def __init__(self, app: Application, declared: list[Route]) -> None:
        self._app = app
        self._lanes = Lanes(app)
        self._limiter = anyio.CapacityLimiter(app.settings.request_threads_max)
        answers = [(route, self._answer_of(route)) for route in declared]
        self.routes: list[BaseRoute] = [
            StarletteRoute(route.path, answer, methods=[route.method]) for route, answer in answers
        ]
        """The declared routes as Starlette takes them."""
        self._declared = {id(known): route for known, (route, _) in zip(self.routes, answers, strict=True)}
        self._exact: dict[tuple[str, str], Answer] = {}
        for route, answer in answers:
            if "{" not in route.path:
                self._exact.setdefault((route.method, route.path), answer)

    def before(self, app: ASGIApp) -> ASGIApp:
        """An application that answers routes without parameters itself and leaves the rest to `app`."""

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            answer = self._exact.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
            if answer is None:
                await app(scope, receive, send)
                return
            response = await answer(StarletteRequest(scope, receive))
            await response(scope, receive, send)

        return application

    def is_plain(self, known: BaseRoute, body: bytes) -> bool:
        """Whether a request to a route can be answered by whoever asks: no upload, nothing that waits for others."""
        route = self._declared[id(known)]
        return not route.upload and route.gather is None and len(body) <= self._app.settings.json_body_bytes_max

    def answer_here(self, known: BaseRoute, scope: Scope, body: bytes) -> Response:
        """Answer a request in the thread of whoever asks; for clients in this process."""
        route = self._declared[id(known)]
        scope = {**scope, "extensions": {**scope.get("extensions", {}), ANSWERED_HERE: True}}
        return _work(self._app, route, Request(self._app, StarletteRequest(scope), body=body))

    def close(self) -> None:
        """End the threads of gathered requests."""
        self._lanes.close()

    def _answer_of(self, route: Route) -> Answer:
        async def answer(raw: StarletteRequest) -> Response:
            request = Request(self._app, raw, body=b"")
            try:
                request.body = await _read_body(request, bytes_max=self._app.settings.json_body_bytes_max)
            except EverlineError as error:
                return route.on_error(error, request)
            if route.gather is not None:
                return await self._lanes.answer(request, route)
            return await anyio.to_thread.run_sync(_work, self._app, route, request, limiter=self._limiter)

        async def answer_upload(raw: StarletteRequest) -> Response:
            bytes_max = self._app.settings.blob_bytes_max
            with self._app.blobs.incoming() as body:
                request = Request(self._app, raw, body=b"", incoming=body)
                try:
                    if not route.public:  # before the body: a stranger fills no disk
                        await anyio.to_thread.run_sync(authenticate, self._app, request, limiter=self._limiter)
                    handed = raw.scope.get("extensions", {}).get(HANDED_FILE)
                    if handed is None:
                        await uploads.receive(raw, body, bytes_max=bytes_max)
                    else:
                        take = functools.partial(uploads.take, handed, body, bytes_max=bytes_max)
                        await anyio.to_thread.run_sync(take, limiter=self._limiter)
                except (UnauthenticatedError, ForbiddenError) as error:
                    await uploads.drain(raw, bytes_max=bytes_max)
                    return route.on_error(error, request)
                except EverlineError as error:
                    return route.on_error(error, request)
                return await anyio.to_thread.run_sync(_work, self._app, route, request, limiter=self._limiter)

        return answer_upload if route.upload else answer


def _work(app: Application, route: Route, request: Request) -> Response:
    try:
        if not route.public:
            request.actor = authenticate(app, request)
        result = route.handler(request)
        if isinstance(result, Response):
            return result
        return Response(status_code=204) if result is None else json_response(result, status=route.status)
    except EverlineError as error:
        return route.on_error(error, request)
    except Exception:
        return route.on_error(unexpected(request), request)


async def _read_body(request: Request, *, bytes_max: int) -> bytes:
    if request.method in ("GET", "HEAD"):
        return b""
    uploads.check_announced(request.headers, bytes_max=bytes_max)
    pieces, size, more = [], 0, True
    while more:
        message = await request.raw.receive()
        if message["type"] == "http.disconnect":
            raise uploads.cut_off()
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > bytes_max:
            raise uploads.body_too_large(bytes_max)
        pieces.append(chunk)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
