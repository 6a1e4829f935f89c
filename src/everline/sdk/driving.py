"""One run of one pipeline, from its first record to its last."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from everline.clock import SystemClock
from everline.errors import ConflictError, EverlineError, IntegrityError, NotFoundError, StaleError
from everline.ids import digest_bytes
from everline.loader import load
from everline.pipelines import serialisers
from everline.pipelines.executors.tasks import Executor, RunFacts, Seen, Task
from everline.pipelines.graph import Choice, DatasetRef, Expansion, Graph, Node, Question, Ref, Vertex, refs_in
from everline.pipelines.measuring import EXPLAINS_TAG, Measure, claims_in
from everline.pipelines.scheduler import Scheduler
from everline.pipelines.stores import ClientStore, embedded_store
from everline.pipelines.types import (
    PLAN_MAX,
    REPRODUCES_TAG,
    Asked,
    CacheEntry,
    Orders,
    PipelineResult,
    PlannedStep,
    Recent,
    RecordSteps,
    RunCancelledError,
    RunEndedError,
    RunWaitingError,
    Started,
    StartRun,
    StepOutcome,
    StepOutput,
    StepStatus,
    StepUpdate,
    ValueRef,
)
from everline.pipelines.values import Approval
from everline.runs.types import RunStatus
from everline.runs.undeclared import own_folders, peers, tag_of
from everline.runs.watching import Watch as Inputs
from everline.sdk import executors
from everline.sdk.client import Client
from everline.sdk.drivers import is_gone, this_driver
from everline.sdk.run_data import Datasets

FAILED_TAG = "everline.failed"
OUTPUTS_MAX = 1_000
"""How many results of steps become outputs of the run; all of them are in its steps."""
_TAG_CHARS_MAX = 4_000

Watch = Callable[[StepUpdate], None]
Printed = Callable[[str, bytes], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is done; see `PipelinesApi.run`."""

    on: str | None = None
    cache: bool = True
    reproduces: str | None = None
    resume: str | None = None
    reason: str = ""
    argv: tuple[str, ...] = ()
    vary: str | None = None
    measure: Measure | None = None
    patient: bool = False
    tags: dict[str, str] = {}

    @property
    def is_again(self) -> bool:
        """Whether recorded work is done again: effects are left out, contracts are not held again."""
        return self.reproduces is not None or self.measure is not None


