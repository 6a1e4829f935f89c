"""The local executor: runs a graph's steps in this process, in order, each one recorded before and after.

For every step: work out its key from what it depends on, look for a kept result, verify it, else run the
function and keep what it returns. A kept result that no longer has its digest is computed again, and the
record says so.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from everline.canonical import canonical_digest
from everline.clock import Clock
from everline.errors import EverlineError, IntegrityError, InvalidInputError, NotFoundError
from everline.ids import new_uid
from everline.loader import load
from everline.pipelines import keys, serialisers
from everline.pipelines.codedigest import code_digest
from everline.pipelines.graph import DatasetRef, Graph, Kept, Node, Ref
from everline.pipelines.types import (
    CacheEntry,
    DatasetUse,
    KeyMaterial,
    StepError,
    StepFailedError,
    StepStatus,
    StepUpdate,
    ValueRef,
)
from everline.pipelines.values import RunContext

TRACEBACK_CHARS_MAX = 20_000
MESSAGE_CHARS_MAX = 2_000
RETRY_WAIT_S_MAX = 3_600.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Journal(Protocol):
    """Where states and kept results live."""

    def lookup(self, key: str) -> CacheEntry | None:
        """The kept result under a step key."""

    def record(self, updates: list[StepUpdate]) -> None:
        """Keep what happened; durable when it returns."""


class Data(Protocol):
    """Where datasets come from."""

    def resolve(self, ref: DatasetRef) -> tuple[DatasetUse, ...]:
        """The versions that a reference means, now and for the whole run."""

    def read(self, ref: DatasetRef) -> Any:
        """Their rows as one Arrow table."""


@dataclass
class _Result:
    """What a step gave: records for keys and journal, bytes or objects for the steps that take it."""

    refs: tuple[ValueRef, ...]
    types: tuple[Any, ...]
    parts: tuple[dict[str, bytes], ...]
    models: dict[int, Any] = field(default_factory=dict)
    data: tuple[DatasetUse, ...] = ()
    source: str | None = None


@dataclass(kw_only=True)
class LocalExecutor:
    """Runs one graph.

    Attributes:
        context: what every step of the run may know; data, inputs and folder are set per step.
        root: the project's folder, whose code counts in step keys.
        previous: the material of each step's last run by name, to say why a step runs again.
        cache: look for kept results; new ones are kept either way, unless `keep` is off.
        skip_effects: leave out steps that change the world outside, and what depends on them.
        origins: by step name, the run that results name as their maker, where it is not the context's.
        keep: whether results may serve later runs too.
        more_threads: what numeric libraries get beyond what a step declares; to see whether results depend on it.
        watch: is told of each state for live progress.
        claim: holds a step key while its result is computed, so that of several processes only one does.
    """

    journal: Journal
    blobs: serialisers.BlobAccess
    data: Data
    clock: Clock
    context: RunContext
    root: Path
    previous: dict[str, KeyMaterial] = field(default_factory=dict)
    cache: bool = True
    skip_effects: bool = False
    origins: dict[str, str] = field(default_factory=dict)
    keep: bool = True
    more_threads: int = 0
    watch: Callable[[StepUpdate], None] = lambda update: None
    claim: Callable[[str], contextlib.AbstractContextManager[None]] = lambda key: contextlib.nullcontext()
    _results: dict[Node, _Result] = field(default_factory=dict)
    _pending: list[StepUpdate] = field(default_factory=list)

    def run(self, graph: Graph) -> list[StepUpdate]:
        """Run every step; return how each ended, in order.

        Raises:
            StepFailedError: a step raised; it is recorded as failed, and no later step ran.
        """
        ends: list[StepUpdate] = []
        last_use = _last_use(graph)
        try:
            for node in graph.nodes:
                if self._is_left_out(node):
                    continue
                ends.append(self._step(node))
                for done in [n for n in self._results if last_use.get(n, -1) <= node.position]:
                    self._results[done].parts, self._results[done].models = (), {}  # nobody takes it any more
        finally:
            self._flush()
        return ends

    def output(self, result: Any) -> Any:
        """What the pipeline function returned, with the records of results in place of refs."""
        if isinstance(result, Ref):
            found = self._results.get(result.node)
            return found.refs[result.index] if found else None
        if isinstance(result, list | tuple):
            return [self.output(item) for item in result]
        return None

    def _is_left_out(self, node: Node) -> bool:
        if not self.skip_effects:
            return False
        return node.spec.effect or any(isinstance(r, Ref) and r.node not in self._results for r in node.refs())

    def _step(self, node: Node) -> StepUpdate:
        started = self.clock.now()
        uses = self._uses(node)
        code = code_digest(node.spec.function, root=self.root)
        inputs = {name: self._digest_of(value) for name, value in node.inputs.items()}
        threads = node.spec.resources.threads
        material = keys.material_of(code, inputs, environment=self.context.environment, threads=threads)
        key = keys.step_key(material) if node.spec.cache else None
        needs = tuple(dict.fromkeys(r.node.name for r in node.refs() if isinstance(r, Ref)))
        update = StepUpdate(
            uid=new_uid(), name=node.name, position=node.position, status=StepStatus.RUNNING, key=key,
            material=material, started_at=started, needs=needs, reason=self._reason(node, material),
        )  # fmt: skip
        if key is None or not self.cache:
            return self._compute(node, update, uses)
        kept, problem = self._kept(node, key)
        if kept is not None:
            return self._reuse(node, update, kept, uses)
        with self.claim(key):
            if not problem:  # whoever held the claim before may have kept it meanwhile
                kept, problem = self._kept(node, key)
            if kept is not None:
                return self._reuse(node, update, kept, uses)
            if problem:
                update = msgspec.structs.replace(update, reason=problem)
            return self._compute(node, update, uses)

    def _reason(self, node: Node, material: KeyMaterial) -> str:
        if not node.spec.cache:
            return "it runs every time: its result is never cached"
        if not self.cache:
            return "the cache was switched off for this run"
        return keys.why(material, self.previous.get(node.name)) or "no kept result"

    def _kept(self, node: Node, key: str) -> tuple[_Result | None, str]:
        entry = self.journal.lookup(key)
        if entry is None:
            return None, ""
        try:
            parts = tuple(serialisers.verify(ref, self.blobs) for ref in entry.outputs)
        except (IntegrityError, NotFoundError) as error:
            return None, f"its kept result from run {entry.run} could not be trusted: {error}"
        return _Result(entry.outputs, node.spec.outputs, parts, source=entry.run), ""

    def _reuse(self, node: Node, update: StepUpdate, kept: _Result, uses: tuple[DatasetUse, ...]) -> StepUpdate:
        kept.data = uses
        self._results[node] = kept
        end = msgspec.structs.replace(
            update, status=StepStatus.CACHED, outputs=kept.refs, cached_from=kept.source,
            ended_at=self.clock.now(), reason=f"unchanged since run {kept.source}",
        )  # fmt: skip
        self._report(end)
        return end

    def _compute(self, node: Node, update: StepUpdate, uses: tuple[DatasetUse, ...]) -> StepUpdate:
        self._report(update)
        self._flush()  # durable before the work starts
        attempts = 0
        with tempfile.TemporaryDirectory(prefix="everline-step-") as name:
            folder = Path(name)
            while True:
                attempts += 1
                try:
                    result = self._call(node, update, folder, uses)
                    break
                except Exception as error:
                    if attempts > node.spec.retries:
                        raise self._failed(node, update, error, attempts) from error
                    time.sleep(min(node.spec.retry_wait_s * 2 ** (attempts - 1), RETRY_WAIT_S_MAX))
        result.data = uses
        self._results[node] = result
        end = msgspec.structs.replace(
            update, status=StepStatus.SUCCEEDED, outputs=result.refs, attempts=attempts, ended_at=self.clock.now(),
            cache=self.keep and update.key is not None,
        )  # fmt: skip
        self._report(end)
        self._flush()
        return end

    def _call(self, node: Node, update: StepUpdate, folder: Path, uses: tuple[DatasetUse, ...]) -> _Result:
        spec = node.spec
        arguments = {name: self._value_of(v, spec.hints[name], folder / name) for name, v in node.inputs.items()}
        if spec.context is not None:
            own = folder / "own"
            own.mkdir(parents=True, exist_ok=True)
            arguments[spec.context] = self._context_for(update, own, uses)
        _seed(update.key or update.name)
        with _threads(spec.resources.threads + self.more_threads):
            returned = spec.function(**arguments)
        values = (returned,) if len(spec.outputs) == 1 else tuple(returned)
        if len(values) != len(spec.outputs):
            raise InvalidInputError(
                f"It announced {len(spec.outputs)} results and returned {len(values)}.",
                hint="Return as many values as the annotation says.",
            )
        encoded = [
            serialisers.encode(v, hint, self.blobs, folder) for v, hint in zip(values, spec.outputs, strict=True)
        ]
        models = {index: value for index, value in enumerate(values) if encoded[index][0].kind == "model"}
        return _Result(tuple(ref for ref, _ in encoded), spec.outputs, tuple(parts for _, parts in encoded), models)

    def _context_for(self, update: StepUpdate, own: Path, uses: tuple[DatasetUse, ...]) -> RunContext:
        recorded = update.material.inputs if update.material else {}
        digests = {k: v["digest"] for k, v in recorded.items() if isinstance(v, dict) and set(v) == {"digest"}}
        facts = {f: getattr(self.context, f) for f in RunContext.__dataclass_fields__}
        origin = self.origins.get(update.name, self.context.origin)
        return RunContext(**{**facts, "origin": origin, "folder": own, "data": uses, "inputs": digests})

    def _failed(self, node: Node, update: StepUpdate, error: Exception, attempts: int) -> StepFailedError:
        text = str(error)[:MESSAGE_CHARS_MAX] or "no message"
        kind = type(error).__name__
        trace = "".join(traceback.format_exception(error))[-TRACEBACK_CHARS_MAX:]
        self._report(
            msgspec.structs.replace(
                update,
                status=StepStatus.FAILED,
                attempts=attempts,
                ended_at=self.clock.now(),
                error=StepError(type=kind, message=text, traceback=trace),
            )
        )
        tried = f" after {attempts} attempts" if attempts > 1 else ""
        hint = error.hint if isinstance(error, EverlineError) and error.hint else None
        return StepFailedError(
            f"Step {node.name!r} of pipeline {self.context.pipeline!r} failed{tried}: {kind}: {text}",
            hint=hint or "Mend the step and run again; the steps before it come from the cache.",
            field=node.name,
        )

    def _digest_of(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return {"digest": self._results[value.node].refs[value.index].digest}
        if isinstance(value, Kept):
            return {"digest": value.ref.digest}
        if isinstance(value, DatasetRef):
            digests = [use.digest for use in self.data.resolve(value)]
            return {"digest": digests[0] if len(digests) == 1 else canonical_digest(digests)}
        if isinstance(value, list | tuple):
            return [self._digest_of(item) for item in value]
        if isinstance(value, dict):
            return {key: self._digest_of(item) for key, item in value.items()}
        return value

    def _value_of(self, value: Any, wanted: Any, folder: Path) -> Any:
        if isinstance(value, Ref):
            result = self._results[value.node]
            if value.index in result.models:
                return result.models[value.index]
            announced = result.types[value.index]
            return serialisers.decode(
                result.refs[value.index], result.parts[value.index], announced, wanted, folder=folder
            )
        if isinstance(value, Kept):
            parts = serialisers.verify(value.ref, self.blobs)
            return serialisers.decode(value.ref, parts, wanted, wanted, folder=folder)
        if isinstance(value, DatasetRef):
            return serialisers.as_frame(self.data.read(value), wanted)
        if isinstance(value, list | tuple):
            return [self._value_of(item, Any, folder / str(i)) for i, item in enumerate(value)]
        if isinstance(value, dict):
            return {key: self._value_of(item, Any, folder / str(key)) for key, item in value.items()}
        return value

    def _uses(self, node: Node) -> tuple[DatasetUse, ...]:
        uses: dict[tuple[str, int], DatasetUse] = {}
        for ref in node.refs():
            found = self.data.resolve(ref) if isinstance(ref, DatasetRef) else self._results[ref.node].data
            uses |= {(use.name, use.version): use for use in found}
        return tuple(use for _, use in sorted(uses.items()))

    def _report(self, update: StepUpdate) -> None:
        self._pending.append(update)
        self.watch(update)

    def _flush(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            self.journal.record(pending)


def _last_use(graph: Graph) -> dict[Node, int]:
    last = {node: node.position for node in graph.nodes}
    for node in graph.nodes:
        for ref in node.refs():
            if isinstance(ref, Ref):
                last[ref.node] = node.position
    return last


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Hold numeric libraries to a number of threads: those that are loaded, and those that the step will load."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(count)))
    known = importlib.util.find_spec("threadpoolctl") is not None
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


def _seed(key: str) -> None:
    """Put the global random generators in a state that depends on the step alone, whatever ran before."""
    seed = int.from_bytes(key.encode()[-8:]) % 2**32
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)


def ended_seconds(update: StepUpdate) -> float:
    """How long an ended step took."""
    ended: datetime = update.ended_at or update.started_at
    return (ended - update.started_at).total_seconds()
