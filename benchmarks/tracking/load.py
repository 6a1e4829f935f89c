"""A small HTTP load generator: some keep-alive connections, each sends its next request when the last is answered.

One process, one event loop, requests made beforehand and answers scanned for no more than their status and
length, so that it is not itself the limit: it is measured against a server that does nothing.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from typing import NamedTuple, cast

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Load(NamedTuple):
    """What came of some seconds of load."""

    per_second: float
    p50_ms: float
    p99_ms: float
    answers: int


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """The bytes of one HTTP/1.1 request."""
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def load(port: int, requests: Iterator[bytes], *, connections: int = 16, seconds: float = 3.0) -> Load:
    """Ask a server on loopback for some seconds.

    Args:
        requests: whole requests; taken by whichever connection is free.

    Raises:
        RuntimeError: an answer is not 200, or a connection was closed.
    """
    return uvloop.run(_load(port, requests, connections=connections, seconds=seconds))


async def _load(port: int, requests: Iterator[bytes], *, connections: int, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    took: list[float] = []
    ends = time.perf_counter() + seconds
    opened = [
        await loop.create_connection(lambda: _Connection(requests, took, ends=ends), "127.0.0.1", port)
        for _ in range(connections)
    ]
    start = time.perf_counter()
    for _, connection in opened:
        connection.send()
    await asyncio.gather(*(connection.done for _, connection in opened))
    elapsed = time.perf_counter() - start
    for transport, _ in opened:
        transport.close()
    took.sort()
    return Load(len(took) / elapsed, 1e3 * took[len(took) // 2], 1e3 * took[int(len(took) * 0.99)], len(took))


class _Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, requests: Iterator[bytes], took: list[float], *, ends: float) -> None:
        self._requests, self._took, self._ends = requests, took, ends
        self._answer = b""
        self._sent = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the server closed the connection: {error}"))

    def send(self) -> None:
        """Send the next request, or be done."""
        self._sent = time.perf_counter()
        if self._sent >= self._ends:
            self.done.set_result(None)
            return
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._answer = answer = self._answer + data if self._answer else data
        head = answer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(answer, 0, head)
        if not length or len(answer) < head + 4 + int(length[1]):
            return
        self._took.append(time.perf_counter() - self._sent)
        if not answer.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(f"an answer was {answer[:500]!r}"))
            return
        self._answer = b""
        self.send()