class Driver:
    """Runs one graph, with everything recorded.

    Args:
        root: the project's folder.
        overrides: dataset versions by dataset, in place of what the pipeline names.
    """

    def __init__(
        self, client: Client, *, entry: str, graph: Graph, root: Path, directory: Path, seed: int | None,
        overrides: Mapping[str, Sequence[str | int]], options: Options, watch: Watch, printed: Printed, inputs: Inputs,
    ) -> None:  # fmt: skip
        self._client, self._entry, self._graph, self._root, self._directory = client, entry, graph, root, directory
        self._seed, self._options, self._watch, self._printed, self._inputs = seed, options, watch, printed, inputs
        self._data = Datasets(client, overrides, contracts=not options.is_again)
        self._sources: set[str] = set()
        self._states: dict[str, StepUpdate] = {}
        self._epoch = 0
        self._started = time.monotonic()

    def run(self) -> PipelineResult:
        """From the first record to the last, ended as finished, failed, killed or waiting."""
        run = self._options.resume or self._create()
        try:
            value = self._work(run)
        except StaleError:
            raise  # the run is somebody else's now, and so is its end
        except BaseException as error:
            status = self._fail(run, error)
            if isinstance(error, RunEndedError):
                error.result = self._result(run, status, None)
            raise
        seen = self._undeclared()
        if seen:
            self._client.runs.log_batch(run, tags=seen)
        self._stop(run, RunStatus.FINISHED)
        return self._result(run, "finished", value)

    def _create(self) -> str:
        options = self._options
        tags = dict(options.tags)
        if options.reason:
            tags["everline.reason"] = options.reason[:_TAG_CHARS_MAX]
        if options.reproduces:
            tags[REPRODUCES_TAG] = options.reproduces
        if options.measure:
            tags[EXPLAINS_TAG] = options.measure.tag
        params = {name: _text(value) for name, value in self._graph.parameters.items()}
        run: str = self._client.runs.create(
            experiment=self._graph.pipeline, pipeline=self._entry, params=params, tags=tags
        ).run
        return run

    def _work(self, run: str) -> Any:
        """Do the run; processes for its steps start beside the capture of its record, if they seem to be needed."""
        options, settings = self._options, self._client.settings
        for node in self._graph.nodes:
            for ref in node.refs():
                if isinstance(ref, DatasetRef):
                    self._data.resolve(ref)
        recent = self._client.pipelines.recent(self._entry)
        executor = executors.open_executor(
            executors.choose(options.on, self._graph), client=self._client, modules=self._modules(),
            clock=SystemClock(), declared=own_folders(settings.home), peers=peers(settings.url),
            since=self._inputs.since, begun=self._begun,
            early=not options.cache or len(recent.kept) < len(self._graph.steps),
        )  # fmt: skip
        try:
            record, before = self._record(run)
            return self._schedule(run, executor, record, before, recent)
        finally:
            executor.close()

    def _record(self, run: str) -> tuple[Any, tuple[dict[str, StepUpdate], dict[str, str]]]:
        """Capture code and environment and become the run's driver; what earlier drivers of the run did."""
        options = self._options
        with self._inputs.aside():
            captured = load("everline.runs.capture").capture(
                self._root, self._entry, options.argv, seed=self._seed, params=_jsonable(self._graph.parameters),
                data=self._data.inputs(),
            )  # fmt: skip
        record = captured.record
        self._sources = {str(self._root.resolve() / file.path) for file in record.code.files}
        before = self._resumed(run, record) if options.resume else ({}, {})
        self._start(run)
        if not options.resume:
            for content in captured.blobs.values():
                self._client.blobs.put_bytes(content)
            self._client.runs.set_record(run, msgspec.to_builtins(record))
            if self._data.uses():
                self._client.runs.log_batch(run, inputs=self._data.run_inputs())
        return record, before

    def _schedule(
        self, run: str, executor: Executor, record: Any, before: tuple[dict[str, StepUpdate], dict[str, str]],
        recent: Recent,
    ) -> Any:  # fmt: skip
        options = self._options
        scheduler = Scheduler(
            journal=_Journal(self._client, run=run, pipeline=self._entry, epoch=self._epoch), executor=executor,
            store=store_of(self._client), data=self._data, clock=SystemClock(), root=self._root, cache=options.cache,
            previous=recent.materials, kept={entry.key: entry for entry in recent.kept}, done=before[0],
            begun=before[1], skip_effects=options.is_again,
            claim=claims_in(options.measure.claims) if options.measure else None,
            origins=self._origins(), keep=options.reproduces is None, more_threads=int(options.vary == "threads"),
            watch=self._saw_state, printed=self._printed, saw=self._saw_input, patient=options.patient,
            facts=RunFacts(
                run=run, origin=options.reproduces or run, pipeline=self._entry, code=record.code.digest,
                environment=record.environment.digest, code_recorded=not record.code.omitted,
                environment_recorded=bool(record.environment.distributions), seed=self._seed,
            ),
        )  # fmt: skip
        scheduler.run(self._graph)
        self._log_results(run)
        return self._value(scheduler.results.output(self._graph.result))

    def _start(self, run: str) -> None:
        replaces = None
        if self._options.resume:
            driver = self._client.pipelines.show(run).driver
            replaces = driver if is_gone(driver) else None
        body = StartRun(
            pipeline=self._entry, driver=this_driver(), directory=str(self._directory.resolve()),
            plan=plan_of(self._graph), replaces=replaces,
        )  # fmt: skip
        self._epoch = self._client.call("POST", f"/pipelines/runs/{run}/start", body=body, returns=Started).epoch

    def _resumed(self, run: str, record: Any) -> tuple[dict[str, StepUpdate], dict[str, str]]:
        """The steps that an earlier driver did, and the uids of those that it began.

        Raises:
            ConflictError: code, environment or data are not what they were, so that it would be another run.
        """
        before = self._client.runs.record(run)
        changed = [
            name
            for name, old, new in (
                ("code", before["code"]["digest"], record.code.digest),
                ("environment", before["environment"]["digest"], record.environment.digest),
                ("data", before["data"], [msgspec.to_builtins(one) for one in record.data]),
            )
            if old != new
        ]
        if changed:
            raise ConflictError(
                f"Run {run} cannot go on: its {' and '.join(changed)} changed since it started.",
                hint="Start a new run: what did not change comes from the cache.",
                field="resume",
            )
        fields = set(StepUpdate.__struct_fields__)
        done, begun = {}, {}
        for step in self._client.pipelines.steps(run):
            if step.status in (StepStatus.SUCCEEDED, StepStatus.CACHED):
                known = {name: getattr(step, name) for name in step.__struct_fields__ if name in fields}
                done[step.name] = StepUpdate(**known)
            else:
                begun[step.name] = step.uid
        return done, begun

    def _modules(self) -> list[str]:
        names = {node.spec.function.__module__ for node in self._graph.nodes if isinstance(node, Node)}
        return sorted({*names, self._entry.partition(":")[0]})

    def _origins(self) -> dict[str, str]:
        """Who made each result of the run that is rebuilt: a cached one keeps the name of its maker."""
        if self._options.reproduces is None:
            return {}
        try:
            steps = self._client.pipelines.steps(self._options.reproduces)
        except NotFoundError:
            return {}  # a run of another place, known by its record alone
        return {step.name: step.cached_from for step in steps if step.cached_from}

    def _begun(self, task: Task | None) -> None:
        self._inputs.step = None if task is None else task.name

    def _saw_state(self, update: StepUpdate) -> None:
        self._states[update.uid] = update
        self._watch(update)

    def _saw_input(self, step: str, seen: Seen) -> None:
        self._inputs.told(seen.kind, seen.name, step)

    def _undeclared(self) -> dict[str, str]:
        """The tag for what the run read outside of its record; in a rebuild all that lies in its folder is recorded."""
        folders = [str(self._root)] if self._options.is_again else []
        return tag_of(self._inputs.stop(folders=folders, files=self._sources))

    def _log_results(self, run: str) -> None:
        """Results become outputs of the run, and the numbers among them its metrics."""
        outputs, metrics = [], []
        types = load("everline.runs.types")
        now_ms = time.time_ns() // 1_000_000
        for update in self._states.values():
            for index, ref in enumerate(update.outputs):
                name = update.name if len(update.outputs) == 1 else f"{update.name}.{index}"
                outputs.append(types.RunOutput(name=name, kind=ref.kind, digest=ref.digest, facts=ref.meta))
            for key, value in self._metrics_of(update).items():
                metrics.append(types.Metric(key=key, value=value, at_ms=now_ms))
            if len(outputs) >= OUTPUTS_MAX:
                break
        self._client.runs.log_batch(run, metrics=metrics, outputs=outputs[:OUTPUTS_MAX])

    def _metrics_of(self, update: StepUpdate) -> dict[str, float]:
        if len(update.outputs) != 1 or update.outputs[0].kind != "json":
            return {}
        text = update.outputs[0].files[0].text
        if text is not None and '"metrics"' not in text:
            return {}
        value = self._value(update.outputs[0])
        found = value.get("metrics") if isinstance(value, dict) else None
        if not isinstance(found, dict):
            return {}
        return {name: float(number) for name, number in found.items() if isinstance(number, int | float)}

    def _value(self, result: Any) -> Any:
        if isinstance(result, ValueRef):
            if result.kind != "json":
                return {"kind": result.kind, "digest": result.digest}
            return serialisers.json_of(result, StepBlobs(self._client).get_bytes)
        if isinstance(result, dict):
            return {key: self._value(item) for key, item in result.items()}
        return [self._value(item) for item in result] if isinstance(result, list) else None

    def _result(self, run: str, status: str, value: Any) -> PipelineResult:
        return PipelineResult(
            run=run, pipeline=self._entry, status=status, seconds=round(time.monotonic() - self._started, 3),
            steps=self._outcomes(), value=value, data=self._data.uses(),
        )  # fmt: skip

    def _outcomes(self) -> list[StepOutcome]:
        return [
            StepOutcome(
                name=update.name, status=update.status, cached=update.status is StepStatus.CACHED,
                seconds=((update.ended_at or update.started_at) - update.started_at).total_seconds(),
                outputs=tuple(ref.digest for ref in update.outputs), reason=update.reason,
            )
            for update in self._states.values()
        ]  # fmt: skip

    def _fail(self, run: str, error: BaseException) -> str:
        """Say in the run why it did not come to its end; the error itself goes on to the caller."""
        if isinstance(error, RunWaitingError):
            self._stop(run, RunStatus.SCHEDULED)
            return "waiting"
        message = error.message if isinstance(error, EverlineError) else f"{type(error).__name__}: {error}"
        killed = isinstance(error, KeyboardInterrupt | RunCancelledError)
        self._client.runs.log_batch(run, tags={FAILED_TAG: message[:_TAG_CHARS_MAX], **self._undeclared()})
        self._stop(run, RunStatus.KILLED if killed else RunStatus.FAILED)
        return "killed" if killed else "failed"

    def _stop(self, run: str, status: RunStatus) -> None:
        if not self._epoch:  # it never began
            if not self._options.resume:
                self._client.runs.finish(run, status=status)
            return
        body = {"epoch": self._epoch, "status": status}
        self._client.call("POST", f"/pipelines/runs/{run}/stop", body=body)


