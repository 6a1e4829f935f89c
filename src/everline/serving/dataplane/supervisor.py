"""Several workers on one port: this process starts them, starts them again, fetches and ships, and answers nothing.

Each worker has a socket of its own on the port (SO_REUSEPORT), and the kernel spreads connections over them. The
supervisor follows the control plane, brings packages to the disk, verifies them and says that there is a new state; the
workers verify again and load. A worker that dies is started again; what its log holds is kept.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec

from everline.config import Settings
from everline.errors import EverlineError
from everline.governance.signing import VerifyKey
from everline.serving.dataplane.applying import IsNewest
from everline.serving.dataplane.control_plane import ControlPlane
from everline.serving.dataplane.following import Reporter, Source
from everline.serving.dataplane.loading import Loader
from everline.serving.dataplane.log.raw_segments import adopt_open_segments
from everline.serving.dataplane.log.shipper_process import ShipperProcess
from everline.serving.dataplane.metrics import Metrics
from everline.serving.dataplane.process import (
    Options,
    control_plane_of,
    follower,
    shipping_orders,
    stop_on_signals,
)
from everline.serving.dataplane.routing import RoutingTable
from everline.serving.dataplane.snapshots import Snapshots
from everline.serving.dataplane.standing import Standing
from everline.serving.dataplane.store import LocalStore
from everline.serving.dataplane.watching import address_of
from everline.serving.dataplane.worker import ORDERS_VARIABLE, WorkerOrders
from everline.serving.types import DesiredState, Health

log = logging.getLogger("everline.serve")

_LOOK_S = 0.05
_START_S = 60.0
_BACK_OFF_MAX_S = 5.0
_STEADY_S = 10.0


class Fetcher:
    """Brings the packages of a state to this disk, verified; the workers load them from there."""

    table: RoutingTable | None = None

    def __init__(self, store: LocalStore, control_plane: ControlPlane) -> None:
        self._store = store
        self._control_plane = control_plane

    def prefer(self, state: DesiredState) -> bool:
        """Whether everything lies on this disk already: then the workers, who verify it too, may be told at once."""
        return all(
            (self._store.packages / one.package.removeprefix("sha256:")).is_dir()
            and (self._store.signatures / f"{one.signature.removeprefix('sha256:')}.json").exists()
            for endpoint in state.endpoints
            for one in endpoint.revisions
        )

    def apply(self, state: DesiredState, *, key: VerifyKey, is_newest: IsNewest) -> bool:
        """Fetch what is new; whether nothing was refused."""
        loader = Loader(self._store, download=self._control_plane.download, key=key, rotations=state.rotations)
        complete = True
        for endpoint in state.endpoints:
            for revision in endpoint.revisions:
                if not is_newest():
                    return False
                try:
                    loader.fetch(endpoint, revision)
                except EverlineError as error:
                    complete = False
                    what = f"{endpoint.endpoint}: {revision.model}/{revision.version}"
                    log.error("not fetched %s: %s", what, error.message)
        return complete


class WorkerProcess:
    """One worker, as the supervisor sees it."""

    def __init__(self, number: int, orders: WorkerOrders) -> None:
        self.number = number
        self._environment = os.environ | {ORDERS_VARIABLE: msgspec.json.encode(orders, enc_hook=str).decode()}
        self._started_at = 0.0
        self._pause_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self._started_at = time.monotonic()
        # A session of its own: Ctrl-C in a terminal must not end it before it was told to drain.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "everline.serving.dataplane.worker"],
            stdin=subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
        )

    def died(self) -> int | None:
        """How it ended, if it did; told once."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            steady = time.monotonic() - self._started_at > _STEADY_S
            self._pause_s = 0.0 if steady else min(max(self._pause_s * 2, 0.1), _BACK_OFF_MAX_S)
            self._process = None
        return code

    def due(self) -> bool:
        """Whether it is dead and its pause is over."""
        return self._process is None and time.monotonic() - self._started_at >= self._pause_s

    def tell(self) -> None:
        """Say that there is a new state on the disk."""
        if self._process is not None and self._process.stdin is not None:
            try:
                self._process.stdin.write(b"\n")
                self._process.stdin.flush()
            except OSError:  # it is dying; its successor reads the disk anyway
                return

    def drain(self) -> None:
        """Tell it to finish what is at hand and to end."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def wait(self, seconds: float) -> None:
        """Wait for its end; kill it after so long."""
        if self._process is None:
            return
        try:
            self._process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            log.warning("worker %d did not finish in time", self.number)
            self._process.kill()
            self._process.wait()


class Supervisor:
    """Keeps the workers of one data plane alive, fetches and ships for them."""

    def __init__(self, settings: Settings, options: Options, *, store: LocalStore, listener: socket.socket) -> None:
        self._settings = settings
        self._options = options
        self._store = store
        self._port = listener  # held, so that nobody else takes the port while a worker is away
        host, port = listener.getsockname()[:2]
        self._address = address_of(settings, host, port)
        self._snapshots = Snapshots(store.workers, metrics=Metrics())
        level = logging.getLevelName(logging.getLogger().level)
        orders = WorkerOrders(settings=settings, options=options, host=host, port=port, log_level=level)
        self._workers = [
            WorkerProcess(number, msgspec.structs.replace(orders, number=number)) for number in range(options.workers)
        ]

    async def serve(self, announce: Callable[[], None]) -> None:
        """Run until SIGTERM or Ctrl-C."""
        stop = stop_on_signals()
        self._snapshots.clear()
        source, report, shipper = self._sources()
        reporter = Reporter(
            source,
            self._store,
            report=lambda health: report(self._snapshots.health(health)),
            address=self._address,
            every_s=self._settings.health_report_s,
            on_spool_bytes=lambda spool_bytes: None,
        )
        background = [] if shipper is None else [asyncio.create_task(shipper.keep_alive())]
        try:
            source.start()
            await self._start(stop)
            announce()
            reporter.start()
            while not stop.is_set():
                self._look()
                await asyncio.sleep(_LOOK_S)
        finally:
            source.stop()
            reporter.stop()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            self._end()
            if shipper is not None:
                shipper.drain(self._settings.drain_s)

    def _sources(self) -> tuple[Source, Callable[[Health], object], ShipperProcess | None]:
        if self._options.standing is not None:
            nothing = Standing(RoutingTable(generation=0, endpoints=[]), trouble="not asked: what is served stands")
            return nothing, lambda health: None, None
        control_plane = control_plane_of(self._settings, self._options)
        source = follower(
            self._settings,
            self._options,
            self._store,
            control_plane,
            Fetcher(self._store, control_plane),
            on_applied=self._tell,
        )
        return source, control_plane.report, ShipperProcess(shipping_orders(self._settings, self._options))

    async def _start(self, stop: asyncio.Event) -> None:
        """Start the workers one after the other: the first brings to the disk what the others find there."""
        for worker in self._workers:
            worker.start()
            deadline = time.monotonic() + _START_S
            while not self._snapshots.has(worker.number) and time.monotonic() < deadline and not stop.is_set():
                if worker.died() is not None:
                    raise EverlineError("A worker could not be started; what it said stands above.")
                await asyncio.sleep(_LOOK_S)

    def _tell(self) -> None:
        for worker in self._workers:
            worker.tell()

    def _look(self) -> None:
        """Start again what died, and keep its log."""
        for worker in self._workers:
            code = worker.died()
            if code is not None:
                kept = adopt_open_segments(self._store.spool, owner=str(worker.number))
                log.error("worker %d ended with %s; %d open segments of it were kept", worker.number, code, kept)
            if worker.due():
                worker.start()

    def _end(self) -> None:
        for worker in self._workers:
            worker.drain()
        deadline = time.monotonic() + self._settings.drain_s + 1.0
        for worker in self._workers:
            worker.wait(deadline - time.monotonic())
        adopt_open_segments(self._store.spool)
        self._port.close()
