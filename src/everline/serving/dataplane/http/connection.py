"""One client's connection: bytes become requests, one at a time; replies become bytes.

A client may send further requests before it has its answer (pipelining); they wait in order, and beyond a few
nothing more is read from it. A reply that the client does not take stops its next request, never the process.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Protocol, cast

import httptools

from everline.errors import EverlineError, InvalidInputError, TooLargeError
from everline.serving.dataplane.http.messages import Handler, Reply, Request, refusal, reply_bytes

_TARGET_BYTES_MAX = 8 << 10
_HEADERS_MAX = 100
_HEADER_BYTES_MAX = 32 << 10
_WAITING_MAX = 16
_LINGER_S = 2.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Limits(Protocol):
    """What a connection asks the server that it belongs to."""

    bytes_max: int
    handler: Handler
    draining: bool

    def joined(self, connection: Connection) -> bool:
        """Count a connection; whether there is room for it."""

    def left(self, connection: Connection) -> None:
        """Forget a connection."""


class _TimeoutError(EverlineError):
    code = "request_timeout"
    status = 408


class Connection(asyncio.Protocol):
    """Parses what a client sends and writes what it is answered."""

    def __init__(self, server: Limits) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport = cast(asyncio.Transport, None)
        self._waiting: deque[Request] = deque()
        self._request = cast(Request, None)
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._header_count = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._begun_at = 0.0
        self._begun_ns = 0
        self._refused: Reply | None = None
        self._writing_stopped_at = 0.0
        self._ended_at = 0.0
        self.at_hand = False
        """Whether a request is being answered."""
        self.quiet_since = 0.0
        """Since when nothing is under way; 0 while something is."""

    # --- the transport ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self.quiet_since = time.monotonic()
        if not self._server.joined(self):
            self._refuse(Reply(503, b'{"error":"Too many connections. Try again in a second.","code":"unavailable"}'))

    def connection_lost(self, exc: Exception | None) -> None:
        """End, whoever ended it."""
        self._waiting.clear()
        self._server.left(self)

    def data_received(self, data: bytes) -> None:
        """Parse; whole requests are answered from here."""
        if self._refused is not None:
            return
        if not self._begun_ns:
            self._begun_ns = time.perf_counter_ns()
            self._begun_at = time.monotonic()
            self.quiet_since = 0.0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(Reply(0, b""))  # it was answered as HTTP/1.1; what follows is in another protocol
        except httptools.HttpParserCallbackError as error:
            found = error.__context__
            self._refuse(refusal(found if isinstance(found, EverlineError) else _not_http()))
        except httptools.HttpParserError:
            self._refuse(refusal(_not_http()))

    def eof_received(self) -> bool:
        """The client sends no more; what it asked is still answered."""
        if self.at_hand or self._waiting:
            self._refused = self._refused or Reply(0, b"")
            return True
        return False

    def pause_writing(self) -> None:
        """The client does not take its answers."""
        self._writing_stopped_at = time.monotonic()

    def resume_writing(self) -> None:
        """The client takes its answers again."""
        self._writing_stopped_at = 0.0
        self._next()

    # --- the parser ------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._target = b""
        self._headers = {}
        self._header_bytes = 0
        self._header_count = 0
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """The target, or a part of it."""
        self._target += url
        if len(self._target) > _TARGET_BYTES_MAX:
            raise InvalidInputError(f"The address is longer than {_TARGET_BYTES_MAX} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._header_bytes += len(name) + len(value)
        self._header_count += 1
        if self._header_bytes > _HEADER_BYTES_MAX or self._header_count > _HEADERS_MAX:
            raise InvalidInputError(
                f"There are more than {_HEADERS_MAX} headers or {_HEADER_BYTES_MAX} bytes of them.",
                hint="Send what the protocol asks for.",
            )
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Refuse what announces too much before it is sent."""
        announced = self._headers.get(b"content-length", b"0")
        if not announced.isdigit() or int(announced[:20]) > self._server.bytes_max:
            raise _too_large(self._server.bytes_max)
        if self._parser.should_upgrade() and announced != b"0":
            raise InvalidInputError("The data plane speaks HTTP/1.1 only.", hint="Send bodies without Upgrade.")
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > self._server.bytes_max:
            raise _too_large(self._server.bytes_max)
        self._body.append(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        request = Request(
            self._parser.get_method(),
            self._target,
            self._headers,
            body,
            keep_alive=self._parser.should_keep_alive(),
            started_ns=self._begun_ns,
        )
        self._body = []
        self._begun_ns = 0
        self._begun_at = 0.0
        if self.at_hand or self._writing_stopped_at:
            self._waiting.append(request)
            if len(self._waiting) >= _WAITING_MAX:
                self._transport.pause_reading()
        else:
            self._answer(request)

    # --- answering -------------------------------------------------------------------------------

    def late(self, now: float, *, request_s: float, idle_s: float) -> None:
        """End what takes too long: a request that does not arrive, an answer that is not taken, an idle connection."""
        if (self._writing_stopped_at and now - self._writing_stopped_at > request_s) or (
            self._ended_at and now - self._ended_at > _LINGER_S
        ):
            self._transport.abort()
        elif self._begun_at and now - self._begun_at > request_s and self._refused is None:
            message = f"The request did not arrive within {request_s:g} s."
            self._refuse(refusal(_TimeoutError(message, hint="Send it faster, or in parts.")))
        elif self.quiet_since and now - self.quiet_since > idle_s:
            self._transport.close()

    def drain(self) -> None:
        """Close as soon as nothing is under way."""
        if not self.at_hand and not self._begun_ns and not self._waiting:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _answer(self, request: Request) -> None:
        self.at_hand = True
        self.quiet_since = 0.0
        self._request = request
        self._server.handler(request, self._reply)

    def _reply(self, reply: Reply) -> None:
        """Write the answer to the request at hand; there is one at a time."""
        self.at_hand = False
        request, transport = self._request, self._transport
        if transport.is_closing():
            return
        keep = request.keep_alive and not self._server.draining
        transport.write(reply_bytes(reply, keep_alive=keep, head_only=request.method == b"HEAD"))
        if not keep:
            transport.close()
        elif self._waiting or self._refused is not None:
            self._next()
        elif not self._begun_ns:
            self.quiet_since = time.monotonic()

    def _next(self) -> None:
        """Go on with what waits, unless something is under way."""
        if self.at_hand or self._writing_stopped_at or self._transport.is_closing():
            return
        if self._waiting:
            request = self._waiting.popleft()
            if len(self._waiting) == _WAITING_MAX - 1:
                self._transport.resume_reading()
            self._answer(request)
        elif self._refused is not None:
            self._end(self._refused)

    def _end(self, reply: Reply) -> None:
        """Say the last word. What the client still sends is dropped for a moment: else it would not read it."""
        if self._ended_at:
            return
        self._ended_at = time.monotonic()
        if reply.status:
            self._transport.write(reply_bytes(reply, keep_alive=False))
        if reply.status and self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _refuse(self, reply: Reply) -> None:
        """Say what is wrong once everything before it was answered, and close: what follows cannot be told apart."""
        self._refused = reply
        self._next()


def _too_large(bytes_max: int) -> TooLargeError:
    return TooLargeError(
        f"The request body is larger than {bytes_max} bytes.", hint="Send fewer rows in each of several requests."
    )


def _not_http() -> InvalidInputError:
    return InvalidInputError("This is not a request of HTTP/1.1.", hint="Send one, as every HTTP client does.")
