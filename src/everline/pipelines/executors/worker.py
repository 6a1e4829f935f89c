"""A worker of the pool: does one task after another, and dies with whoever asked."""

from __future__ import annotations

import contextlib
import functools
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from everline.config import Settings
from everline.loader import load
from everline.pipelines.executors import wire
from everline.pipelines.executors.frames import framed, receive
from everline.pipelines.executors.tasks import Rows, Seen, Task
from everline.pipelines.executors.work import Workshop, described, hold_threads, secrets_of
from everline.runs.watching import Watch

_RELEASE_BYTES = 64 << 20


class Setup(msgspec.Struct, kw_only=True):
    """What every worker of a pool knows.

    Attributes:
        path: Python's search path; with `own`, what comes before the search path of the environment.
        modules: to import before the first worker is forked.
        declared: folders whose files are no undeclared inputs.
        since: what was written after this moment is the run's own, in seconds since 1970.
        token: of the API; never in a command line.
    """

    path: list[str]
    modules: list[str]
    url: str
    home: str
    token: str | None
    project: str
    peers: list[str]
    declared: list[str]
    since: float
    own: bool = False

    @property
    def home_path(self) -> Path:
        """The home directory."""
        return Path(self.home)

    @classmethod
    def read(cls, data: bytes) -> Setup:
        """From a message."""
        return msgspec.msgpack.decode(data, type=cls)

    def packed(self) -> bytes:
        """As a message."""
        return msgspec.msgpack.encode(self)


class LateClient:
    """The SDK client of a process, made when a step first asks it something."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    @functools.cached_property
    def _client(self) -> Any:
        one = self._setup
        # By name: the client lies above pipelines, and only a step that asks for it needs it.
        return load("everline.sdk.client").Client(one.url or None, home=one.home, token=one.token, project=one.project)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def workshop_of(setup: Setup) -> Workshop:
    """What a process needs to run steps of a run."""
    client = LateClient(setup)
    stores = load("everline.pipelines.stores")
    if setup.url:
        store = stores.ClientStore(client)
    else:
        store = stores.embedded_store(Settings.load(home=setup.home))
    return Workshop(store=store, rows=rows_of(client), client=client)


def rows_of(client: Any) -> Callable[[Rows], Any]:
    """How a client reads the rows of dataset versions."""

    def rows(asked: Rows) -> Any:
        tables = [client.datasets.table(use.name, use.version) for use in asked.uses]
        return tables[0] if len(tables) == 1 else load("pyarrow").concat_tables(tables)

    return rows


class Hands:
    """Does packed tasks, and says what was seen meanwhile."""

    def __init__(self, setup: Setup) -> None:
        self._workshop = workshop_of(setup)
        self._watch = Watch(peers=setup.peers, folders=setup.declared, since=setup.since).start()
        self._told: set[tuple[str, str]] = set()

    def do(self, packed: bytes) -> bytes:
        """One task; never raises."""
        started = datetime.now(UTC)
        task: Task | None = None
        try:
            task = wire.unpack(packed)
            self._watch.step = task.name
            hold_threads(task.threads)
            outputs = self._workshop.perform(task)
            answer = wire.Answer(task.uid, started, datetime.now(UTC), outputs, seen=self._seen())
            _let_go(outputs)
        except BaseException as error:  # `sys.exit` in a step ends the step, not the worker
            problem, hint = described(error, secrets_of(task) if task else [])
            uid = task.uid if task else wire.uid_of(packed)
            answer = wire.Answer(uid, started, datetime.now(UTC), error=problem, hint=hint, seen=self._seen())
        finally:
            self._watch.step = None
        return wire.pack_answer(answer)

    def _seen(self) -> tuple[Seen, ...]:
        if len(self._watch.found) == len(self._told):
            return ()
        new = [key for key in self._watch.found if key not in self._told]
        self._told.update(new)
        return tuple(Seen(kind=kind, name=name) for kind, name in new)


def main(tasks: socket.socket, setup: Setup) -> None:
    """Do tasks until the pool closes the socket."""
    hold_threads(1)
    hands = Hands(setup)
    while packed := receive(tasks):
        answer = hands.do(packed)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # the step closed it
                stream.flush()
        tasks.sendall(framed(answer))


def _let_go(outputs: Any) -> None:
    """Give memory back after a large result: Arrow keeps it for the next, which another process may make."""
    if sum(file.bytes for ref in outputs for file in ref.files) >= _RELEASE_BYTES and "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
