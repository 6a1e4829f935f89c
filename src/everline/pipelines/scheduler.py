"""The scheduler: takes a graph to its end, one vertex after the other as they become ready.

For every step: work out its key from what it depends on, look for a kept result, verify it, else hand the function to
an executor and keep what it returns. State is recorded before a step starts and after it ended, many steps at a time
where many are ready. The scheduler knows no process, database or client: an executor runs functions, a journal keeps
records.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from everline.canonical import canonical_digest
from everline.clock import Clock
from everline.errors import IntegrityError, NotFoundError
from everline.ids import new_uid
from everline.pipelines import keys, serialisers
from everline.pipelines.calls import call_item, values_wanted
from everline.pipelines.codedigest import CodeDigest, code_digest
from everline.pipelines.executors.tasks import Done, Event, Executor, Failed, Printed, Rows, RunFacts, Seen, Taken, Task
from everline.pipelines.graph import (
    WHOLE,
    Choice,
    DatasetRef,
    Expansion,
    Graph,
    Kept,
    Node,
    Question,
    Ref,
    Vertex,
    refs_in,
)
from everline.pipelines.journal import Data, Journal
from everline.pipelines.spec import WAIT_S_MAX
from everline.pipelines.types import (
    Asked,
    CacheEntry,
    DatasetUse,
    Environment,
    KeyMaterial,
    RunCancelledError,
    RunWaitingError,
    StepError,
    StepFailedError,
    StepOutput,
    StepStatus,
    StepUpdate,
    ValueRef,
)
from everline.pipelines.values import Approval, Secret

BATCH = 1_000
LOST_MAX = 2
"""How often a step whose process was killed from outside is begun anew, beside its retries."""
_BEAT_S = 1.0
_LINGER_S = 0.25
"""How long output waits for more before it is sent."""
_CLAIM_S = 0.05
_ASK_S = 1.0


@dataclass
class _Result:
    """What a step gave."""

    refs: tuple[ValueRef, ...]
    maker: Node | Question
    data: tuple[DatasetUse, ...] = ()


@dataclass(eq=False)
class _Attempt:
    """A step that is ready, until it has ended."""

    node: Node
    update: StepUpdate
    uses: tuple[DatasetUse, ...]
    tries: int = 0
    losses: int = 0
    release: Callable[[], None] | None = None

    @property
    def cpus(self) -> float:
        return self.node.spec.options.resources.cpus

    @property
    def memory_mb(self) -> int:
        return self.node.spec.options.resources.memory_mb or 0


_LEFT_OUT = object()


@dataclass(kw_only=True)
class Scheduler:
    """Runs one graph.

    Attributes:
        facts: what every step of the run may know.
        root: the project's folder, whose code counts in step keys.
        previous: the material of each step's last run by name, to say why a step runs again.
        kept: results under step keys that are known already; others are asked for.
        done: steps of this very run that ended well before, by name, when it is resumed.
        begun: the uids of those that did not, by name.
        cache: look for kept results; new ones are kept either way, unless `keep` is off.
        skip_effects: leave out steps that change the world outside, and what depends on them.
        origins: by step name, the run that results name as their maker, where it is not the facts'.
        more_threads: what numeric libraries get beyond what a step declares; to see whether results depend on it.
        watch: is told of each state for live progress.
        printed: is told of what a step prints.
        claim: holds a step key while its result is computed, so that of several processes only one does; gives
            None while another has it.
        environment_of: digest of a step's own environment.
        patient: wait for people's answers, in place of ending with `RunWaitingError`.
    """

    journal: Journal
    executor: Executor
    store: serialisers.ResultStore
    data: Data
    clock: Clock
    facts: RunFacts
    root: Path
    previous: dict[str, KeyMaterial] = field(default_factory=dict)
    kept: dict[str, CacheEntry] = field(default_factory=dict)
    done: dict[str, StepUpdate] = field(default_factory=dict)
    begun: dict[str, str] = field(default_factory=dict)
    cache: bool = True
    skip_effects: bool = False
    origins: dict[str, str] = field(default_factory=dict)
    keep: bool = True
    more_threads: int = 0
    watch: Callable[[StepUpdate], None] = lambda update: None
    printed: Callable[[str, bytes], None] = lambda name, data: None
    saw: Callable[[str, Seen], None] = lambda step, seen: None
    claim: Callable[[str], Callable[[], None] | None] | None = None
    environment_of: Callable[[Environment], str] = lambda environment: canonical_digest(
        msgspec.to_builtins(environment)
    )
    patient: bool = False

    _values: dict[Vertex, Any] = field(default_factory=dict)
    _missing: dict[Vertex, int] = field(default_factory=dict)
    _takers: dict[Vertex, list[Vertex]] = field(default_factory=dict)
    _ready: list[tuple[int, Vertex]] = field(default_factory=list)
    _runnable: list[tuple[int, int, _Attempt]] = field(default_factory=list)
    _running: dict[str, _Attempt] = field(default_factory=dict)
    _later: list[tuple[float, int, _Attempt]] = field(default_factory=list)
    _claimed: list[_Attempt] = field(default_factory=list)
    _asked: dict[Question, StepUpdate] = field(default_factory=dict)
    _pending: dict[str, StepUpdate] = field(default_factory=dict)
    _output: list[StepOutput] = field(default_factory=list)
    _ends: list[StepUpdate] = field(default_factory=list)
    _codes: dict[Any, CodeDigest] = field(default_factory=dict)
    _failure: StepFailedError | None = None
    _told_at: float = 0.0
    _output_at: float = 0.0
    _count: Any = field(default_factory=itertools.count)

    def run(self, graph: Graph) -> list[StepUpdate]:
        """Run every step; return how each ended, in the order of their ends.

        Raises:
            StepFailedError: a step failed; it is recorded, what ran beside it came to its end, and nothing was begun
                after it.
            RunCancelledError: somebody cancelled the run; all its processes are stopped.
            RunWaitingError: nothing is left but questions that people have not answered yet.
        """
        self._graph = graph
        self._told_at = time.monotonic()
        try:
            self._add(graph.nodes)
            while self._go_on():
                for event in self.executor.wait(self._pause()):
                    self._on(event)
                self._tell()
            self._flush()
        except BaseException:
            self._stop()
            raise
        if self._failure is not None:
            raise self._failure
        return self._ends

    def output(self, result: Any) -> Any:
        """What the pipeline function returned, with the records of results in place of refs."""
        if isinstance(result, Ref):
            value = self._values.get(result.node, _LEFT_OUT)
            if isinstance(value, _Result):
                return list(value.refs) if result.index == WHOLE else value.refs[result.index]
            return None if value is _LEFT_OUT else self.output(value)
        if isinstance(result, list | tuple):
            return [self.output(item) for item in result]
        if isinstance(result, dict):
            return {key: self.output(item) for key, item in result.items()}
        return None

    # --- what waits for what -------------------------------------------------------------------------

    def _add(self, vertices: Iterable[Vertex]) -> None:
        for vertex in vertices:
            needed = {ref.node for ref in self._needs(vertex)}
            open_ = [node for node in needed if node not in self._values]
            self._missing[vertex] = len(open_)
            for node in open_:
                self._takers.setdefault(node, []).append(vertex)
            if not open_:
                heapq.heappush(self._ready, (vertex.position, vertex))

    def _needs(self, vertex: Vertex) -> Iterable[Ref]:
        """A choice needs its condition first, and the branch that is taken later."""
        for condition in vertex.conditions:
            yield condition.value
        inputs = (vertex.inputs["condition"],) if isinstance(vertex, Choice) else vertex.inputs.values()
        for value in inputs:
            for ref in refs_in(value):
                if isinstance(ref, Ref):
                    yield ref

    def _settle(self, vertex: Vertex, value: Any) -> None:
        """What a vertex gives is known; whoever waited for it alone is ready."""
        self._values[vertex] = value
        for taker in self._takers.pop(vertex, ()):
            self._missing[taker] -= 1
            if not self._missing[taker]:
                heapq.heappush(self._ready, (taker.position, taker))

    def _wait_for(self, vertex: Vertex, value: Any) -> None:
        """A vertex gives what other vertices give, as soon as they do."""
        open_ = {ref.node for ref in refs_in(value) if isinstance(ref, Ref) and ref.node not in self._values}
        if not open_:
            self._settle(vertex, value)
            return
        self._missing[vertex] = len(open_)
        vertex.inputs = {"of": value}
        for node in open_:
            self._takers.setdefault(node, []).append(vertex)

    # --- the loop ------------------------------------------------------------------------------------

    def _go_on(self) -> bool:
        """Do all that needs no waiting; say whether there is something to wait for."""
        if self._failure is None:
            self._wake()
            while self._ready:
                self._look_up([attempt for attempt in self._batch() if attempt is not None])
            self._admit()
        if self._running:
            return True
        if self._failure is not None:
            return False
        if self._later or self._claimed or self._runnable:
            return True
        if self._asked:
            self._answers()
            if self._ready or self._failure is not None:
                return self._go_on()
            if not self.patient:
                self._flush()
                raise RunWaitingError([update.name for update in self._asked.values()], self.facts.run)
            return True
        return False

    def _pause(self) -> float:
        pause = _BEAT_S
        if self._output:
            pause = min(pause, _LINGER_S)
        if self._claimed:
            pause = min(pause, _CLAIM_S)
        if self._later:
            pause = min(pause, max(0.0, self._later[0][0] - time.monotonic()))
        if not self._running:  # an executor that has nothing to do may not wait
            time.sleep(pause)
            return 0.0
        return pause

    def _wake(self) -> None:
        """Steps whose pause is over, or that another process may have done."""
        while self._later and self._later[0][0] <= time.monotonic():
            self._runnable_now(heapq.heappop(self._later)[2])
        if self._claimed:
            claimed, self._claimed = self._claimed, []
            self._look_up(claimed)

    def _batch(self) -> list[_Attempt | None]:
        batch: list[_Attempt | None] = []
        while self._ready and len(batch) < BATCH:
            vertex = heapq.heappop(self._ready)[1]
            if isinstance(vertex, Choice | Expansion) and "of" in vertex.inputs:
                self._settle(vertex, vertex.inputs["of"])
            elif self._is_skipped(vertex):
                continue
            elif isinstance(vertex, Choice):
                taken = self._bool(vertex.inputs["condition"])
                self._wait_for(vertex, vertex.inputs["then" if taken else "otherwise"])
            elif isinstance(vertex, Expansion):
                self._expand(vertex)
            elif isinstance(vertex, Question):
                self._ask(vertex)
            elif isinstance(vertex, Node):
                batch.append(self._prepared(vertex))
        return batch

    def _is_skipped(self, vertex: Vertex) -> bool:
        """Whether a branch was not taken, or what it needs was left out of a rebuild."""
        for condition in vertex.conditions:
            if self._bool(condition.value) is not condition.holds:
                if isinstance(vertex, Node):
                    now = self.clock.now()
                    reason = f"its branch was not taken: {condition.value} gave {not condition.holds}"
                    self._end(
                        StepUpdate(
                            uid=self._uid(vertex), name=vertex.name, position=vertex.position,
                            status=StepStatus.SKIPPED, started_at=now, ended_at=now, reason=reason,
                            needs=self._names(vertex),
                        )
                    )  # fmt: skip
                self._settle(vertex, _LEFT_OUT)
                return True
        effect = self.skip_effects and (
            isinstance(vertex, Question) or (isinstance(vertex, Node) and vertex.spec.effect)
        )
        needs_left_out = not isinstance(vertex, Choice) and any(
            self._values.get(ref.node) is _LEFT_OUT for ref in self._needs(vertex)
        )
        if effect or needs_left_out:
            self._settle(vertex, _LEFT_OUT)
            return True
        return False

    def _expand(self, vertex: Expansion) -> None:
        """Build the part of the graph that an expansion stands for, now that what it depends on is known."""
        inputs = dict(vertex.inputs)
        if vertex.over is None:
            for name in values_wanted(vertex.target, inputs):
                inputs[name] = self._plain(inputs[name])
            part, value = self._graph.expand(
                vertex, lambda: vertex.target.function(**_bound(vertex.target, inputs)), name=f"{vertex.name}/"
            )
        else:
            over = vertex.over
            items = self._plain(inputs.pop(over))

            def build() -> list[Any]:
                return [
                    call_item(self._graph, vertex.target, {**inputs, over: item}, f"{vertex.name}[{i}]")
                    for i, item in enumerate(items)
                ]

            part, value = self._graph.expand(vertex, build, name="")
        self._add(part)
        self._wait_for(vertex, value)

    # --- steps ---------------------------------------------------------------------------------------

    def _prepared(self, node: Node) -> _Attempt | None:
        """A step with its key; None if an earlier driver of this run had done it."""
        spec = node.spec
        code = self._codes.get(spec.function)
        if code is None:
            code = self._codes[spec.function] = code_digest(spec.function, root=self.root)
        inputs = {name: self._digest_of(value) for name, value in node.inputs.items()}
        own = spec.options.environment
        environment = self.facts.environment if own is None else self.environment_of(own)
        material = keys.material_of(code, inputs, environment=environment, threads=spec.options.resources.threads)
        key = keys.step_key(material)
        uses = self._uses(node)
        before = self.done.get(node.name)
        if before is not None and before.material is not None and keys.step_key(before.material) == key:
            self._settle(node, _Result(before.outputs, node, uses))
            self._ends.append(before)
            self.watch(before)
            return None
        update = StepUpdate(
            uid=self._uid(node), name=node.name, position=node.position, status=StepStatus.RUNNING,
            key=key if spec.cache else None, material=material, started_at=self.clock.now(), needs=self._names(node),
            reason=self._reason(node, material),
        )  # fmt: skip
        return _Attempt(node, update, uses)

    def _uid(self, vertex: Vertex) -> str:
        return self.begun.get(vertex.name) or new_uid()

    def _names(self, vertex: Vertex) -> tuple[str, ...]:
        """The steps whose results a vertex takes."""
        return tuple(dict.fromkeys(name for ref in self._needs(vertex) for name in self._makers(ref)))

    def _makers(self, ref: Ref) -> Iterable[str]:
        value = self._values.get(ref.node)
        if isinstance(value, _Result) or value is None or value is _LEFT_OUT:
            yield ref.node.name
            return
        for inner in refs_in(value):
            if isinstance(inner, Ref):
                yield from self._makers(inner)

    def _reason(self, node: Node, material: KeyMaterial) -> str:
        if not node.spec.cache:
            return "it runs every time: its result is never cached"
        if not self.cache:
            return "the cache was switched off for this run"
        return keys.why(material, self.previous.get(node.name)) or "no kept result"

    def _look_up(self, attempts: list[_Attempt]) -> None:
        """Take kept results where there are any; the others may run."""
        keyed = [a.update.key for a in attempts if a.update.key is not None and self.cache]
        wanted = [key for key in keyed if key not in self.kept]
        self.kept |= self.journal.lookup(wanted) if wanted else {}
        found = self.kept
        for attempt in attempts:
            key = attempt.update.key
            entry = found.get(key) if key is not None else None
            if entry is not None and self._reuse(attempt, entry):
                continue
            if key is not None and self.cache and self.claim is not None and attempt.release is None:
                attempt.release = self.claim(key)
                if attempt.release is None:
                    self._claimed.append(attempt)
                    continue
                again = self.journal.lookup([key]).get(key)  # whoever held it before may have kept it meanwhile
                if again is not None and entry is None and self._reuse(attempt, again):
                    continue
            self._runnable_now(attempt)

    def _reuse(self, attempt: _Attempt, entry: CacheEntry) -> bool:
        try:
            for ref in entry.outputs:
                serialisers.verify(ref, self.store)
        except (IntegrityError, NotFoundError) as error:
            reason = f"its kept result from run {entry.run} could not be trusted: {error}"
            attempt.update = msgspec.structs.replace(attempt.update, reason=reason)
            return False
        self._settle(attempt.node, _Result(entry.outputs, attempt.node, attempt.uses))
        self._let_go(attempt)
        self._end(
            msgspec.structs.replace(
                attempt.update, status=StepStatus.CACHED, outputs=entry.outputs, cached_from=entry.run,
                ended_at=self.clock.now(), reason=f"unchanged since run {entry.run}",
            )
        )  # fmt: skip
        return True

    def _runnable_now(self, attempt: _Attempt) -> None:
        heapq.heappush(self._runnable, (attempt.node.position, next(self._count), attempt))

    def _admit(self) -> None:
        """Begin as many steps as the machine has room for, in the order of the graph."""
        capacity = self.executor.capacity
        cpus = sum(a.cpus for a in self._running.values())
        memory = sum(a.memory_mb for a in self._running.values())
        starting = []
        while self._runnable:
            attempt = self._runnable[0][2]
            if self._running:
                ahead = capacity.ahead if attempt.cpus <= 1 else 0
                if cpus + attempt.cpus > capacity.cpus + ahead:
                    break
                if capacity.memory_mb is not None and memory + attempt.memory_mb > capacity.memory_mb:
                    break
            heapq.heappop(self._runnable)
            cpus, memory = cpus + attempt.cpus, memory + attempt.memory_mb
            attempt.tries += 1
            attempt.update = msgspec.structs.replace(
                attempt.update, started_at=self.clock.now(), attempts=attempt.tries
            )
            task = self._task(attempt)
            self._running[task.uid] = attempt
            self._report(attempt.update)
            starting.append(task)
        if starting:
            self._flush()  # durable before the work starts
            for task in starting:
                self.executor.submit(task)

    def _task(self, attempt: _Attempt) -> Task:
        node, update = attempt.node, attempt.update
        spec = node.spec
        facts = None
        if spec.context is not None:
            recorded = update.material.inputs if update.material else {}
            digests = {k: v["digest"] for k, v in recorded.items() if isinstance(v, dict) and set(v) == {"digest"}}
            origin = self.origins.get(node.name, self.facts.origin)
            facts = msgspec.structs.replace(self.facts, origin=origin, data=attempt.uses, inputs=digests)
        return Task(
            uid=new_uid(), name=node.name, spec=spec,
            inputs={name: self._value_of(value) for name, value in node.inputs.items()},
            chance=update.key or update.name, threads=spec.options.resources.threads + self.more_threads, facts=facts,
        )  # fmt: skip

    # --- what comes back -----------------------------------------------------------------------------

    def _on(self, event: Event) -> None:
        if isinstance(event, Printed):
            attempt = self._running.get(event.task.uid)
            if attempt is not None:
                if not self._output:
                    self._output_at = time.monotonic()
                self._output.append(StepOutput(uid=attempt.update.uid, text=event.data.decode(errors="replace")))
            self.printed(event.task.name, event.data)
            return
        attempt = self._running.pop(event.task.uid)
        for seen in event.seen:
            self.saw(event.task.name, seen)
        if isinstance(event, Done):
            self._done(attempt, event)
        else:
            self._failed(attempt, event)

    def _done(self, attempt: _Attempt, event: Done) -> None:
        self._settle(attempt.node, _Result(event.outputs, attempt.node, attempt.uses))
        self._end(
            msgspec.structs.replace(
                attempt.update, status=StepStatus.SUCCEEDED, outputs=event.outputs, started_at=event.started_at,
                ended_at=event.ended_at, cache=self.keep and attempt.update.key is not None,
            )
        )  # fmt: skip
        if attempt.release is not None:
            self._flush()  # whoever waits for the key finds the result
        self._let_go(attempt)

    def _failed(self, attempt: _Attempt, event: Failed) -> None:
        spec = attempt.node.spec
        if event.lost and attempt.losses < LOST_MAX and not spec.effect:
            attempt.losses, attempt.tries = attempt.losses + 1, attempt.tries - 1
            self._runnable_now(attempt)
            return
        if attempt.tries <= spec.options.retries:
            wait = min(spec.options.retry_wait_s * 2 ** (attempt.tries - 1), WAIT_S_MAX)
            heapq.heappush(self._later, (time.monotonic() + wait, next(self._count), attempt))
            return
        self._let_go(attempt)
        self._fail(attempt.update, event.error, event.hint, tries=attempt.tries)

    def _fail(self, update: StepUpdate, error: StepError, hint: str | None, *, tries: int = 1) -> None:
        self._end(msgspec.structs.replace(update, status=StepStatus.FAILED, ended_at=self.clock.now(), error=error))
        tried = f" after {tries} attempts" if tries > 1 else ""
        if self._failure is None:
            self._failure = StepFailedError(
                f"Step {update.name!r} of pipeline {self.facts.pipeline!r} failed{tried}: {error.type}: "
                f"{error.message}",
                hint=hint or "Mend the step and run again; the steps before it come from the cache.",
                field=update.name,
            )

    def _let_go(self, attempt: _Attempt) -> None:
        if attempt.release is not None:
            attempt.release()
            attempt.release = None

    # --- people --------------------------------------------------------------------------------------

    def _ask(self, question: Question) -> None:
        shown = {name: self._digest_of(value) for name, value in question.inputs.items()}
        material = KeyMaterial(code="", environment="", inputs={n: keys.plain(v, n) for n, v in shown.items()})
        before = self.done.get(question.name)
        if before is not None and before.material == material:
            self._settle(question, _Result(before.outputs, question, self._uses(question)))
            self._ends.append(before)
            self.watch(before)
            return
        update = StepUpdate(
            uid=self._uid(question), name=question.name, position=question.position, status=StepStatus.WAITING,
            material=material, started_at=self.clock.now(), needs=self._names(question), reason=question.text,
        )  # fmt: skip
        self._report(update)
        self._asked[question] = update
        self._flush()
        self._told_at = 0.0

    def _answers(self) -> None:
        for question, update in list(self._asked.items()):
            assert update.material is not None
            shown = {name: self._shown(value) for name, value in question.inputs.items()}
            answer = self.journal.ask(
                Asked(
                    step=question.name, question=question.text, role=question.role, others=question.others,
                    material=canonical_digest(update.material.inputs), shown=shown,
                )
            )  # fmt: skip
            if answer is None:
                continue
            del self._asked[question]
            if not answer.approved and question.required:
                problem = StepError(type="Rejected", message=f"{answer.by} ({answer.role}) said no: {answer.reason}")
                self._fail(update, problem, "See to the reason and start another run.")
                continue
            ref = serialisers.encode(answer, Approval, self.store)
            self._settle(question, _Result((ref,), question, self._uses(question)))
            self._end(
                msgspec.structs.replace(
                    update, status=StepStatus.SUCCEEDED, outputs=(ref,), ended_at=self.clock.now(),
                    reason=f"{answer.by} said {'yes' if answer.approved else 'no'}",
                )
            )  # fmt: skip

    def _shown(self, value: Any) -> Any:
        """What a person gets to see of a result: JSON values as they are, others by kind and digest."""
        found = self.output(value) if isinstance(value, Ref) else value
        if isinstance(found, ValueRef):
            if found.kind == "json":
                return self._json(found)
            return {"kind": found.kind, "digest": found.digest, **{k: v for k, v in found.meta.items() if k == "rows"}}
        return [self._shown(item) for item in found] if isinstance(found, list) else found

    # --- values --------------------------------------------------------------------------------------

    def _results(self, ref: Ref) -> Any:
        """What a ref stands for: a result with its index, or what an expansion or a choice gives."""
        value = self._values[ref.node]
        if isinstance(value, _Result):
            return value if ref.index != WHOLE else [Ref(ref.node, i, t) for i, t in enumerate(ref.node.outputs)]
        return value

    def _digest_of(self, value: Any) -> Any:
        if isinstance(value, Ref):
            found = self._results(value)
            return {"digest": found.refs[value.index].digest} if isinstance(found, _Result) else self._digest_of(found)
        if isinstance(value, Kept):
            return {"digest": value.ref.digest}
        if isinstance(value, DatasetRef):
            digests = [use.digest for use in self.data.resolve(value)]
            return {"digest": digests[0] if len(digests) == 1 else canonical_digest(digests)}
        if isinstance(value, Secret):
            return {"secret": value.name}
        if isinstance(value, list | tuple):
            return [self._digest_of(item) for item in value]
        if isinstance(value, dict):
            return {key: self._digest_of(item) for key, item in value.items()}
        return None if value is _LEFT_OUT else value

    def _value_of(self, value: Any) -> Any:
        if isinstance(value, Ref):
            found = self._results(value)
            if not isinstance(found, _Result):
                return self._value_of(found)
            maker = found.maker
            if isinstance(maker, Question):
                return Taken(found.refs[0], Approval)
            return Taken(found.refs[value.index], maker.outputs[value.index], (maker.spec.address, value.index))
        if isinstance(value, Kept):
            return Taken(value.ref)
        if isinstance(value, DatasetRef):
            return Rows(self.data.resolve(value))
        if isinstance(value, list | tuple):
            return [self._value_of(item) for item in value]
        if isinstance(value, dict):
            return {key: self._value_of(item) for key, item in value.items()}
        return None if value is _LEFT_OUT else value

    def _uses(self, vertex: Vertex) -> tuple[DatasetUse, ...]:
        uses: dict[tuple[str, int], DatasetUse] = {}

        def collect(value: Any) -> None:
            for ref in refs_in(value):
                if isinstance(ref, DatasetRef):
                    found: Iterable[DatasetUse] = self.data.resolve(ref)
                else:
                    inner = self._values.get(ref.node)
                    if not isinstance(inner, _Result):
                        collect(inner)
                        continue
                    found = inner.data
                uses.update({(use.name, use.version): use for use in found})

        for value in vertex.inputs.values():
            collect(value)
        return tuple(use for _, use in sorted(uses.items()))

    def _bool(self, ref: Any) -> bool:
        return bool(self._plain(ref))

    def _plain(self, value: Any) -> Any:
        """The value of a result that is JSON."""
        found = self.output(value)
        if isinstance(found, list):
            return [self._json(one) for one in found]
        return self._json(found)

    def _json(self, ref: Any) -> Any:
        if isinstance(ref, list):
            return [self._json(one) for one in ref]
        return None if ref is None else serialisers.json_of(ref, lambda digest: bytes(self.store.read(digest)))

    # --- records -------------------------------------------------------------------------------------

    def _end(self, update: StepUpdate) -> None:
        self._ends.append(update)
        self._report(update)

    def _report(self, update: StepUpdate) -> None:
        self._pending[update.uid] = update
        self.watch(update)

    def _flush(self) -> None:
        if not self._pending and not self._output:
            return
        pending, self._pending = list(self._pending.values()), {}
        output, self._output = self._output, []
        for start in range(0, max(1, len(pending)), BATCH):
            orders = self.journal.record(pending[start : start + BATCH], output if start == 0 else [])
            self._obey(orders.cancel)
        self._told_at = time.monotonic()

    def _tell(self) -> None:
        """Ends are recorded at once; output may linger; and from time to time somebody asks whether to go on."""
        now = time.monotonic()
        lingered = bool(self._output) and now - self._output_at >= _LINGER_S
        if lingered or (self._pending and not (self._ready or self._runnable)):
            self._flush()
        elif now - self._told_at >= _BEAT_S:
            self._told_at = now
            self._obey(self.journal.beat().cancel)

    def _obey(self, cancel: str | None) -> None:
        if cancel is not None:
            raise RunCancelledError(
                f"The run {self.facts.run} was cancelled by {cancel}.",
                hint="`everline run --resume` goes on where it stopped.",
            )

    def _stop(self) -> None:
        """Something ended the run from outside: stop what runs, and say so in its records."""
        self.executor.cancel()
        running, self._running = list(self._running.values()), {}
        for attempt in running:
            self._let_go(attempt)
            self._report(
                msgspec.structs.replace(
                    attempt.update, status=StepStatus.CANCELLED, ended_at=self.clock.now(), reason="the run was stopped"
                )
            )
        with contextlib.suppress(Exception):
            self._flush()


def _bound(target: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Values of a dynamic pipeline as its annotations say."""
    converted = {}
    for name, value in inputs.items():
        plain = not any(True for _ in refs_in(value)) and not isinstance(value, Secret)
        converted[name] = (
            msgspec.convert(value, target.hints.get(name, Any), strict=False)
            if plain and isinstance(value, dict | list | str | int | float | bool | None)
            else value
        )
    return converted
