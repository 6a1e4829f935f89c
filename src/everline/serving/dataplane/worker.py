"""One of several answering processes: loads what the supervisor brought to the disk, answers, and tells how it is.

Its standard input is the supervisor's voice: a line says that there is a new state, the end says to finish.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from everline.config import Settings
from everline.errors import EverlineError, UnavailableError
from everline.governance.signing import VerifyKey
from everline.serving.dataplane.app import Told
from everline.serving.dataplane.applying import Applying
from everline.serving.dataplane.following import Reporter, Source
from everline.serving.dataplane.metrics import Metrics
from everline.serving.dataplane.plane import Plane, loop_factory
from everline.serving.dataplane.process import Options, measuring, new_log
from everline.serving.dataplane.routing import RoutingTable
from everline.serving.dataplane.snapshots import EVERY_S, Snapshots
from everline.serving.dataplane.store import LocalStore
from everline.serving.dataplane.tables import Tables
from everline.serving.dataplane.watching import address_of
from everline.serving.types import DesiredState

log = logging.getLogger("everline.serve")

ORDERS_VARIABLE = "EVERLINE_WORKER"


class WorkerOrders(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor tells a worker, through the environment: a token stays out of process lists."""

    settings: Settings
    options: Options
    host: str
    port: int
    log_level: str = "INFO"
    number: int = 0


class DiskFollower:
    """Applies the state that lies on this disk, whenever it is told that there is a new one."""

    def __init__(self, store: LocalStore, tables: Tables, *, key: str | None) -> None:
        self._store = store
        self._tables = tables
        self._applying = Applying(tables, early=lambda state: None, done=self._done, failed=self._faulted)
        self._key = key
        self._changed = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)
        self.trouble: str | None = "no state was received yet"

    @property
    def table(self) -> RoutingTable | None:
        """What is served; None until a first state was applied."""
        return self._tables.table

    def start(self) -> None:
        """Apply what lies there, so that nobody is answered "not yet" by a worker that took another's place; go on."""
        self._look(self._applying.now)
        self._applying.start()
        self._thread.start()

    def changed(self) -> None:
        """Look at the disk again."""
        self._changed.set()

    def stop(self) -> None:
        """End soon."""
        self._ending = True
        self._changed.set()
        self._applying.stop()

    def _run(self) -> None:
        while not self._ending:
            self._changed.wait()
            self._changed.clear()
            self._look(self._applying.give)

    def _look(self, apply: Callable[[DesiredState, VerifyKey], None]) -> None:
        try:
            state = self._store.read_state()
            key = VerifyKey.read(self._key) if self._key else self._store.read_pinned_key()
            if state is not None and key is not None:
                apply(state, key)
        except EverlineError as error:
            self.trouble = error.message
        except Exception as error:  # a fault of ours must not end the following; it is shown in /health
            log.exception("the desired state could not be applied")
            self._faulted(error)

    def _done(self, state: DesiredState, complete: bool) -> None:
        self.trouble = None

    def _faulted(self, error: Exception) -> None:
        self.trouble = f"{type(error).__name__}: {error}"


def run(orders: WorkerOrders) -> None:
    """Answer until standard input ends."""
    settings, options = orders.settings, orders.options
    store, metrics = LocalStore(settings.home), Metrics()
    snapshots = Snapshots(store.workers, metrics=metrics, number=orders.number)
    source, changed = _source(settings, options, store, metrics)
    prediction_log = new_log(settings, store, owner=str(orders.number))
    measured = measuring(
        settings, store, metrics, prediction_log, alone=options.standing is not None and orders.number == 0
    )
    listener = _listener(orders.host, orders.port)
    reporter = Reporter(
        source, store, report=snapshots.write, address=address_of(settings, orders.host, orders.port), every_s=EVERY_S,
        on_spool_bytes=measured,
    )  # fmt: skip
    told = Told(health=lambda: snapshots.health(reporter.health()), metrics=snapshots.text)
    plane = Plane(
        settings,
        source=source,
        reporter=reporter,
        prediction_log=prediction_log,
        metrics=metrics,
        told=told,
        grpc_at=options.grpc_at(orders.host),
    )
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(plane, listener, changed))


async def _serve(plane: Plane, listener: socket.socket, changed: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def listen() -> None:
        while sys.stdin.buffer.readline():
            changed()
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=listen, name="supervisor", daemon=True).start()
    await plane.serve(listener, stop)


def _source(
    settings: Settings, options: Options, store: LocalStore, metrics: Metrics
) -> tuple[Source, Callable[[], None]]:
    if options.standing is not None:
        return options.standing.make(store, metrics), lambda: None
    source = DiskFollower(
        store, Tables(store, metrics, download=_not_here, pickle_projects=settings.pickle_projects), key=options.key
    )
    return source, source.changed


def _not_here(digest: str, path: Path) -> None:
    raise UnavailableError(f"The blob {digest} is not on this disk yet; the supervisor fetches it.")


def _listener(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))  # it listens once there is something to serve
    return listener


def main() -> None:
    """Entry point of `python -m everline.serving.dataplane.worker`; orders come in the environment."""
    orders = msgspec.json.decode(os.environ.pop(ORDERS_VARIABLE), type=WorkerOrders, dec_hook=_path_hook)
    logging.basicConfig(
        level=orders.log_level, format=f"%(asctime)s %(levelname)s %(name)s worker {orders.number}: %(message)s"
    )
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel("WARNING")
    run(orders)


def _path_hook(kind: type, value: object) -> object:
    return Path(str(value)) if kind is Path else value


if __name__ == "__main__":
    main()
