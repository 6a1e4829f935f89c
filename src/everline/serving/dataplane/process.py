"""The composition root of the data plane: puts the parts together, runs them, and ends them in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable

import msgspec

from everline.config import Settings
from everline.governance.signing import VerifyKey
from everline.loader import load
from everline.serving.dataplane.app import DataPlaneApp, rotate
from everline.serving.dataplane.control_plane import ControlPlane
from everline.serving.dataplane.following import Follower, Reporter, Source
from everline.serving.dataplane.http.server import HttpServer
from everline.serving.dataplane.log.raw_segments import PredictionLog, adopt_open_segments, finish
from everline.serving.dataplane.log.shipper_process import Orders, ShipperProcess
from everline.serving.dataplane.metrics import Metrics
from everline.serving.dataplane.store import LocalStore
from everline.serving.types import Health

log = logging.getLogger("everline.serve")

_LOOK_S = 0.1


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is particular to one run.

    Attributes:
        control_plane: its base URL.
        token: bearer token for it; None where it needs no login.
        key: the public key to believe, as text or a file's path; None takes the control plane's at the first contact
            and keeps to it.
    """

    control_plane: str
    token: str | None = None
    key: str | None = None


MakeSource = Callable[[LocalStore, Metrics], Source]
"""Makes the source of a process that follows no control plane; called once the home is this process's own."""


def run(
    settings: Settings,
    options: Options,
    *,
    listener: socket.socket,
    announce: Callable[[str], None],
    standing: MakeSource | None = None,
) -> None:
    """Serve on a listening socket until SIGTERM or Ctrl-C; then finish what is at hand, ship the log, return.

    Args:
        announce: is told the address once the home is this process's own, so that who reads it may rely on it.
        standing: what to serve with no control plane and no network; the log then stays in the home, the oldest
            segments making room for new ones.

    Raises:
        ConflictError: another process serves from the same home.
        InvalidInputError: the key cannot be read.
    """
    store = LocalStore(settings.home)
    address = "http://{}:{}".format(*listener.getsockname()[:2])
    with store.lock():
        metrics = Metrics()
        alone = None if standing is None else standing(store, metrics)
        announce(address)
        adopted = adopt_open_segments(store.spool)
        if adopted:
            log.warning("%d segments of a process that did not end well were kept", adopted)
        data_plane = DataPlane(settings, options, store=store, address=address, metrics=metrics, alone=alone)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(data_plane.serve(listener))


class DataPlane:
    """All parts of one data plane, put together once."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        *,
        store: LocalStore,
        address: str,
        metrics: Metrics,
        alone: Source | None,
    ) -> None:
        self._settings = settings
        self._source: Source
        self._orders = None if alone else _orders(settings, options)
        self._log = PredictionLog(
            store.spool,
            segment_bytes_max=settings.raw_segment_bytes_max,
            segment_s=settings.raw_segment_s,
            spool_bytes_max=settings.spool_bytes_max,
        )
        report: Callable[[Health], object] = lambda health: None  # noqa: E731
        measured: Callable[[int], None] = self._log.measured
        if alone is not None:
            self._source = alone
            room = settings.spool_bytes_max * 3 // 4  # full, nothing would be answered any more
            measured = lambda spool_bytes: self._log.measured(store.make_room(spool_bytes, room))  # noqa: E731
        else:
            control_plane = ControlPlane(
                options.control_plane,
                token=options.token,
                timeout_s=settings.control_plane_s,
                blob_bytes_max=settings.blob_bytes_max,
            )
            report = control_plane.report
            self._source = Follower(
                store,
                control_plane,
                metrics,
                key=VerifyKey.read(options.key) if options.key else None,
                wait_s=settings.dataplane_wait_s_max,
                refused_retry_s=settings.refused_retry_s,
            )
        self._reporter = Reporter(
            self._source,
            store,
            report=report,
            address=address,
            every_s=settings.health_report_s,
            on_spool_bytes=measured,
        )
        self._app = DataPlaneApp(
            settings,
            source=self._source,
            reporter=self._reporter,
            metrics=metrics,
            prediction_log=self._log,
        )

    async def serve(self, listener: socket.socket) -> None:
        """Answer until a signal comes, then end in order: requests, log, shipper."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        server = HttpServer(
            self._app.handle,
            bytes_max=self._settings.request_bytes_max,
            connections_max=self._settings.connections_max,
            request_s=self._settings.request_s,
            idle_s=self._settings.keep_alive_s,
        )
        shipper = None if self._orders is None else ShipperProcess(self._orders)
        self._source.start()
        self._reporter.start()
        background = [
            asyncio.create_task(rotate(self._log, look_s=_LOOK_S, finish=finish)),
            asyncio.create_task(self._app.look_after()),
        ]
        if shipper is not None:
            background.append(asyncio.create_task(shipper.keep_alive()))
        try:
            await server.start(listener)
            await stop.wait()
            await server.stop(drain_s=self._settings.drain_s)
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
            if shipper is not None:
                shipper.drain(self._settings.drain_s)


def _orders(settings: Settings, options: Options) -> Orders:
    return Orders(
        home=str(settings.home.absolute()),
        url=options.control_plane,
        token=options.token,
        timeout_s=settings.control_plane_s,
        drain_s=settings.drain_s,
    )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        uvloop = load("uvloop")
    except ModuleNotFoundError:  # there is none for Windows
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
