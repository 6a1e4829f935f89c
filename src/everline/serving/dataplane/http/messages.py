"""What comes in over HTTP, and what goes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

import msgspec

from everline.errors import EverlineError

JSON = b"application/json"
_RETRY_AFTER_S = 1
_COMES_BACK = frozenset({429, 503})
_STATUS_LINES = {
    int(status): f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii", "replace") for status in HTTPStatus
}


class Request:
    """One whole request; header names are in lower case, of repeated ones the last counts."""

    __slots__ = ("body", "headers", "keep_alive", "method", "path", "query", "started_ns")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: dict[bytes, bytes],
        body: bytes = b"",
        *,
        keep_alive: bool = True,
        started_ns: int = 0,
    ) -> None:
        """Take a request apart.

        Args:
            target: path and query as they came.
            started_ns: when its first byte was read, by `time.perf_counter_ns`.
        """
        self.method = method
        path, _, self.query = target.partition(b"?")
        self.path = unquote_to_bytes(path) if b"%" in path else path
        self.headers = headers
        self.body = body
        self.keep_alive = keep_alive
        self.started_ns = started_ns or time.perf_counter_ns()

    def header(self, name: bytes) -> str | None:
        """A header's value as text; None if it is not there."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


class Reply(msgspec.Struct, frozen=True):
    """What goes back.

    Attributes:
        lines: further header lines, each ending in CRLF.
    """

    status: int
    body: bytes
    lines: bytes = b""
    content_type: bytes = JSON


Answering = Callable[[Reply], None]
"""Gives the reply to one request; called exactly once, in the event loop's thread, now or later."""

Handler = Callable[[Request, Answering], None]


def header(name: str, value: str) -> bytes:
    """One header line; what could begin another line is left out of the value."""
    clean = value.replace("\r", " ").replace("\n", " ")
    return f"{name}: {clean}\r\n".encode("latin-1", "replace")


def reply_bytes(reply: Reply, *, keep_alive: bool, head_only: bool = False) -> bytes:
    """A reply as it goes over the wire (RFC 9112)."""
    return b"".join(
        (
            _STATUS_LINES[reply.status],
            _date(),
            b"content-type: ",
            reply.content_type,
            b"\r\ncontent-length: %d\r\n" % len(reply.body),
            reply.lines,
            b"\r\n" if keep_alive else b"connection: close\r\n\r\n",
            b"" if head_only else reply.body,
        )
    )


def json_reply(body: object, *, status: int = 200, lines: bytes = b"") -> Reply:
    """A reply that says something in JSON."""
    return Reply(status, msgspec.json.encode(body), lines)


def refusal(error: EverlineError) -> Reply:
    """An error in the Open Inference Protocol's shape: `error` is a sentence; `code` and `field` are for programs."""
    status = 503 if error.status == 501 else error.status
    body = {"error": f"{error.message} {error.hint}" if error.hint else error.message, "code": error.code}
    if error.field:
        body["field"] = error.field
    after_s = getattr(error, "retry_after_s", _RETRY_AFTER_S)
    lines = header("retry-after", str(after_s)) if status in _COMES_BACK else b""
    if status == 401:
        lines = header("www-authenticate", "Bearer")
    return json_reply(body, status=status, lines=lines)


_dated = (0, b"")


def _date() -> bytes:
    global _dated
    now = int(time.time())
    if _dated[0] != now:
        _dated = now, f"date: {formatdate(now, usegmt=True)}\r\n".encode()
    return _dated[1]
