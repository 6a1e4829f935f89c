"""The composition root of the data plane: one process that does everything, or a supervisor of several workers."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from everline.config import Settings
from everline.governance.signing import VerifyKey
from everline.loader import load
from everline.serving.dataplane.app import Told
from everline.serving.dataplane.applying import Applier
from everline.serving.dataplane.control_plane import ControlPlane
from everline.serving.dataplane.following import Follower, Reporter, Source
from everline.serving.dataplane.log.raw_segments import PredictionLog, adopt_open_segments
from everline.serving.dataplane.log.shipper_process import Orders, ShipperProcess
from everline.serving.dataplane.metrics import Metrics
from everline.serving.dataplane.plane import Plane, loop_factory
from everline.serving.dataplane.store import LocalStore
from everline.serving.dataplane.tables import Tables
from everline.serving.dataplane.watching import address_of, tls_of
from everline.serving.types import Health

log = logging.getLogger("everline.serve")


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What to serve with no control plane and no network.

    Attributes:
        maker: `module:function`; takes the arguments, a store and metrics, and gives a source that is complete.
    """

    maker: str
    arguments: dict[str, str | None]

    def make(self, store: LocalStore, metrics: Metrics) -> Source:
        """The source, made by the floor above that knows what this is."""
        module, _, name = self.maker.partition(":")
        source: Source = getattr(load(module), name)(store, metrics, **self.arguments)
        return source


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is particular to one run.

    Attributes:
        control_plane: its base URL.
        token: bearer token for it; None where it needs no login.
        key: the public key to believe, as text or a file's path; None takes the control plane's at the first contact
            and keeps to it.
        standing: what to serve in place of what a control plane says; the log then stays in the home, the oldest
            segments making room for new ones.
        workers: how many processes answer.
        grpc_port: where gRPC is spoken; None where it is not.
    """

    control_plane: str
    token: str | None = None
    key: str | None = None
    standing: Standing | None = None
    workers: int = 1
    grpc_port: int | None = None

    def grpc_at(self, host: str) -> tuple[str, int] | None:
        """Host and port for gRPC, beside HTTP on the same host."""
        return None if self.grpc_port is None else (host, self.grpc_port)


def run(settings: Settings, options: Options, *, listener: socket.socket, announce: Callable[[str], None]) -> None:
    """Serve on a listening socket until SIGTERM or Ctrl-C; then finish what is at hand, ship the log, return.

    Args:
        listener: for several workers it is bound with SO_REUSEPORT and does not listen: it only keeps the port.
        announce: is told the address once the home is this process's own, so that who reads it may rely on it.

    Raises:
        ConflictError: another process serves from the same home.
        InvalidInputError: the key cannot be read.
    """
    store = LocalStore(settings.home)
    tls_of(settings)  # refused here, before anything runs
    address = address_of(settings, *listener.getsockname()[:2])
    with store.lock(), asyncio.Runner(loop_factory=loop_factory()) as runner:
        adopted = adopt_open_segments(store.spool)
        if adopted:
            log.warning("%d segments of a process that did not end well were kept", adopted)
        if options.workers > 1:
            supervising = load("everline.serving.dataplane.supervisor")
            supervisor = supervising.Supervisor(settings, options, store=store, listener=listener)
            runner.run(supervisor.serve(lambda: announce(address)))
        else:
            metrics = Metrics()
            alone = None if options.standing is None else options.standing.make(store, metrics)
            announce(address)
            runner.run(_serve(settings, options, store, metrics, alone, listener=listener, address=address))


async def _serve(
    settings: Settings,
    options: Options,
    store: LocalStore,
    metrics: Metrics,
    alone: Source | None,
    *,
    listener: socket.socket,
    address: str,
) -> None:
    stop = stop_on_signals()
    prediction_log = new_log(settings, store)
    measured = measuring(settings, store, metrics, prediction_log, alone=alone is not None)
    report: Callable[[Health], object] = lambda health: None  # noqa: E731
    if alone is None:
        control_plane = control_plane_of(settings, options)
        tables = Tables(store, metrics, download=control_plane.download, pickle_projects=settings.pickle_projects)
        alone, report = follower(settings, options, store, control_plane, tables), control_plane.report
        shipper = ShipperProcess(shipping_orders(settings, options))
    else:
        shipper = None
    reporter = Reporter(
        alone, store, report=report, address=address, every_s=settings.health_report_s, on_spool_bytes=measured
    )
    told = Told(health=reporter.health, metrics=metrics.text)
    plane = Plane(
        settings,
        source=alone,
        reporter=reporter,
        prediction_log=prediction_log,
        metrics=metrics,
        told=told,
        grpc_at=options.grpc_at(listener.getsockname()[0]),
    )
    try:
        await plane.serve(listener, stop, beside=[shipper.keep_alive] if shipper else [])
    finally:
        if shipper is not None:
            shipper.drain(settings.drain_s)


# --- parts that the supervisor and its workers are put together from, too -----------------------------------------


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and Ctrl-C set; call it in the running loop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def new_log(settings: Settings, store: LocalStore, *, owner: str = "") -> PredictionLog:
    """The prediction log of one answering process."""
    return PredictionLog(
        store.spool,
        owner=owner,
        segment_bytes_max=settings.raw_segment_bytes_max,
        segment_s=settings.raw_segment_s,
        spool_bytes_max=settings.spool_bytes_max,
    )


def measuring(
    settings: Settings, store: LocalStore, metrics: Metrics, prediction_log: PredictionLog, *, alone: bool
) -> Callable[[int], None]:
    """What is told the bytes that wait on this disk; with nobody to ship to, it makes room first."""
    room = settings.spool_bytes_max * 3 // 4  # full, nothing would be answered any more

    def measured(spool_bytes: int) -> None:
        spool_bytes = store.make_room(spool_bytes, room) if alone else spool_bytes
        prediction_log.measured(spool_bytes)
        metrics.spool_bytes.set(spool_bytes)

    return measured


def control_plane_of(settings: Settings, options: Options) -> ControlPlane:
    """The control plane's client."""
    return ControlPlane(
        options.control_plane,
        token=options.token,
        timeout_s=settings.control_plane_s,
        blob_bytes_max=settings.blob_bytes_max,
    )


def follower(
    settings: Settings,
    options: Options,
    store: LocalStore,
    control_plane: ControlPlane,
    applier: Applier,
    **more: Any,
) -> Follower:
    """What follows the control plane."""
    return Follower(
        store,
        control_plane,
        applier,
        key=VerifyKey.read(options.key) if options.key else None,
        wait_s=settings.dataplane_wait_s_max,
        refused_retry_s=settings.refused_retry_s,
        **more,
    )


def shipping_orders(settings: Settings, options: Options) -> Orders:
    """What the shipper is told."""
    return Orders(
        home=str(settings.home.absolute()),
        url=options.control_plane,
        token=options.token,
        timeout_s=settings.control_plane_s,
        drain_s=settings.drain_s,
    )
