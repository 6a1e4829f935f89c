"""All connections of one listening socket: who is there, who takes too long, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time

from everline.serving.dataplane.http.connection import Connection
from everline.serving.dataplane.http.messages import Handler

_LOOK_S = 0.25
_DRAIN_LOOK_S = 0.01


class HttpServer:
    """Accepts connections and keeps the limits of time and number; see `connection` for those of size."""

    def __init__(
        self,
        handler: Handler,
        *,
        bytes_max: int,
        connections_max: int,
        request_s: float,
        idle_s: float,
    ) -> None:
        """Serve a handler.

        Args:
            bytes_max: largest body.
            request_s: how long a request may take to arrive, and an answer to be taken.
            idle_s: how long a connection on which nothing happens is kept.
        """
        self.handler = handler
        self.bytes_max = bytes_max
        self.draining = False
        self._connections_max = connections_max
        self._request_s = request_s
        self._idle_s = idle_s
        self._connections: set[Connection] = set()
        self._listening: asyncio.Server | None = None
        self._looking: asyncio.Task[None] | None = None

    def joined(self, connection: Connection) -> bool:
        """Count a connection; whether there is room for it."""
        self._connections.add(connection)
        return len(self._connections) <= self._connections_max

    def left(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def start(self, listener: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(lambda: Connection(self), sock=listener, backlog=2048, ssl=tls)
        self._looking = asyncio.create_task(self._look())

    async def stop(self, *, drain_s: float) -> None:
        """Accept no more, let what is under way end within `drain_s` seconds, then close everything."""
        self.draining = True
        if self._listening is not None:
            self._listening.close()
        deadline = time.monotonic() + drain_s
        while self._connections and time.monotonic() < deadline:
            for connection in list(self._connections):
                connection.drain()
            await asyncio.sleep(_DRAIN_LOOK_S)
        for connection in list(self._connections):
            connection.abort()
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            now = time.monotonic()
            for connection in list(self._connections):
                connection.late(now, request_s=self._request_s, idle_s=self._idle_s)
