"""One attempt at one step, in whatever process: read the inputs, call the function, write the results."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everline.errors import EverlineError, InvalidInputError
from everline.loader import load
from everline.pipelines import serialisers
from everline.pipelines.executors.tasks import Rows, Taken, Task
from everline.pipelines.types import StepError, ValueRef
from everline.pipelines.values import RunContext, Secret

TRACEBACK_CHARS_MAX = 20_000
MESSAGE_CHARS_MAX = 2_000
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_READ_ONLY = ("read-only", "assignment destination is read-only", "WRITEABLE")


@dataclass(kw_only=True)
class Workshop:
    """What a process that runs steps has at hand.

    Attributes:
        store: where results lie.
        rows: reads dataset versions, as one Arrow table.
        client: gives the SDK client for steps that ask for it; it may be made at the first use.
    """

    store: serialisers.ResultStore
    rows: Callable[[Rows], Any]
    client: Any

    def perform(self, task: Task) -> tuple[ValueRef, ...]:
        """Do one task; whatever the function raises is raised."""
        spec = task.spec
        made: list[Path] = []

        def folder(name: str) -> Path:
            if not made:
                made.append(Path(tempfile.mkdtemp(prefix="everline-step-")))
            return made[0] / name

        try:
            arguments = {
                name: self._value(value, spec.hints[name], lambda name=name: folder(name))  # type: ignore[misc]
                for name, value in task.inputs.items()
            }
            if spec.context is not None and task.facts is not None:
                own = folder("own")
                own.mkdir(parents=True, exist_ok=True)
                arguments[spec.context] = self._context(task, own)
            set_chance(task.chance)
            with threads(task.threads):
                returned = spec.function(**arguments)
            return self._encoded(task, returned)
        finally:
            for path in made:
                shutil.rmtree(path, ignore_errors=True)

    def _encoded(self, task: Task, returned: Any) -> tuple[ValueRef, ...]:
        outputs = task.spec.outputs
        values = (returned,) if len(outputs) == 1 else tuple(returned)
        if len(values) != len(outputs):
            raise InvalidInputError(
                f"It announced {len(outputs)} results and returned {len(values)}.",
                hint="Return as many values as the annotation says.",
            )
        return tuple(serialisers.encode(v, hint, self.store) for v, hint in zip(values, outputs, strict=True))

    def _context(self, task: Task, own: Path) -> RunContext:
        facts = task.facts
        assert facts is not None
        return RunContext(
            run=facts.run, origin=facts.origin, pipeline=facts.pipeline, client=self.client, code=facts.code,
            environment=facts.environment, environment_recorded=facts.environment_recorded,
            code_recorded=facts.code_recorded, seed=facts.seed, folder=own, data=facts.data, inputs=facts.inputs,
        )  # fmt: skip

    def _value(self, value: Any, wanted: Any, folder: Callable[[], Path]) -> Any:
        if isinstance(value, Taken):
            place = folder() if value.ref.kind == "files" else Path()
            return serialisers.decode(value.ref, self.store, value.announced, wanted, folder=place)
        if isinstance(value, Rows):
            return load("everline.pipelines.columnar").as_frame(self.rows(value), wanted)
        if isinstance(value, Secret):
            return secret_value(value.name)
        if isinstance(value, list | tuple):
            return [self._value(item, Any, lambda i=i: folder() / str(i)) for i, item in enumerate(value)]  # type: ignore[misc]
        if isinstance(value, dict):
            return {key: self._value(item, Any, lambda key=key: folder() / str(key)) for key, item in value.items()}  # type: ignore[misc]
        return value


def secret_value(name: str) -> str:
    """The value of a secret where the step runs.

    Raises:
        InvalidInputError: it is not set here.
    """
    value = os.environ.get(name)
    if not value:
        raise InvalidInputError(
            f"The secret {name} has no value here.",
            hint=f"Set the environment variable {name} where the step runs.",
        )
    return value


def secrets_of(task: Task) -> list[str]:
    """The values of the secrets that a task takes, to black out what it prints."""

    def names(value: Any) -> Iterator[str]:
        if isinstance(value, Secret):
            yield value.name
        elif isinstance(value, list | tuple):
            for item in value:
                yield from names(item)
        elif isinstance(value, dict):
            yield from names(list(value.values()))

    return [os.environ[name] for name in names(list(task.inputs.values())) if os.environ.get(name)]


def described(error: BaseException, secrets: list[str]) -> tuple[StepError, str | None]:
    """What a step raised, for the record, without the values of secrets; and what to do, if the error says so."""
    text = str(error)[:MESSAGE_CHARS_MAX] or "no message"
    trace = "".join(traceback.format_exception(error))[-TRACEBACK_CHARS_MAX:]
    for value in secrets:
        text, trace = text.replace(value, "[secret]"), trace.replace(value, "[secret]")
    hint = error.hint if isinstance(error, EverlineError) else None
    if isinstance(error, ValueError) and any(mark in text for mark in _READ_ONLY):
        hint = "What a step takes is shared with other steps and cannot be written to: work on a copy (`value.copy()`)."
    return StepError(type=type(error).__name__, message=text, traceback=trace), hint


def set_chance(key: str) -> None:
    """Put the global random generators in a state that depends on the step alone, whatever ran before."""
    seed = int.from_bytes(key.encode()[-8:]) % 2**32
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)


_held: tuple[int, int] | None = None


def hold_threads(count: int) -> None:
    """Hold numeric libraries to a number of threads for good: what is loaded, and what will be.

    For processes that do nothing but run steps. To look through the loaded libraries takes a millisecond, so it is
    done only when there may be new ones.
    """
    global _held
    if _held == (count, len(sys.modules)):
        return
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(count)))
    if "numpy" in sys.modules and importlib.util.find_spec("threadpoolctl") is not None:
        load("threadpoolctl").threadpool_limits(limits=count)
    _held = (count, len(sys.modules))


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Hold numeric libraries to a number of threads inside of the block."""
    if _held is not None:
        hold_threads(count)
        yield
        return
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(count)))
    known = "numpy" in sys.modules and importlib.util.find_spec("threadpoolctl") is not None
    limit = load("threadpoolctl").threadpool_limits(limits=count) if known else contextlib.nullcontext()
    try:
        with limit:
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
