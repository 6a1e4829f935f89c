"""Steps in this process, one after another: for functions that no other process can import, and for debuggers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from everline.clock import Clock
from everline.pipelines.executors.tasks import Capacity, Done, Event, Failed, Task
from everline.pipelines.executors.work import Workshop, described, secrets_of
from everline.pipelines.types import StepError


class InlineExecutor:
    """Runs each task when it is waited for.

    What a step prints goes where it always went. Limits of time and memory are not kept: nobody could stop the step.

    Args:
        begun: is told of each task before it starts, and None after it ended.
    """

    capacity = Capacity(cpus=1.0)

    def __init__(self, workshop: Workshop, *, clock: Clock, begun: Callable[[Task | None], Any] = lambda task: None):
        self._workshop, self._clock, self._begun = workshop, clock, begun
        self._waiting: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        self._waiting.append(task)

    def wait(self, timeout_s: float) -> list[Event]:
        if not self._waiting:
            return []
        task = self._waiting.popleft()
        started = self._clock.now()
        if task.own:
            other = StepError(type="OtherEnvironment", message="it asks for an environment of its own")
            advice = "Run it in a process: `--on local`, with its step in a module that can be imported."
            return [Failed(task=task, error=other, hint=advice, ended_at=started)]
        self._begun(task)
        try:
            outputs = self._workshop.perform(task)
        except Exception as error:
            problem, hint = described(error, secrets_of(task))
            return [Failed(task=task, error=problem, hint=hint, ended_at=self._clock.now())]
        finally:
            self._begun(None)
        return [Done(task=task, outputs=outputs, started_at=started, ended_at=self._clock.now())]

    def cancel(self) -> None:
        self._waiting.clear()

    def close(self) -> None:
        self._waiting.clear()
