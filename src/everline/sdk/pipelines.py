"""Pipelines through the client: run one here, with everything recorded; look at what ran.

    client.pipelines.run("flight_delay:flight_delay", params={"max_iter": 80})

The driver resolves data, records code, environment and seed before the first step, runs the steps in this
process, and ends the run as finished or failed whatever happens.
"""

from __future__ import annotations

import importlib
import linecache
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from everline.clock import SystemClock
from everline.errors import EverlineError, IntegrityError, InvalidInputError, NotFoundError
from everline.ids import digest_bytes
from everline.loader import load
from everline.pipelines.codedigest import project_root
from everline.pipelines.graph import DatasetRef, Graph
from everline.pipelines.measuring import EXPLAINS_TAG, Measure, claims_in, part_of
from everline.pipelines.step import Pipeline
from everline.pipelines.types import (
    CacheEntry,
    DatasetUse,
    KeyMaterial,
    PipelineResult,
    PipelineSummary,
    RecordSteps,
    StepFailedError,
    StepOutcome,
    StepRecord,
    StepStatus,
    StepUpdate,
    ValueRef,
)
from everline.pipelines.values import RunContext
from everline.runs.undeclared import own_folders, peers, tag_of
from everline.runs.watching import Watch as Inputs
from everline.sdk.client import Client

Watch = Callable[[StepUpdate], None]
REPRODUCES_TAG = "everline.reproduces"
FAILED_TAG = "everline.failed"
_STEPS_MAX = 100_000
_TAG_CHARS_MAX = 4_000


