"""One process that answers: its log, its application and its server, run until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from everline.config import Settings
from everline.loader import load
from everline.serving.dataplane.app import DataPlaneApp, Told, rotate
from everline.serving.dataplane.following import Reporter, Source
from everline.serving.dataplane.http.server import HttpServer
from everline.serving.dataplane.log.raw_segments import PredictionLog, finish
from everline.serving.dataplane.metrics import Metrics
from everline.serving.dataplane.watching import tls_files, tls_of, watchers_of

if TYPE_CHECKING:
    from everline.serving.dataplane.grpc.server import GrpcServer

log = logging.getLogger("everline.serve")

_LOOK_S = 0.1


class Plane:
    """All parts of one answering process, put together once."""

    def __init__(
        self,
        settings: Settings,
        *,
        source: Source,
        reporter: Reporter,
        prediction_log: PredictionLog,
        metrics: Metrics,
        told: Told,
        grpc_at: tuple[str, int] | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            grpc_at: host and port for gRPC; None speaks HTTP only.
        """
        self._settings = settings
        self._grpc_at = grpc_at
        self._source = source
        self._reporter = reporter
        self._log = prediction_log
        self._tls, self._tls_files = tls_of(settings), tls_files(settings)
        self._watchers = watchers_of(settings)
        self._app = DataPlaneApp(
            settings, source=source, prediction_log=prediction_log, metrics=metrics, told=told,
            watchers=self._watchers.each,
        )  # fmt: skip

    async def serve(
        self, listener: socket.socket, stop: asyncio.Event, *, beside: Sequence[Callable[[], Any]] = ()
    ) -> None:
        """Answer until `stop` is set, then end in order: requests, log.

        Args:
            beside: coroutine functions that run meanwhile.
        """
        server = HttpServer(
            self._app.handle,
            bytes_max=self._settings.request_bytes_max,
            connections_max=self._settings.connections_max,
            request_s=self._settings.request_s,
            idle_s=self._settings.keep_alive_s,
        )
        self._source.start()
        background = [
            asyncio.create_task(rotate(self._log, look_s=_LOOK_S, finish=finish)),
            asyncio.create_task(self._app.look_after()),
            *(asyncio.create_task(one()) for one in beside),
        ]
        drain_s = self._settings.drain_s
        grpc = self._grpc()
        try:
            if grpc is not None and self._grpc_at is not None:
                port = await grpc.start(*self._grpc_at, credentials=self._credentials())
                log.info("gRPC at %s:%d", self._grpc_at[0], port)
            await server.start(listener, tls=self._tls)
            self._reporter.start()
            await stop.wait()
            await asyncio.gather(server.stop(drain_s=drain_s), *([grpc.stop(drain_s=drain_s)] if grpc else []))
        finally:
            self._source.stop()
            self._reporter.stop()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            # A segment may still be on its way to the disk in a thread; the shipper must find it.
            await asyncio.get_running_loop().shutdown_default_executor()
            detached = self._log.detach()
            if detached is not None:
                finish(detached)
            self._app.close()
            self._watchers.close()

    def _credentials(self) -> Any:
        if self._tls_files is None:
            return None
        return load("grpc").ssl_server_credentials([self._tls_files])

    def _grpc(self) -> GrpcServer | None:
        if self._grpc_at is None:
            return None
        made: GrpcServer = load("everline.serving.dataplane.grpc.server").GrpcServer(self._app, self._settings)
        return made


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop, where there is one."""
    try:
        uvloop = load("uvloop")
    except ModuleNotFoundError:  # there is none for Windows
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
