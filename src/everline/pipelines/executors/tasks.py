"""What an executor is told about one attempt at a step, and what it tells of it.

An executor knows nothing of graphs, keys, caches or records: it runs functions. `submit` never waits, `wait` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import msgspec

from everline.pipelines.spec import StepSpec
from everline.pipelines.types import DatasetUse, StepError, ValueRef


@dataclass(frozen=True)
class Taken:
    """A result that the step takes.

    Attributes:
        announced: the annotation of the step that made it; None if nobody knows.
        maker: address of that step, and which of its values it is, for a process that must find the annotation.
    """

    ref: ValueRef
    announced: Any = None
    maker: tuple[str | None, int] = (None, 0)


@dataclass(frozen=True)
class Rows:
    """The rows of dataset versions, one version after the other."""

    uses: tuple[DatasetUse, ...]


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a `RunContext` says of the run, without what is only there where the step runs."""

    run: str
    origin: str
    pipeline: str
    code: str
    environment: str
    environment_recorded: bool
    code_recorded: bool
    seed: int | None
    data: tuple[DatasetUse, ...] = ()
    inputs: dict[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One attempt at one step.

    Attributes:
        uid: of the attempt.
        inputs: by parameter: constants, `Taken`, `Rows`, `Secret`, and lists or dicts of them.
        chance: sets the random generators before the step.
        threads: for numeric libraries.
        facts: of the run, for a step that has a context.
        own: requirements of the step's own environment.
    """

    uid: str
    name: str
    spec: StepSpec
    inputs: dict[str, Any]
    chance: str
    threads: int
    facts: RunFacts | None = None
    own: tuple[str, ...] = ()


class Seen(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """An undeclared input that the step was seen to read; see `runs.watching`."""

    kind: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """The step returned."""

    task: Task
    outputs: tuple[ValueRef, ...]
    started_at: datetime
    ended_at: datetime
    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The step raised, took too long or too much, or its process is gone.

    Attributes:
        hint: what to do about it, if that is known.
        lost: the process was killed from outside, so that the step may be all right.
    """

    task: Task
    error: StepError
    ended_at: datetime
    hint: str | None = None
    lost: bool = False
    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True)
class Printed:
    """The step wrote something to its standard output or error."""

    task: Task
    data: bytes


Event = Done | Failed | Printed


@dataclass(frozen=True)
class Capacity:
    """How much of a machine the steps of a run may use at the same time; `memory_mb` None if nobody knows."""

    cpus: float
    memory_mb: int | None = None
    ahead: int = field(default=0)
    """How many tasks more than that may be handed over, so that a worker need not wait for the next."""


class Executor(Protocol):
    """Runs tasks; each one ends with `Done` or `Failed`, or was cancelled."""

    @property
    def capacity(self) -> Capacity:
        """What there is."""

    def submit(self, task: Task) -> None:
        """Begin, now or when the tasks before are done; does not wait."""

    def wait(self, timeout_s: float) -> list[Event]:
        """What happened; waits until something does, at most so long."""

    def cancel(self) -> None:
        """Stop all tasks at once, with the processes that they started; no event comes of them."""

    def close(self) -> None:
        """Let everything go."""