class PipelinesApi:
    """Run pipelines, and read what their steps did."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def run(
        self,
        pipeline: Pipeline | str,
        *,
        params: Mapping[str, Any] | None = None,
        cache: bool = True,
        seed: int | None = None,
        data: Mapping[str, Sequence[str | int]] | None = None,
        reproduces: str | None = None,
        reason: str = "",
        directory: Path | None = None,
        argv: Sequence[str] = (),
        vary: str | None = None,
        measure: Measure | None = None,
        watch: Watch = lambda update: None,
    ) -> PipelineResult:
        """Run a pipeline in this process.

        Args:
            pipeline: the function with `@el.pipeline`, or its address `module:pipeline`.
            params: by name; text is read as the annotated type.
            cache: reuse kept results of earlier steps.
            seed: value for the pipeline's parameter `seed`; recorded with the run.
            data: dataset versions to take instead of what the pipeline names, by dataset.
            reproduces: uid of the run that is rebuilt: results are kept for no other run, steps with effects are left
                out, and packages name that run as their maker, so that equal results have equal digests.
            reason: why the run was started; kept as a tag.
            directory: folder where the module is found first; the current one if not given.
            argv: the command line, recorded without secrets.
            vary: change one thing that should not matter, as `check_determinism` does: `threads`, `files` or
                `nothing`.
            measure: run only what leads to one step, for an explanation; steps with effects are left out.
            watch: called at each change of a step, for live progress.

        Raises:
            InvalidInputError: the pipeline, a parameter or an edge is wrong; nothing was recorded.
            StepFailedError: a step raised; the run is marked as failed and names it.
        """
        settings = self._client.settings
        inputs = Inputs(peers=peers(settings.url), folders=own_folders(settings.home)).start()
        try:
            driver = self._driver(
                pipeline, params=params, cache=cache, seed=seed, data=data, reproduces=reproduces, directory=directory,
                vary=vary, measure=measure, watch=watch, inputs=inputs,
            )  # fmt: skip
            return driver.run(argv=tuple(argv), reason=reason)
        finally:
            inputs.stop()

    def _driver(
        self,
        pipeline: Pipeline | str,
        *,
        params: Mapping[str, Any] | None,
        cache: bool,
        seed: int | None,
        data: Mapping[str, Sequence[str | int]] | None,
        reproduces: str | None,
        directory: Path | None,
        vary: str | None,
        measure: Measure | None,
        watch: Watch,
        inputs: Inputs,
    ) -> _Driver:
        entry, found = _found(pipeline, directory)
        values = dict(params or {})
        if seed is not None and "seed" in found.signature.parameters:
            values["seed"] = seed
        bound = found.bind(values, strict=False)
        graph = found.build(**bound)
        if measure is not None:
            graph = part_of(graph, measure)
        return _Driver(
            self._client, entry=entry, graph=graph, root=project_root(_file_of(found)),
            seed=bound.get("seed") if seed is None else seed, overrides=data or {}, cache=cache, reproduces=reproduces,
            vary=vary, measure=measure, watch=watch, inputs=inputs,
        )  # fmt: skip

    def steps(self, run: str) -> list[StepRecord]:
        """The steps of a run, in the order of its graph."""
        return self._client.list_all(f"/pipelines/runs/{run}/steps", kind=StepRecord, limit=_STEPS_MAX)

    def record(self, run: str) -> dict[str, Any]:
        """What is needed to do a run again: code, environment, seed, parameters, data."""
        answer: dict[str, Any] = self._client.runs.record(run)
        return answer

    def materials(self, pipeline: str) -> dict[str, KeyMaterial]:
        """What each step depended on when it last ended well."""
        query = {"pipeline": pipeline}
        return self._client.call("GET", "/pipelines/materials", query=query, returns=dict[str, KeyMaterial])

    def lookup(self, keys: Sequence[str]) -> dict[str, CacheEntry]:
        """The kept results under step keys."""
        body = {"keys": list(keys)}
        answer = self._client.call(
            "POST", "/pipelines/cache/lookup", body=body, returns=dict[str, tuple[CacheEntry, ...]]
        )
        return {entry.key: entry for entry in answer["entries"]}

    def report(self, run: str, report: RecordSteps) -> None:
        """Record how steps of a run stand."""
        self._client.call("POST", f"/pipelines/runs/{run}/steps", body=report)

    def trigger(
        self,
        pipeline: str,
        *,
        directory: Path,
        params: Mapping[str, Any] | None = None,
        reason: str = "",
        key: str | None = None,
    ) -> str | None:
        """Leave a run to the next `everline worker`; return the job's uid, or None if `key` was there already."""
        body = {
            "pipeline": pipeline, "directory": str(directory), "parameters": dict(params or {}),
            "reason": reason or "asked for by API", "key": key,
        }  # fmt: skip
        return self._client.call("POST", "/pipelines/trigger", body=body, returns=dict[str, str | None])["job"]

    def list(self, *, limit: int = 100) -> list[PipelineSummary]:
        """The pipelines that have run."""
        return self._client.list_all("/pipelines", kind=PipelineSummary, limit=limit)


