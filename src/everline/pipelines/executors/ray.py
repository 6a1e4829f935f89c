"""Steps on a Ray cluster: one that is started here for the run, or one that is there.

Ray carries names, records of results and answers, as bytes; results go to the blob store, as from any worker. Records
and kept results stay with the driver, so nothing on the cluster needs to last.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from everline.clock import Clock
from everline.errors import EverlineError, InvalidInputError
from everline.loader import require
from everline.pipelines import own_environments
from everline.pipelines.executors import wire
from everline.pipelines.executors.output import Output
from everline.pipelines.executors.tasks import Capacity, Event, Failed, Printed, Task
from everline.pipelines.executors.work import secrets_of
from everline.pipelines.executors.worker import Hands, Setup
from everline.pipelines.types import StepError

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
_AHEAD = 16
_HEALTH_MS = 1_000
"""Ray takes a node for dead after 15 s by default; a run need not wait that long to go on elsewhere."""


class RayExecutor:
    """Runs tasks on a cluster.

    `Resources.cpus` and `memory_mb` are reserved on a node; memory is not held to its limit by us, but by Ray's own
    monitor. A step whose worker or node is lost is reported as lost.

    Args:
        address: `ray://HOST:PORT` of a cluster; None starts one on this machine, which ends with the run. In a program
            that has called `ray.init` itself, that cluster is used.
        output_bytes_max: how much of what a step prints is passed on.
    """

    def __init__(self, setup: Setup, *, address: str | None, clock: Clock, output_bytes_max: int) -> None:
        self._ray = require("ray", extra="ray")
        self._clock, self._output_bytes_max = clock, output_bytes_max
        host = urlsplit(address or "").hostname
        if host is not None and host not in _HERE and not setup.url:
            raise InvalidInputError(
                f"The cluster at {address} cannot reach {setup.home}, where this run is recorded.",
                hint="Start `everline server` where the cluster can reach it, and set EVERLINE_URL.",
                field="on",
            )
        self._starts = not self._ray.is_initialized()
        if self._starts:
            self._ray.init(**self._options(setup, address))
        self._setup = self._ray.put(setup.packed())
        self._remote = self._ray.remote(max_retries=0)(do)
        self._running: dict[Any, tuple[Task, float]] = {}
        self._refused: list[Event] = []
        self._elsewhere, self._home = host is not None and host not in _HERE, setup.home_path

    def _options(self, setup: Setup, address: str | None) -> dict[str, Any]:
        variables = {"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")}
        environment: dict[str, Any] = {"env_vars": variables}
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": environment}
        if address is None:
            health = {"health_check_period_ms": _HEALTH_MS, "health_check_timeout_ms": 5 * _HEALTH_MS}
            return {"address": "local", "include_dashboard": False, "_system_config": health, **options}
        environment["working_dir"] = str(Path.cwd())
        return {"address": address, **options}

    @property
    def capacity(self) -> Capacity:
        there = self._ray.cluster_resources()
        memory = int(there["memory"] / 1e6) if "memory" in there else None
        return Capacity(cpus=float(there.get("CPU", 1.0)), memory_mb=memory, ahead=_AHEAD)

    def submit(self, task: Task) -> None:
        resources = task.spec.options.resources
        wanted: dict[str, Any] = {"num_cpus": resources.cpus}
        if resources.memory_mb is not None:
            wanted["memory"] = resources.memory_mb * 1_000_000
        try:
            if task.own:
                wanted["runtime_env"] = {"py_executable": self._own_python(task)}
            packed = wire.pack(task)
        except EverlineError as error:
            problem = StepError(type=type(error).__name__, message=error.message)
            self._refused.append(Failed(task=task, error=problem, hint=error.hint, ended_at=self._clock.now()))
            return
        reference = self._remote.options(**wanted).remote(self._setup, packed, bool(task.own), self._output_bytes_max)
        self._running[reference] = (task, time.monotonic())

    def _own_python(self, task: Task) -> str:
        if self._elsewhere:
            raise InvalidInputError(
                "It asks for an environment of its own, which would have to be on every node of the cluster.",
                hint="Run it with `--on local`, or install what it needs on the cluster.",
            )
        return str(own_environments.make(task.own, home=self._home))

    def wait(self, timeout_s: float) -> list[Event]:
        if self._refused or not self._running:
            refused, self._refused = self._refused, []
            return refused
        references = list(self._running)
        ready, _ = self._ray.wait(references, num_returns=1, timeout=self._pause(timeout_s), fetch_local=False)
        if ready:
            ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0, fetch_local=False)
        events: list[Event] = []
        for reference in ready:
            task, _ = self._running.pop(reference)
            events += self._heard(reference, task)
        return events + self._stopped_late()

    def cancel(self) -> None:
        for reference in self._running:
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
        self._running.clear()

    def close(self) -> None:
        self.cancel()
        if self._starts:
            self._ray.shutdown()

    def _pause(self, timeout_s: float) -> float:
        ends = [since + t.spec.options.timeout_s for t, since in self._running.values() if t.spec.options.timeout_s]
        return max(0.0, min([timeout_s, *(end - time.monotonic() for end in ends)]))

    def _stopped_late(self) -> list[Event]:
        events: list[Event] = []
        for reference, (task, since) in list(self._running.items()):
            limit = task.spec.options.timeout_s
            if limit is None or time.monotonic() - since < limit:
                continue
            del self._running[reference]
            self._ray.cancel(reference, force=True)
            problem = StepError(type="TimeoutError", message=f"it took longer than its {limit:g} s")
            hint = "Give the step more time with `timeout_s`, or less to do."
            events.append(Failed(task=task, error=problem, hint=hint, ended_at=self._clock.now()))
        return events

    def _heard(self, reference: Any, task: Task) -> list[Event]:
        try:
            answer, printed = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            problem = StepError(type=type(error.cause).__name__, message=str(error.cause))
            return [Failed(task=task, error=problem, ended_at=self._clock.now())]
        except self._ray.exceptions.RayError as error:
            problem = StepError(type=type(error).__name__, message=str(error).strip().splitlines()[0])
            hint = "Its worker or node is gone; a step that ends its process looks the same."
            return [Failed(task=task, error=problem, hint=hint, lost=True, ended_at=self._clock.now())]
        return [*([Printed(task, printed)] if printed else []), wire.unpack_answer(answer).event(task)]


@functools.lru_cache(maxsize=4)
def _hands(setup: bytes, own: bool) -> Hands:
    """What a worker of the cluster needs for a run; a worker may serve several runs in turn.

    Args:
        own: the worker has an environment of its own, whose distributions come before those of the run.
    """
    told = Setup.read(setup)
    path = own_environments.project_path(told.path) if own else told.path
    sys.path[:] = [*path, *(entry for entry in sys.path if entry not in path)]
    return Hands(told)


def do(setup: bytes, packed: bytes, own: bool, output_bytes_max: int) -> tuple[bytes, bytes]:
    """One task in a worker of the cluster.

    Returns:
        The packed answer, and what the step printed.
    """
    hands = _hands(setup, own)
    with tempfile.TemporaryFile() as file:
        before = [os.dup(standard) for standard in (1, 2)]
        try:
            for standard in (1, 2):
                os.dup2(file.fileno(), standard)
            answer = hands.do(packed)
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
        finally:
            for standard, kept in zip((1, 2), before, strict=True):
                os.dup2(kept, standard)
                os.close(kept)
        return answer, _printed(file, packed, output_bytes_max)


def _printed(file: Any, packed: bytes, output_bytes_max: int) -> bytes:
    try:
        task = wire.unpack(packed)
    except (EverlineError, ImportError, AttributeError):  # the answer says why
        return b""
    output = Output(task, secrets=secrets_of(task), bytes_max=output_bytes_max)
    file.seek(0)
    pieces = []
    while data := file.read(1 << 16):
        pieces += output.add(data)
    return b"".join(piece.data for piece in [*pieces, *output.end()])
