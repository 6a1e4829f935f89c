"""The control plane in this process: the same application, reached over ASGI with no socket."""

from __future__ import annotations

import asyncio
import atexit
import io
import os
import threading
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from starlette.responses import Response
from starlette.types import ASGIApp

from everline.config import Settings
from everline.sdk.transport import CONNECT_S, Answer, Content, Sink
from everline.server.application import Application
from everline.server.dispatch import HANDED_FILE
from everline.server.embedded import Embedded
from everline.storage.hashing import HashedFile, pieces_of

_PIECE_BYTES = 1 << 20
_NO_HEADERS: Mapping[str, str] = {}


class InProcess:
    """Sends requests to the control plane in this process; a `Transport`.

    Ordinary requests are answered in the thread that asks. Uploads, streams and what is gathered go over an event loop,
    which runs in a thread of its own, as they would from the network.
    """

    origin = "http://127.0.0.1"

    def __init__(self, application: Application) -> None:
        self.application = application
        self._app = Embedded(application)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="everline-local", daemon=True)
        self._thread.start()

    def exchange(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        content: Content | None = None,
        into: Sink | None = None,
        connect_s: float = CONNECT_S,
    ) -> Answer:
        """Run one request to its end."""
        body = io.BytesIO(content or b"") if content is None or isinstance(content, bytes) else content
        size = len(content or b"") if content is None or isinstance(content, bytes) else os.fstat(body.fileno()).st_size
        sent = {"host": "127.0.0.1", "content-length": str(size)} | {k.lower(): v for k, v in headers.items()}
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.items()],
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 80),
            "extensions": {"http.response.pathsend": {}}
            | ({} if content is None or isinstance(content, bytes) else {HANDED_FILE: content}),
        }
        answerer: ASGIApp = self._app
        if content is None or isinstance(content, bytes):
            response = self._app.answer_here(scope, content or b"")
            if response is not None and type(response).__call__ is Response.__call__:  # it has all of its body
                return _taken(response, into)
            answerer = response or answerer
        answering = self._answer(answerer, scope, body, size, into)
        return asyncio.run_coroutine_threadsafe(answering, self._loop).result()

    def close(self) -> None:
        """Stop the thread and let the database go."""
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
            self._loop.close()
            self.application.close()

    async def _answer(
        self, answerer: ASGIApp, scope: dict[str, Any], body: BinaryIO, size: int, into: Sink | None
    ) -> Answer:
        left: int | None = size
        status, headers, pieces = 500, {}, []
        forever = asyncio.Event()  # this caller never hangs up before the answer is whole

        async def receive() -> MutableMapping[str, Any]:
            nonlocal left
            if left is None:
                await forever.wait()
                return {"type": "http.disconnect"}
            piece = body.read(min(left, _PIECE_BYTES))
            # A file that became shorter meanwhile ends here: its digest will not be the one announced.
            left = left - len(piece) if piece and left > len(piece) else None
            return {"type": "http.request", "body": piece, "more_body": left is not None}

        async def send(message: MutableMapping[str, Any]) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
            elif message["type"] == "http.response.body":
                piece = message.get("body", b"")
                if into is not None and status < 400:
                    into.write(piece)
                else:
                    pieces.append(piece)
            elif message["type"] == "http.response.pathsend":
                if into is None:
                    pieces.append(await asyncio.to_thread(Path(message["path"]).read_bytes))
                else:
                    await asyncio.to_thread(_copy, Path(message["path"]), into)

        await answerer(scope, receive, send)
        return Answer(status, reason="", headers=headers, content=b"".join(pieces))


def _taken(response: Response, into: Sink | None) -> Answer:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.raw_headers}
    content = bytes(response.body)
    if into is not None and response.status_code < 400:
        into.write(content)
        content = b""
    return Answer(response.status_code, reason="", headers=headers, content=content)


def _copy(path: Path, into: Sink) -> None:
    with path.open("rb", buffering=0) as file:
        if isinstance(into, HashedFile) and into.take(file):
            return
        for piece in pieces_of(file):
            into.write(piece)


def open_local(settings: Settings) -> InProcess:
    """An embedded control plane over `settings.home`."""
    transport = InProcess(Application(settings))
    atexit.register(transport.close)
    return transport
