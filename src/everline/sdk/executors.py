"""Where a run's steps run, as `--on` says.

inline          in this process, one after another
local, local:4  in a pool of processes of this machine, as many as it has cores, or so many
ray, ray://…    on a Ray cluster: one that is started here for the run, or the one at that address
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import Any

from everline.clock import Clock
from everline.errors import InvalidInputError
from everline.loader import load
from everline.pipelines.executors.tasks import Capacity, Event, Executor, Task
from everline.pipelines.graph import Graph, Node
from everline.sdk.client import Client

INLINE, LOCAL, RAY = "inline", "local", "ray"
_LOCAL = re.compile(r"local(?::([1-9][0-9]{0,3}))?")
WORKERS_MAX = 1_024


def check(on: str | None) -> str | None:
    """Return `on` if it names an executor.

    Raises:
        InvalidInputError: it does not.
    """
    if on is None or on in (INLINE, RAY) or _LOCAL.fullmatch(on) or on.startswith("ray://"):
        return on
    raise InvalidInputError(
        f"--on {on[:80]!r} is nowhere that steps can run.", hint="Write inline, local, local:4, ray or ray://HOST:PORT.",
        field="on",
    )  # fmt: skip


def choose(on: str | None, graph: Graph) -> str:
    """Where to run if nobody says: in a pool if other processes can find the steps, else in this one."""
    if on is not None:
        return on
    nodes = [node for node in graph.nodes if isinstance(node, Node)]
    return LOCAL if nodes and all(node.spec.address for node in nodes) else INLINE


def open_executor(
    on: str, *, client: Client, modules: list[str], clock: Clock, declared: list[str], peers: list[str], since: float,
    begun: Callable[[Task | None], Any], early: bool = False,
) -> Executor:  # fmt: skip
    """An executor; processes are started when the first task comes.

    Args:
        modules: that the steps lie in.
        declared, peers, since: of undeclared inputs; see `runs.watching`.
        begun: of tasks in this process.
        early: start the processes of a pool now, beside what is done here.
    """
    worker = load("everline.pipelines.executors.worker")
    setup = worker.Setup(
        path=list(sys.path), modules=modules, url=client.settings.url, home=str(client.settings.home.absolute()),
        token=client.token, project=client.project, peers=peers, declared=declared, since=since,
    )  # fmt: skip
    if on == INLINE:
        workshop = worker.workshop_of(setup)
        workshop.client = client
        workshop.rows = worker.rows_of(client)
        inline: Executor = load("everline.pipelines.executors.inline").InlineExecutor(
            workshop, clock=clock, begun=begun
        )
        return inline
    bytes_max = client.settings.step_output_bytes_max
    if on == RAY or on.startswith("ray://"):
        address = None if on == RAY else on
        return LateExecutor(
            lambda: load("everline.pipelines.executors.ray").RayExecutor(
                setup, address=address, clock=clock, output_bytes_max=bytes_max
            ),
            Capacity(cpus=1.0),
        )
    match = _LOCAL.fullmatch(on)
    workers = min(WORKERS_MAX, int(match[1])) if match and match[1] else cores()
    late = LateExecutor(
        lambda: load("everline.pipelines.executors.environments").EnvironmentPools(
            setup, workers=workers, clock=clock, output_bytes_max=bytes_max
        ),
        Capacity(cpus=float(workers)),
    )
    if early:
        late.open()
    return late


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class LateExecutor:
    """An executor that is opened by its first task, or before: a run whose results are all kept starts no process."""

    def __init__(self, opener: Callable[[], Executor], capacity: Capacity) -> None:
        self._opener, self._capacity = opener, capacity
        self._opened: Executor | None = None

    @property
    def capacity(self) -> Capacity:
        return self._capacity if self._opened is None else self._opened.capacity

    def open(self) -> None:
        """Begin to start processes, which takes its time beside whatever is done here."""
        if self._opened is None:
            self._opened = self._opener()

    def submit(self, task: Task) -> None:
        self.open()
        assert self._opened is not None
        self._opened.submit(task)

    def wait(self, timeout_s: float) -> list[Event]:
        return [] if self._opened is None else self._opened.wait(timeout_s)

    def cancel(self) -> None:
        if self._opened is not None:
            self._opened.cancel()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
