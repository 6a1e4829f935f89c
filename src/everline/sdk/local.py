"""The control plane in this process: the same application, reached over ASGI with no socket."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine, MutableMapping
from typing import Any, TypeVar

import httpx

from everline.config import Settings
from everline.server.app import create_app
from everline.server.application import Application

T = TypeVar("T")
_ORIGIN = "http://127.0.0.1"


class InProcessTransport(httpx.BaseTransport):
    """Sends httpx requests to an ASGI application that runs in a thread of this process."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self._app = create_app(application)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="everline-local", daemon=True)
        self._thread.start()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Run one request to its end."""
        return self._run(self._answer(request, request.read()))

    def close(self) -> None:
        """Stop the thread and let the database go."""
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
            self._loop.close()
            self.application.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 80),
        }
        inbox = [{"type": "http.request", "body": body, "more_body": False}]
        status, headers, pieces = 500, [], []
        forever = asyncio.Event()  # this caller never hangs up before the answer is whole

        async def receive() -> MutableMapping[str, Any]:
            if not inbox:
                await forever.wait()
            return inbox.pop()

        async def send(message: MutableMapping[str, Any]) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], message.get("headers", [])
            elif message["type"] == "http.response.body":
                pieces.append(message.get("body", b""))

        await self._app(scope, receive, send)
        return httpx.Response(status, headers=headers, content=b"".join(pieces))


def open_local(settings: Settings) -> httpx.Client:
    """A client of an embedded control plane over `settings.home`."""
    transport = InProcessTransport(Application(settings))
    atexit.register(transport.close)
    return httpx.Client(transport=transport, base_url=_ORIGIN, timeout=None)  # noqa: S113  (no network)
