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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from everline.canonical import canonical_digest
from everline.clock import Clock
from everline.errors import IntegrityError, NotFoundError
from everline.ids import new_uid
from everline.pipelines import keys, own_environments, serialisers
from everline.pipelines.calls import call_item, values_wanted
from everline.pipelines.codedigest import CodeDigest, code_digest
from everline.pipelines.executors.tasks import Done, Event, Executor, Failed, Printed, RunFacts, Seen, Task
from everline.pipelines.graph import (
    Choice,
    Expansion,
    Graph,
    Node,
    Question,
    Vertex,
    refs_in,
)
from everline.pipelines.journal import Data, Journal
from everline.pipelines.questions import Questions
from everline.pipelines.readiness import LEFT_OUT, Readiness, needs_of
from everline.pipelines.reporting import BATCH, Reporter
from everline.pipelines.results import Result, Results
from everline.pipelines.spec import WAIT_S_MAX
from everline.pipelines.types import (
    CacheEntry,
    DatasetUse,
    Environment,
    KeyMaterial,
    RunWaitingError,
    StepError,
    StepFailedError,
    StepStatus,
    StepUpdate,
)
from everline.pipelines.values import Approval, Secret

LOST_MAX = 2
"""How often a step whose process was killed from outside is begun anew, beside its retries."""
_CLAIM_S = 0.05


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

    _runnable: list[tuple[int, int, _Attempt]] = field(default_factory=list)
    _running: dict[str, _Attempt] = field(default_factory=dict)
    _later: list[tuple[float, int, _Attempt]] = field(default_factory=list)
    _claimed: list[_Attempt] = field(default_factory=list)
    _codes: dict[Any, CodeDigest] = field(default_factory=dict)
    _own_lines: dict[Environment, tuple[str, ...]] = field(default_factory=dict)
    _failure: StepFailedError | None = None
    _count: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self._order = Readiness()
        self.results = Results(self._order.values, store=self.store, data=self.data)
        self._records = Reporter(self.journal, run=self.facts.run, watch=self.watch)
        self._questions = Questions(self.journal, self.results)

    def run(self, graph: Graph) -> list[StepUpdate]:
        """Run every step; return how each ended, in the order of their ends.

        Raises:
            StepFailedError: a step failed; it is recorded, what ran beside it came to its end, and nothing was begun
                after it.
            RunCancelledError: somebody cancelled the run; all its processes are stopped.
            RunWaitingError: nothing is left but questions that people have not answered yet.
        """
        self._graph = graph
        try:
            self._order.add(graph.nodes)
            while self._go_on():
                for event in self.executor.wait(self._pause()):
                    self._on(event)
                self._records.tell(soon=bool(self._order or self._runnable))
            self._records.flush()
        except BaseException:
            self._stop()
            raise
        if self._failure is not None:
            raise self._failure
        return self._records.ends

    # --- the loop ------------------------------------------------------------------------------------

    def _go_on(self) -> bool:
        """Do all that needs no waiting; say whether there is something to wait for."""
        if self._failure is None:
            self._wake()
            while self._order:
                self._look_up([attempt for attempt in self._batch() if attempt is not None])
            self._admit()
        if self._running:
            return True
        if self._failure is not None:
            return False
        if self._later or self._claimed or self._runnable:
            return True
        if self._questions.open:
            self._answers()
            if self._order or self._failure is not None:
                return self._go_on()
            if not self.patient:
                self._records.flush()
                raise RunWaitingError(self._questions.open, self.facts.run)
            return True
        return False

    def _pause(self) -> float:
        pause = self._records.pause_s
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
        while self._order and len(batch) < BATCH:
            vertex = self._order.pop()
            is_given, value = self._order.given(vertex)
            if is_given:
                self._order.settle(vertex, value)
            elif self._is_skipped(vertex):
                continue
            elif isinstance(vertex, Choice):
                taken = self.results.bool_of(vertex.inputs["condition"])
                self._order.give(vertex, vertex.inputs["then" if taken else "otherwise"])
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
            if self.results.bool_of(condition.value) is not condition.holds:
                if isinstance(vertex, Node):
                    now = self.clock.now()
                    reason = f"its branch was not taken: {condition.value} gave {not condition.holds}"
                    self._records.end(
                        StepUpdate(
                            uid=self._uid(vertex), name=vertex.name, position=vertex.position,
                            status=StepStatus.SKIPPED, started_at=now, ended_at=now, reason=reason,
                            needs=self.results.names_of(vertex),
                        )
                    )  # fmt: skip
                self._order.settle(vertex, LEFT_OUT)
                return True
        effect = self.skip_effects and (
            isinstance(vertex, Question) or (isinstance(vertex, Node) and vertex.spec.effect)
        )
        needs_left_out = not isinstance(vertex, Choice) and any(
            self._order.values.get(ref.node) is LEFT_OUT for ref in needs_of(vertex)
        )
        if effect or needs_left_out:
            self._order.settle(vertex, LEFT_OUT)
            return True
        return False

    def _expand(self, vertex: Expansion) -> None:
        """Build the part of the graph that an expansion stands for, now that what it depends on is known."""
        inputs = dict(vertex.inputs)
        if vertex.over is None:
            for name in values_wanted(vertex.target, inputs):
                inputs[name] = self.results.plain(inputs[name])
            part, value = self._graph.expand(
                vertex, lambda: vertex.target.function(**_bound(vertex.target, inputs)), name=f"{vertex.name}/"
            )
        else:
            over = vertex.over
            items = self.results.plain(inputs.pop(over))

            def build() -> list[Any]:
                return [
                    call_item(self._graph, vertex.target, {**inputs, over: item}, f"{vertex.name}[{i}]")
                    for i, item in enumerate(items)
                ]

            part, value = self._graph.expand(vertex, build, name="")
        self._order.add(part)
        self._order.give(vertex, value)

    # --- steps ---------------------------------------------------------------------------------------

    def _prepared(self, node: Node) -> _Attempt | None:
        """A step with its key; None if an earlier driver of this run had done it."""
        spec = node.spec
        code = self._codes.get(spec.function)
        if code is None:
            code = self._codes[spec.function] = code_digest(spec.function, root=self.root)
        inputs = {name: self.results.digest_of(value) for name, value in node.inputs.items()}
        inputs |= keys.declared(spec.options, root=self.root)
        own = self._own(node)
        environment = own_environments.digest_of(own, run=self.facts.environment) if own else self.facts.environment
        material = keys.material_of(code, inputs, environment=environment, threads=spec.options.resources.threads)
        key = keys.step_key(material)
        uses = self.results.uses_of(node)
        before = self.done.get(node.name)
        if before is not None and before.material is not None and keys.step_key(before.material) == key:
            self._order.settle(node, Result(before.outputs, node, uses))
            self._records.known(before)
            return None
        update = StepUpdate(
            uid=self._uid(node), name=node.name, position=node.position, status=StepStatus.RUNNING,
            key=key if spec.cache else None, material=material, started_at=self.clock.now(),
            needs=self.results.names_of(node), reason=self._reason(node, material),
        )  # fmt: skip
        return _Attempt(node, update, uses)

    def _own(self, node: Node) -> tuple[str, ...]:
        """The requirements of the step's own environment, if it has one."""
        wanted = node.spec.options.environment
        if wanted is None:
            return ()
        if wanted not in self._own_lines:
            self._own_lines[wanted] = own_environments.lines_of(wanted, self.root)
        return self._own_lines[wanted]

    def _uid(self, vertex: Vertex) -> str:
        return self.begun.get(vertex.name) or new_uid()

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
            entry = found.get(key) if key is not None and self.cache else None
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
        self._order.settle(attempt.node, Result(entry.outputs, attempt.node, attempt.uses))
        self._let_go(attempt)
        self._records.end(
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
            self._records.state(attempt.update)
            starting.append(task)
        if starting:
            self._records.flush()  # durable before the work starts
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
            inputs={name: self.results.value_of(value) for name, value in node.inputs.items()},
            chance=update.key or update.name, threads=spec.options.resources.threads + self.more_threads, facts=facts,
            own=self._own(node),
        )  # fmt: skip

    # --- what comes back -----------------------------------------------------------------------------

    def _on(self, event: Event) -> None:
        if isinstance(event, Printed):
            attempt = self._running.get(event.task.uid)
            if attempt is not None:
                self._records.printed(attempt.update.uid, event.data)
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
        self._order.settle(attempt.node, Result(event.outputs, attempt.node, attempt.uses))
        self._records.end(
            msgspec.structs.replace(
                attempt.update, status=StepStatus.SUCCEEDED, outputs=event.outputs, started_at=event.started_at,
                ended_at=event.ended_at, cache=self.keep and attempt.update.key is not None,
            )
        )  # fmt: skip
        if attempt.release is not None:
            self._records.flush()  # whoever waits for the key finds the result
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
        self._records.end(
            msgspec.structs.replace(update, status=StepStatus.FAILED, ended_at=self.clock.now(), error=error)
        )
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
        before = self.done.get(question.name)
        if before is not None and self._questions.is_answered(question, before):
            self._order.settle(question, Result(before.outputs, question, self.results.uses_of(question)))
            self._records.known(before)
            return
        self._records.state(self._questions.ask(question, uid=self._uid(question), now=self.clock.now()))
        self._records.flush()

    def _answers(self) -> None:
        for question, update, answer in self._questions.answered():
            if not answer.approved and question.required:
                problem = StepError(type="Rejected", message=f"{answer.by} ({answer.role}) said no: {answer.reason}")
                self._fail(update, problem, "See to the reason and start another run.")
                continue
            ref = serialisers.encode(answer, Approval, self.store)
            self._order.settle(question, Result((ref,), question, self.results.uses_of(question)))
            self._records.end(
                msgspec.structs.replace(
                    update, status=StepStatus.SUCCEEDED, outputs=(ref,), ended_at=self.clock.now(),
                    reason=f"{answer.by} said {'yes' if answer.approved else 'no'}",
                )
            )  # fmt: skip

    def _stop(self) -> None:
        """Something ended the run from outside: stop what runs, and say so in its records."""
        self.executor.cancel()
        running, self._running = list(self._running.values()), {}
        for attempt in running:
            self._let_go(attempt)
            self._records.state(
                msgspec.structs.replace(
                    attempt.update, status=StepStatus.CANCELLED, ended_at=self.clock.now(), reason="the run was stopped"
                )
            )
        with contextlib.suppress(Exception):
            self._records.flush()


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