class _Driver:
    """One run of one graph."""

    def __init__(
        self,
        client: Client,
        *,
        entry: str,
        graph: Graph,
        root: Path,
        seed: int | None,
        overrides: Mapping[str, Sequence[str | int]],
        cache: bool,
        reproduces: str | None,
        vary: str | None,
        measure: Measure | None,
        watch: Watch,
        inputs: Inputs,
    ) -> None:
        self._client, self._entry, self._graph, self._root = client, entry, graph, root
        self._seed, self._cache, self._reproduces, self._watch = seed, cache, reproduces, watch
        self._vary, self._measure, self._inputs = vary, measure, inputs
        self._sources: set[str] = set()
        self._data = Datasets(client, overrides, contracts=reproduces is None and measure is None)
        self._states: dict[str, StepUpdate] = {}

    def run(self, *, argv: tuple[str, ...], reason: str) -> PipelineResult:
        """From the first record to the last, ended as finished or failed."""
        started = time.monotonic()
        tags = {"everline.reason": reason[:_TAG_CHARS_MAX]} if reason else {}
        if self._reproduces:
            tags[REPRODUCES_TAG] = self._reproduces
        if self._measure:
            tags[EXPLAINS_TAG] = self._measure.tag
        params = {name: _text(value) for name, value in self._graph.parameters.items()}
        name = self._graph.pipeline
        run = self._client.runs.create(experiment=name, pipeline=self._entry, params=params, tags=tags).run
        try:
            value = self._work(run, argv)
        except BaseException as error:
            status = self._fail(run, error)
            if isinstance(error, StepFailedError):
                error.result = self._result(run, status, None, started)
            raise
        seen = self._undeclared()
        if seen:
            self._client.runs.log_batch(run, tags=seen)
        self._client.runs.finish(run, status="finished")
        return self._result(run, "finished", value, started)

    def _result(self, run: str, status: str, value: Any, started: float) -> PipelineResult:
        return PipelineResult(
            run=run, pipeline=self._entry, status=status, seconds=round(time.monotonic() - started, 3),
            steps=self._outcomes(), value=value, data=self._data.uses(),
        )  # fmt: skip

    def _work(self, run: str, argv: tuple[str, ...]) -> Any:
        for node in self._graph.nodes:
            for ref in node.refs():
                if isinstance(ref, DatasetRef):
                    self._data.resolve(ref)
        with self._inputs.aside():
            captured = load("everline.runs.capture").capture(
                self._root, self._entry, argv, seed=self._seed, params=_jsonable(self._graph.parameters),
                data=self._data.inputs(),
            )  # fmt: skip
        self._sources = {str(self._root.resolve() / file.path) for file in captured.record.code.files}
        for content in captured.blobs.values():
            self._client.blobs.put_bytes(content)
        record = captured.record
        self._client.runs.set_record(run, msgspec.to_builtins(record))
        if self._data.uses():
            self._client.runs.log_batch(run, inputs=self._data.run_inputs())
        executor = load("everline.pipelines.local").LocalExecutor(
            journal=_Journal(self._client, run=run, pipeline=self._entry),
            blobs=StepBlobs(self._client), data=self._data, clock=SystemClock(), root=self._root, cache=self._cache,
            previous=self._client.pipelines.materials(self._entry),
            skip_effects=self._reproduces is not None or self._measure is not None,
            claim=claims_in(self._measure.claims if self._measure else None),
            origins=self._origins(), keep=self._reproduces is None, more_threads=int(self._vary == "threads"),
            watch=self._saw,
            context=RunContext(
                run=run, origin=self._reproduces or run, pipeline=self._entry, client=self._client,
                code=record.code.digest, environment=record.environment.digest, code_recorded=not record.code.omitted,
                environment_recorded=bool(record.environment.distributions), seed=self._seed, folder=self._root,
            ),
        )  # fmt: skip
        executor.run(self._graph)
        self._log_results(run)
        return self._value(executor.output(self._graph.result))

    def _origins(self) -> dict[str, str]:
        """Who made each result of the run that is rebuilt: a cached one keeps the name of its maker."""
        if self._reproduces is None:
            return {}
        try:
            steps = self._client.pipelines.steps(self._reproduces)
        except NotFoundError:
            return {}  # a run of another place, known by its record alone
        return {step.name: step.cached_from for step in steps if step.cached_from}

    def _saw(self, update: StepUpdate) -> None:
        self._states[update.uid] = update
        self._inputs.step = update.name if update.status is StepStatus.RUNNING else None
        self._watch(update)

    def _undeclared(self) -> dict[str, str]:
        """The tag for what the run read outside of its record; in a rebuild all that lies in its folder is recorded."""
        again = self._reproduces is not None or self._measure is not None
        return tag_of(self._inputs.stop(folders=[str(self._root)] if again else [], files=self._sources))

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
        self._client.runs.log_batch(run, metrics=metrics, outputs=outputs)

    def _metrics_of(self, update: StepUpdate) -> dict[str, float]:
        if len(update.outputs) != 1 or update.outputs[0].kind != "json":
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
            return msgspec.json.decode(StepBlobs(self._client).get_bytes(result.files[0].digest))
        return [self._value(item) for item in result] if isinstance(result, list) else None

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
        """Say in the run why it failed; the error itself goes on to the caller."""
        message = error.message if isinstance(error, EverlineError) else f"{type(error).__name__}: {error}"
        status = "killed" if isinstance(error, KeyboardInterrupt) else "failed"
        self._client.runs.log_batch(run, tags={FAILED_TAG: message[:_TAG_CHARS_MAX], **self._undeclared()})
        self._client.runs.finish(run, status=status)
        return status


