"""A receiver of webhooks on loopback: it keeps what it is sent, checks signatures and answers as it is told to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec

_LOOK_S = 0.02


class Received(NamedTuple):
    """One delivery as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The body's JSON."""
        decoded: dict[str, Any] = msgspec.json.decode(self.body)
        return decoded

    def is_signed_with(self, secret: str) -> bool:
        """Whether the signature is right: checked from MLflow's description, not with the code that made it."""
        signed = b".".join(
            (
                self.headers["x-mlflow-delivery-id"].encode(),
                self.headers["x-mlflow-timestamp"].encode(),
                self.body,
            )
        )
        digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
        return hmac.compare_digest(
            self.headers.get("x-mlflow-signature", ""), f"v1,{base64.b64encode(digest).decode()}"
        )


class WebhookReceiver:
    """Starts on a free loopback port; use it as a context manager.

    Attributes:
        answers: statuses of the next answers, 200 when there are none left.
        received: what came, oldest first.
    """

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.received: list[Received] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_LOOK_S,), daemon=True)

    def __enter__(self) -> WebhookReceiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def wait(self, count: int, *, seconds: float = 10.0) -> list[Received]:
        """The deliveries, once there are `count`; what there is when the time is over."""
        deadline = time.monotonic() + seconds
        while len(self.received) < count and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        return list(self.received)


def _handler(receiver: WebhookReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(Received(self.path, headers, body))
            status = receiver.answers.pop(0) if receiver.answers else 200
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", receiver.url)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"seen")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's word
            return

    return Handler