class _Journal:
    """Step states and kept results, over the client."""

    def __init__(self, client: Client, *, run: str, pipeline: str, epoch: int) -> None:
        self._client, self._run, self._pipeline, self._epoch = client, run, pipeline, epoch

    def lookup(self, keys: list[str]) -> dict[str, CacheEntry]:
        found: dict[str, CacheEntry] = self._client.pipelines.lookup(keys)
        return found

    def record(self, updates: list[StepUpdate], output: list[StepOutput]) -> Orders:
        body = RecordSteps(pipeline=self._pipeline, epoch=self._epoch, steps=updates, output=output)
        return self._client.call("POST", f"/pipelines/runs/{self._run}/steps", body=body, returns=Orders)

    def beat(self) -> Orders:
        return self.record([], [])

    def ask(self, asked: Asked) -> Approval | None:
        path = f"/pipelines/runs/{self._run}/questions"
        return self._client.call("POST", path, body=asked, returns=dict[str, Approval | None])["answer"]


def store_of(client: Client) -> serialisers.ResultStore:
    """Where the driver of a run finds results."""
    if client.settings.url:
        return ClientStore(client)
    store: serialisers.ResultStore = embedded_store(client.settings)
    return store


class StepBlobs:
    """Results by digest, verified at each read."""

    def __init__(self, client: Client) -> None:
        self._store = store_of(client)

    def get_bytes(self, digest: str) -> bytes:
        """The bytes.

        Raises:
            IntegrityError: they were altered.
        """
        data = bytes(self._store.read(digest))
        if digest_bytes(data) != digest:
            raise IntegrityError(
                f"The blob {digest} was altered in storage.", hint="What was made from it is in doubt."
            )
        return data


def plan_of(graph: Graph) -> list[PlannedStep]:
    """The graph as it is shown before and while it runs; large ones without their inner edges."""
    if len(graph.nodes) > PLAN_MAX:
        return []
    return [PlannedStep(name=node.name, kind=_kind(node), needs=tuple(sorted(_needs(node)))) for node in graph.nodes]


def _kind(node: Vertex) -> Literal["step", "question", "choice", "expansion"]:
    if isinstance(node, Question):
        return "question"
    if isinstance(node, Choice):
        return "choice"
    return "expansion" if isinstance(node, Expansion) else "step"


def _needs(node: Vertex) -> set[int]:
    found = {condition.value.node.position for condition in node.conditions}
    for value in node.inputs.values():
        found |= {ref.node.position for ref in refs_in(value) if isinstance(ref, Ref)}
    return found


def _jsonable(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: msgspec.to_builtins(value) for name, value in parameters.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
