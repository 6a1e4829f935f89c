"""Whatever bytes arrive, in whatever pieces: a connection answers or closes, never raises, and keeps little."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from everline.serving.dataplane.http.connection import Connection
from everline.serving.dataplane.http.messages import Answering, Reply, Request
from everline.serving.dataplane.http.server import HttpServer

BODY_BYTES_MAX = 200
WHOLE = b"POST /a?b HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
CHUNKED = b"POST /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
PIECES = st.sampled_from(
    [WHOLE, CHUNKED, b"GET / HTTP/1.0\r\n\r\n", b"\r\n", b":", b"HTTP/1.1", b"content-length: 9999999\r\n"]
)


class Wire(asyncio.Transport):
    """A transport that keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def answer(request: Request, reply: Answering) -> None:
    assert len(request.body) <= BODY_BYTES_MAX
    reply(Reply(200, request.body))


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES | st.binary(max_size=40), max_size=12).map(b"".join), st.integers(1, 30))
def test_any_bytes_are_answered_or_refused(data: bytes, step: int) -> None:
    server = HttpServer(answer, bytes_max=BODY_BYTES_MAX, connections_max=10, request_s=1.0, idle_s=1.0)
    connection, wire = Connection(server), Wire()
    connection.connection_made(wire)
    for start in range(0, len(data), step):
        if wire.closed:
            break
        connection.data_received(data[start : start + step])
    statuses = [line.split()[1] for line in wire.written.split(b"HTTP/1.1 ")[1:] for line in [b"x " + line]]
    assert set(statuses) <= {b"100", b"200", b"400", b"413"}
    connection.connection_lost(None)
    assert server.connections == 0


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 20))
def test_requests_in_any_pieces_are_the_same_requests(step: int, times: int) -> None:
    server = HttpServer(answer, bytes_max=BODY_BYTES_MAX, connections_max=10, request_s=1.0, idle_s=1.0)
    connection, wire = Connection(server), Wire()
    connection.connection_made(wire)
    data = (WHOLE + CHUNKED) * times
    for start in range(0, len(data), step):
        connection.data_received(data[start : start + step])
    assert wire.written.count(b"\r\n\r\nabc") == 2 * times