class _Journal:
    """Step states and kept results, over the client."""

    def __init__(self, client: Client, *, run: str, pipeline: str) -> None:
        self._client, self._run, self._pipeline = client, run, pipeline

    def lookup(self, key: str) -> CacheEntry | None:
        found: dict[str, CacheEntry] = self._client.pipelines.lookup([key])
        return found.get(key)

    def record(self, updates: list[StepUpdate]) -> None:
        self._client.pipelines.report(self._run, RecordSteps(pipeline=self._pipeline, steps=updates))


class StepBlobs:
    """Results in the blob store, verified at each read.

    Embedded, the store itself is read, so that damage there is found; from a server, the client's cache saves
    the way.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def put_bytes(self, data: bytes) -> str:
        """Keep bytes; what lies under their digest is replaced if it was altered."""
        digest = digest_bytes(data)
        self._client.send("PUT", f"/api/v1/blobs/{digest}", content=data, query={"repair": True})
        return digest

    def get_bytes(self, digest: str) -> bytes:
        """The bytes, verified."""
        if self._client.settings.url:
            return self._client.blobs.get_bytes(digest)
        data = self._client.send("GET", f"/api/v1/blobs/{digest}").content
        if digest_bytes(data) != digest:
            raise IntegrityError(
                f"The blob {digest} was altered in storage.", hint="What was made from it is in doubt."
            )
        return data


class Datasets:
    """The dataset versions of one run: resolved once, so that every step reads the same."""

    def __init__(self, client: Client, overrides: Mapping[str, Sequence[str | int]], *, contracts: bool = True) -> None:
        # A rebuild reads what was read, whatever has been promised since: its contracts are not held again.
        self._client, self._overrides, self._contracts = client, overrides, contracts
        self._resolved: dict[DatasetRef, tuple[DatasetUse, ...]] = {}
        self._versions: dict[str, list[Any]] = {}

    def resolve(self, ref: DatasetRef) -> tuple[DatasetUse, ...]:
        """The versions that a reference means.

        Raises:
            NotFoundError: there is no such dataset.
            InvalidInputError: there is no such version.
            ContractBrokenError: one of them does not keep the contract that the pipeline declares.
        """
        if ref not in self._resolved:
            asked = tuple(self._overrides.get(ref.name, ref.versions))
            known = sorted(self._known(ref.name), key=lambda version: version.version)
            if not known:
                raise InvalidInputError(
                    f"Dataset {ref.name!r} has no version yet.", hint="Add one with `everline data add`."
                )
            found = [version for item in asked for version in _matching(item, known, ref.name)] if asked else known[-1:]
            for version in found if self._contracts else ():
                self._client.datasets.require(ref.name, version.version, contract=ref.contract)
            self._resolved[ref] = tuple(
                DatasetUse(name=ref.name, version=v.version, digest=v.digest, label=v.labels[0] if v.labels else None)
                for v in found
            )
        return self._resolved[ref]

    def read(self, ref: DatasetRef) -> Any:
        """The rows of all versions, one after the other."""
        tables = [self._client.datasets.table(use.name, use.version) for use in self.resolve(ref)]
        return tables[0] if len(tables) == 1 else load("pyarrow").concat_tables(tables)

    def uses(self) -> list[DatasetUse]:
        """Every version that was resolved."""
        found = {(use.name, use.version): use for uses in self._resolved.values() for use in uses}
        return [use for _, use in sorted(found.items())]

    def inputs(self) -> tuple[Any, ...]:
        """For the record of the run."""
        kind = load("everline.runs.capture").DataInput
        return tuple(kind(name=u.name, version=u.version, digest=u.digest, label=u.label) for u in self.uses())

    def run_inputs(self) -> list[Any]:
        """For the run's list of inputs."""
        kind = load("everline.runs.types").RunInput
        return [
            kind(name=use.name, digest=use.digest, version=use.version, context="training", source_type="everline")
            for use in self.uses()
        ]

    def _known(self, name: str) -> list[Any]:
        if name not in self._versions:
            self._versions[name] = list(self._client.datasets.versions(name))
        return self._versions[name]


