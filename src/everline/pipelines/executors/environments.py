"""A pool of processes for each environment that steps of a run ask for; most runs have one."""

from __future__ import annotations

import msgspec

from everline.clock import Clock
from everline.errors import EverlineError
from everline.pipelines import own_environments
from everline.pipelines.executors.pool import PoolExecutor
from everline.pipelines.executors.tasks import Capacity, Event, Failed, Task
from everline.pipelines.executors.worker import Setup
from everline.pipelines.types import StepError

_TURN_S = 0.02


class EnvironmentPools:
    """Runs each task in the environment that its step asks for; see `PoolExecutor` for the arguments."""

    def __init__(self, setup: Setup, *, workers: int, clock: Clock, output_bytes_max: int) -> None:
        self._setup, self._workers, self._clock, self._output_bytes_max = setup, workers, clock, output_bytes_max
        self._pools: dict[tuple[str, ...], PoolExecutor] = {}
        self._failed: list[Event] = []
        self._open(())

    @property
    def capacity(self) -> Capacity:
        known = [pool.capacity for pool in self._pools.values()]
        return max(known, key=lambda one: one.ahead, default=Capacity(cpus=float(self._workers)))

    def submit(self, task: Task) -> None:
        try:
            self._open(task.own).submit(task)
        except EverlineError as error:
            problem = StepError(type=type(error).__name__, message=error.message)
            self._failed.append(Failed(task=task, error=problem, hint=error.hint, ended_at=self._clock.now()))

    def wait(self, timeout_s: float) -> list[Event]:
        failed, self._failed = self._failed, []
        pools = list(self._pools.values())
        if len(pools) == 1 and not failed:
            return pools[0].wait(timeout_s)
        events: list[Event] = list(failed)
        for pool in pools:
            events += pool.wait(0.0 if events else min(timeout_s, _TURN_S))
        return events

    def cancel(self) -> None:
        for pool in self._pools.values():
            pool.cancel()

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def _open(self, own: tuple[str, ...]) -> PoolExecutor:
        if own not in self._pools:
            python, setup = None, self._setup
            if own:
                python = str(own_environments.make(own, home=self._setup.home_path))
                setup = msgspec.structs.replace(setup, path=own_environments.project_path(setup.path), own=True)
            self._pools[own] = PoolExecutor(
                setup, python=python, workers=self._workers, clock=self._clock,
                output_bytes_max=self._output_bytes_max,
            )  # fmt: skip
        return self._pools[own]
