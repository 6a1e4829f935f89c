"""HTTP over a real socket: torn, pipelined, endless, half-closed and hostile requests, and an end in order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from everline.serving.dataplane.http.messages import Answering, Reply, Request
from everline.serving.dataplane.http.server import HttpServer
from tests_support.loops import run_apart

BODY_BYTES_MAX = 1000


def echo(request: Request, reply: Answering) -> None:
    reply(Reply(200, request.method + b" " + request.path + b" " + request.body, b"x-query: %s\r\n" % request.query))


@contextlib.asynccontextmanager
async def serving(
    handler: Callable[[Request, Answering], None] = echo, *, request_s: float = 5.0, idle_s: float = 5.0, most: int = 10
) -> AsyncIterator[tuple[HttpServer, int]]:
    server = HttpServer(handler, bytes_max=BODY_BYTES_MAX, connections_max=most, request_s=request_s, idle_s=idle_s)
    listener = socket.create_server(("127.0.0.1", 0))
    await server.start(listener)
    try:
        yield server, listener.getsockname()[1]
    finally:
        await server.stop(drain_s=0.5)


async def sent(port: int, *parts: bytes, close_writing: bool = False) -> bytes:
    """What comes back until the server closes, when these parts are sent one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        with contextlib.suppress(ConnectionError):
            writer.write(part)
            await writer.drain()
        await asyncio.sleep(0.005)
    if close_writing:
        writer.write_eof()
    said = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return said


def ask(body: bytes = b"", *, path: bytes = b"/a", last: bool = True, headers: bytes = b"") -> bytes:
    head = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n%s" % (path, len(body), headers)
    return head + (b"connection: close\r\n\r\n" if last else b"\r\n") + body


def run(check: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_apart(check())


def test_a_request_that_arrives_byte_by_byte_is_the_same_request() -> None:
    async def check() -> None:
        async with serving() as (_, port):
            whole = ask(b"hello", path=b"/a%20b?c=d")
            said = await sent(port, *(whole[i : i + 1] for i in range(len(whole))))
            upgrade = await sent(port, b"GET /old HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        assert upgrade.endswith(b"GET /old ")
        assert said.endswith(b"\r\n\r\nPOST /a b hello")
        assert b"x-query: c=d" in said
        assert said.startswith(b"HTTP/1.1 200 OK\r\ndate: ")

    run(check)


def test_chunks_and_pipelined_requests_are_answered_in_order_even_when_answers_come_late() -> None:
    held: list[tuple[Request, Answering]] = []

    def later(request: Request, reply: Answering) -> None:
        held.append((request, reply))
        asyncio.get_running_loop().call_later(0.01, lambda: echo(*held.pop(0)))

    async def check() -> None:
        chunked = b"POST /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
        many = b"".join(ask(b"%d" % number, last=False) for number in range(40))
        async with serving(later) as (_, port):
            said = await sent(port, chunked + many + ask(b"end"))
        bodies = [part.rpartition(b"\r\n\r\n")[2] for part in said.split(b"HTTP/1.1 200 OK")[1:]]
        assert bodies == [b"POST /c abc", *(b"POST /a %d" % number for number in range(40)), b"POST /a end"]

    run(check)


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"400"),
        (b"GET / HTTP/1.1\r\na: " + b"b" * 40_000 + b"\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ncontent-length: 2000\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nab", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_request_or_too_large_is_refused_and_the_next_client_is_answered(bad: bytes, status: bytes) -> None:
    async def check() -> None:
        async with serving() as (_, port):
            said = await sent(port, bad, b"x" * 5000)
            assert said.startswith(b"HTTP/1.1 " + status), said
            assert b"connection: close" in said
            assert b'"error":"' in said
            assert (await sent(port, ask(b"ok"))).endswith(b"ok")

    run(check)


def test_slow_and_silent_clients_are_let_go_and_a_half_closed_one_gets_its_answer() -> None:
    def late(request: Request, reply: Answering) -> None:
        asyncio.get_running_loop().call_later(0.05, lambda: echo(request, reply))

    async def check() -> None:
        async with serving(late, request_s=0.3, idle_s=0.3) as (server, port):
            assert (await sent(port, ask(b"half", last=False), close_writing=True)).endswith(b"half")
            slow = await sent(port, b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nab")
            assert slow.startswith(b"HTTP/1.1 408")
            assert await sent(port) == b""
            assert server.connections == 0

    run(check)


def test_more_clients_than_allowed_are_told_so() -> None:
    async def check() -> None:
        async with serving(most=1) as (_, port):
            _, first = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0.02)
            assert (await sent(port, ask())).startswith(b"HTTP/1.1 503")
            first.close()

    run(check)


def test_an_end_waits_for_what_is_under_way_and_tells_the_client_to_close() -> None:
    def late(request: Request, reply: Answering) -> None:
        asyncio.get_running_loop().call_later(0.1, lambda: echo(request, reply))

    async def check() -> None:
        async with serving(late) as (server, port):
            answer = asyncio.create_task(sent(port, ask(b"last", last=False)))
            idle = asyncio.create_task(sent(port))
            await asyncio.sleep(0.05)
            await server.stop(drain_s=5.0)
            said = await answer
            assert said.endswith(b"last")
            assert b"connection: close" in said
            assert await idle == b""

    run(check)