def _matching(item: str | int, known: Sequence[Any], name: str) -> list[Any]:
    if isinstance(item, str) and ".." in item:
        first, _, last = item.partition("..")
        found = [v for v in known if v.labels and first <= v.labels[0] <= last]
    elif isinstance(item, str) and item.startswith("sha256:"):
        found = [v for v in known if v.digest == item][:1]
    else:
        found = [v for v in known if str(item) in v.labels] or [v for v in known if str(v.version) == str(item)]
        found = found[-1:]
    if not found:
        labels = ", ".join(v.labels[0] if v.labels else str(v.version) for v in known[-12:])
        raise InvalidInputError(
            f"Dataset {name!r} has no version {item!r}.", hint=f"The newest are {labels}; see `everline data list`.",
            field="version",
        )  # fmt: skip
    return found


def _found(pipeline: Pipeline | str, directory: Path | None) -> tuple[str, Pipeline]:
    if isinstance(pipeline, Pipeline):
        return f"{pipeline.function.__module__}:{pipeline.function.__name__}", pipeline
    return pipeline, find_pipeline(pipeline, directory=directory or Path.cwd())


def find_pipeline(address: str, *, directory: Path) -> Pipeline:
    """Import `module:pipeline`, looking in `directory` first.

    Raises:
        InvalidInputError: there is no such module or pipeline in it, or the module fails to import.
    """
    module_name, _, name = address.partition(":")
    if not module_name or not name:
        raise InvalidInputError(
            f"{address[:200]!r} is not a pipeline.", hint="Write `module:pipeline`, like flight_delay:flight_delay.",
            field="pipeline",
        )  # fmt: skip
    folder = str(directory.resolve())
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in (module_name, module_name.partition(".")[0]):
            raise InvalidInputError(
                f"There is no module {module_name!r} in {folder}.",
                hint="Run in the project's folder, or name it with --directory.",
                field="pipeline",
            ) from None
        if isinstance(error, EverlineError):
            raise
        raise InvalidInputError(
            f"Module {module_name!r} could not be imported: {type(error).__name__}: {error}.",
            hint=f"`python -c 'import {module_name}'` in {folder} shows where.",
            field="pipeline",
        ) from error
    found = getattr(module, name, None)
    if not isinstance(found, Pipeline):
        have = ", ".join(key for key, value in vars(module).items() if isinstance(value, Pipeline)) or "none"
        raise InvalidInputError(
            f"Module {module_name!r} has no pipeline {name!r}.", hint=f"Its pipelines: {have}.", field="pipeline"
        )
    return found


def forget_project(directory: Path) -> None:
    """Import the modules below a folder anew the next time: a worker lives longer than the code it runs."""
    root = directory.resolve()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name != "__main__" and "site-packages" not in file and Path(file).resolve().is_relative_to(root):
            del sys.modules[name]
    importlib.invalidate_caches()
    linecache.checkcache()


def _file_of(pipeline: Pipeline) -> Path:
    file = getattr(sys.modules.get(pipeline.function.__module__), "__file__", None)
    return Path(file) if file else Path.cwd() / "interactive.py"


def _jsonable(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: msgspec.to_builtins(value) for name, value in parameters.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
