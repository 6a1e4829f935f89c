"""Tasks and answers as bytes between processes: names of functions, records of results and plain values, never code."""

from __future__ import annotations

import functools
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from everline.errors import InvalidInputError
from everline.loader import load
from everline.pipelines.annotations import item_of
from everline.pipelines.executors.tasks import Done, Failed, Rows, RunFacts, Seen, Taken, Task
from everline.pipelines.spec import StepSpec
from everline.pipelines.types import DatasetUse, StepError, ValueRef
from everline.pipelines.values import Secret


class _Sent(msgspec.Struct, omit_defaults=True):
    uid: str
    name: str
    step: str
    inputs: dict[str, Any]
    chance: str
    threads: int
    facts: RunFacts | None = None


class Answer(msgspec.Struct, omit_defaults=True):
    """What a worker says of a task; `error` None means that the step returned."""

    uid: str
    started_at: datetime
    ended_at: datetime
    outputs: tuple[ValueRef, ...] = ()
    error: StepError | None = None
    hint: str | None = None
    seen: tuple[Seen, ...] = ()

    def event(self, task: Task) -> Done | Failed:
        """The answer as an event of its task."""
        if self.error is None:
            return Done(
                task=task, outputs=self.outputs, started_at=self.started_at, ended_at=self.ended_at, seen=self.seen
            )
        return Failed(task=task, error=self.error, hint=self.hint, ended_at=self.ended_at, seen=self.seen)


_encoder = msgspec.msgpack.Encoder()
_sent = msgspec.msgpack.Decoder(_Sent)
_answer = msgspec.msgpack.Decoder(Answer)


def pack(task: Task) -> bytes:
    """A task for another process.

    Raises:
        InvalidInputError: no other process could find the step, or a value has no plain form.
    """
    address = task.spec.address
    if address is None:
        raise unreachable(task.spec)
    inputs = {name: _packed(value, name) for name, value in task.inputs.items()}
    return _encoder.encode(_Sent(task.uid, task.name, address, inputs, task.chance, task.threads, task.facts))


def unpack(data: bytes | memoryview) -> Task:
    """A task from another process, with the function found by its name."""
    sent = _sent.decode(data)
    spec = find_step(sent.step)
    inputs = {name: _unpacked(value, spec.hints[name]) for name, value in sent.inputs.items()}
    return Task(
        uid=sent.uid, name=sent.name, spec=spec, inputs=inputs, chance=sent.chance, threads=sent.threads,
        facts=sent.facts,
    )  # fmt: skip


def uid_of(data: bytes | memoryview) -> str:
    """The uid of a packed task, whatever else is wrong with it."""
    uid: str = msgspec.msgpack.decode(data)["uid"]
    return uid


def pack_answer(answer: Answer) -> bytes:
    """An answer for the process that asked."""
    return _encoder.encode(answer)


def unpack_answer(data: bytes | memoryview) -> Answer:
    """An answer of a worker."""
    return _answer.decode(data)


def unreachable(spec: StepSpec) -> InvalidInputError:
    """Why a step cannot run in another process."""
    function = spec.function
    return InvalidInputError(
        f"Step {spec.name!r} ({function.__module__}.{function.__qualname__}) cannot be found by another process: "
        "it was made inside a function, in a notebook or in the script that was started.",
        hint="Define the step at the top of a module that can be imported, or run with `--on inline`.",
        field=spec.name,
    )


@functools.cache
def find_step(address: str) -> StepSpec:
    """The step under `module:qualified.name`."""
    module, _, path = address.partition(":")
    found: Any = load(module)
    for name in path.split("."):
        found = getattr(found, name)
    spec: StepSpec = found.spec
    return spec


def _packed(value: Any, name: str) -> Any:
    if isinstance(value, Taken):
        return {"$taken": msgspec.to_builtins(value.ref), "maker": list(value.maker)}
    if isinstance(value, Rows):
        return {"$rows": msgspec.to_builtins(value.uses)}
    if isinstance(value, Secret):
        return {"$secret": value.name}
    if isinstance(value, Path):
        return {"$path": str(value)}
    if isinstance(value, list | tuple):
        return [_packed(item, name) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"$dict": {key: _packed(item, name) for key, item in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    try:
        return {"$value": msgspec.to_builtins(value, enc_hook=_plain)}
    except TypeError:
        raise InvalidInputError(
            f"The value of {name!r} is a {type(value).__name__}, which has no plain form to be sent to a worker.",
            hint="Give steps plain values, or make the object inside a step.",
            field=name,
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(type(value).__name__)


def _unpacked(value: Any, wanted: Any) -> Any:
    plain, holds_more = _opened(value, wanted)
    if holds_more or wanted is Any:
        return plain
    return msgspec.convert(plain, wanted, dec_hook=_read)


def _opened(value: Any, wanted: Any) -> tuple[Any, bool]:
    """A value as it was, and whether it holds what is no plain value."""
    if isinstance(value, list):
        item = item_of(wanted)
        parts = [_opened(one, item if item is not None else Any) for one in value]
        return [part for part, _ in parts], any(more for _, more in parts)
    if not isinstance(value, dict):
        return value, False
    if "$taken" in value:
        maker, index = value["maker"]
        announced = find_step(maker).outputs[index] if maker is not None else None
        return Taken(msgspec.convert(value["$taken"], ValueRef), announced, (maker, index)), True
    if "$rows" in value:
        return Rows(msgspec.convert(value["$rows"], tuple[DatasetUse, ...])), True
    if "$secret" in value:
        return Secret(value["$secret"]), True
    if "$path" in value:
        return Path(value["$path"]), True
    if "$value" in value:
        return value["$value"], False
    fields = {key: _opened(one, Any) for key, one in value["$dict"].items()}
    return {key: part for key, (part, _) in fields.items()}, any(more for _, more in fields.values())


def _read(wanted: type, value: Any) -> Any:
    if issubclass(wanted, Path) and isinstance(value, str):
        return Path(value)
    raise TypeError(f"got {type(value).__name__}")
