"""Pipelines through the client: run one here, with everything recorded; look at what ran.

    client.pipelines.run("flight_delay:flight_delay", params={"max_iter": 80})

The driver resolves data, records code, environment and seed before the first step, has the steps run where it is told,
and ends the run as finished or failed whatever happens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from everline.errors import InvalidInputError, NotFoundError
from everline.pipelines.codedigest import project_root
from everline.pipelines.measuring import Measure, part_of
from everline.pipelines.step import Pipeline
from everline.pipelines.types import (
    CacheEntry,
    Orders,
    PipelineResult,
    PipelineRun,
    PipelineSummary,
    PrintedPiece,
    Recent,
    RecordSteps,
    Started,
    StartRun,
    StepRecord,
    StepUpdate,
)
from everline.runs.types import RunStatus
from everline.runs.undeclared import own_folders, peers
from everline.runs.watching import Watch as Inputs
from everline.sdk import executors
from everline.sdk.client import Client
from everline.sdk.driving import Driver, Options, Printed, Watch
from everline.sdk.pipeline_modules import file_of, named

_STEPS_MAX = 200_000
_STEPS_PER_REPORT = 1_000


class PipelinesApi:
    """Run pipelines, and read what their steps did."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def run(
        self,
        pipeline: Pipeline | str | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        on: str | None = None,
        cache: bool = True,
        seed: int | None = None,
        data: Mapping[str, Sequence[str | int]] | None = None,
        reproduces: str | None = None,
        resume: str | None = None,
        reason: str = "",
        directory: Path | None = None,
        argv: Sequence[str] = (),
        vary: str | None = None,
        measure: Measure | None = None,
        patient: bool = False,
        tags: Mapping[str, str] | None = None,
        watch: Watch = lambda update: None,
        printed: Printed = lambda step, data: None,
    ) -> PipelineResult:
        """Run a pipeline.

        Args:
            pipeline: the function with `@el.pipeline`, or its address `module:pipeline`; None for a run that goes on.
            params: by name; text is read as the annotated type.
            on: where the steps run: `inline`, `local`, `local:4`, `ray` or `ray://…`; None takes a pool of processes
                where those can find the steps, else this process.
            cache: reuse kept results of earlier steps.
            seed: value for the pipeline's parameter `seed`; recorded with the run.
            data: dataset versions to take instead of what the pipeline names, by dataset.
            reproduces: uid of the run that is rebuilt: results are kept for no other run, steps with effects are left
                out, and packages name that run as their maker, so that equal results have equal digests.
            resume: uid of a run that stopped, to go on with: what it did is not done again, whether cached or not.
            reason: why the run was started; kept as a tag.
            directory: folder where the module is found first; the current one if not given.
            argv: the command line, recorded without secrets.
            vary: change one thing that should not matter, as `check_determinism` does: `threads`, `files` or
                `nothing`.
            measure: run only what leads to one step, for an explanation; steps with effects are left out.
            patient: wait for people's answers; otherwise the run ends as waiting, and goes on with `resume`.
            tags: for the run.
            watch: called at each change of a step, for live progress.
            printed: called with what steps print, where they do not run in this process.

        Raises:
            InvalidInputError: the pipeline, a parameter or an edge is wrong; nothing was recorded.
            ConflictError: the run to go on with has ended, is at work, or is of other code.
            StepFailedError: a step failed; the run is marked as failed and names it.
            RunCancelledError: somebody cancelled the run.
            RunWaitingError: the run waits for answers.
        """
        settings = self._client.settings
        inputs = Inputs(peers=peers(settings.url), folders=own_folders(settings.home)).start()
        try:
            options = Options(
                on=executors.check(on), cache=cache, reproduces=reproduces, resume=resume, reason=reason,
                argv=tuple(argv), vary=vary, measure=measure, patient=patient, tags=dict(tags or {}),
            )  # fmt: skip
            if resume is not None:
                pipeline, params, seed, data = self._recorded(resume, pipeline)
            elif pipeline is None:
                raise InvalidInputError("No pipeline was named.", hint="Write `module:pipeline`.", field="pipeline")
            entry, found = named(pipeline, directory)
            values = dict(params or {})
            if seed is not None and "seed" in found.signature.parameters:
                values["seed"] = seed
            bound = found.bind(values, strict=False)
            graph = found.build(**bound)
            if measure is not None:
                graph = part_of(graph, measure)
            driver = Driver(
                self._client, entry=entry, graph=graph, root=project_root(file_of(found)),
                directory=directory or Path.cwd(), seed=bound.get("seed") if seed is None else seed,
                overrides=data or {}, options=options, watch=watch, printed=printed, inputs=inputs,
            )  # fmt: skip
            return driver.run()
        finally:
            inputs.stop()

    def _recorded(
        self, run: str, pipeline: Pipeline | str | None
    ) -> tuple[Pipeline | str, dict[str, Any], int | None, dict[str, list[str | int]]]:
        """Pipeline, parameters, seed and data of a run that goes on."""
        record = self.record(run)
        data: dict[str, list[str | int]] = {}
        for use in record["data"]:
            data.setdefault(use["name"], []).append(use["digest"])
        params = {name: value for name, value in record["params"].items() if value is not None}
        return pipeline or record["entry"], params, record["seed"], data

    def show(self, run: str) -> PipelineRun:
        """A run as the engine sees it: its driver, its plan, whether it is at work, waits or has ended."""
        return self._client.call("GET", f"/pipelines/runs/{run}", returns=PipelineRun)

    def cancel(self, run: str) -> PipelineRun:
        """Have a run stopped at once, wherever it runs."""
        return self._client.call("POST", f"/pipelines/runs/{run}/cancel", returns=PipelineRun)

    def output(self, run: str, step: str) -> str:
        """What a step printed.

        Args:
            step: its name, or its uid.
        """
        uid = next((one.uid for one in self.steps(run) if step in (one.name, one.uid)), None)
        if uid is None:
            raise NotFoundError(f"Run {run} has no step {step!r}.", hint="`everline runs show` lists them.")
        text, after = "", ""
        while True:
            query = {"step": uid, "after": after, "limit": 1000}
            page = self._client.call(
                "GET", f"/pipelines/runs/{run}/output", query=query, returns=dict[str, list[PrintedPiece] | None]
            )["items"]
            if not page:
                return text
            text, after = text + "".join(piece.text for piece in page), page[-1].uid

    def steps(self, run: str) -> list[StepRecord]:
        """The steps of a run, in the order of its graph."""
        return self._client.list_all(f"/pipelines/runs/{run}/steps", kind=StepRecord, limit=_STEPS_MAX)

    def record(self, run: str) -> dict[str, Any]:
        """What is needed to do a run again: code, environment, seed, parameters, data."""
        answer: dict[str, Any] = self._client.runs.record(run)
        return answer

    def recent(self, pipeline: str) -> Recent:
        """What each step depended on when it last ended well, and which of these results are kept."""
        return self._client.call("GET", "/pipelines/recent", query={"pipeline": pipeline}, returns=Recent)

    def lookup(self, keys: Sequence[str]) -> dict[str, CacheEntry]:
        """The kept results under step keys."""
        body = {"keys": list(keys)}
        answer = self._client.call(
            "POST", "/pipelines/cache/lookup", body=body, returns=dict[str, tuple[CacheEntry, ...]]
        )
        return {entry.key: entry for entry in answer["entries"]}

    def write_down(self, run: str, *, pipeline: str, steps: Sequence[StepUpdate]) -> None:
        """Record the steps of a run that was done elsewhere, and end it as finished."""
        start = StartRun(pipeline=pipeline, driver="written down")
        epoch = self._client.call("POST", f"/pipelines/runs/{run}/start", body=start, returns=Started).epoch
        for first in range(0, len(steps), _STEPS_PER_REPORT):
            part = list(steps[first : first + _STEPS_PER_REPORT])
            report = RecordSteps(pipeline=pipeline, epoch=epoch, steps=part)
            self._client.call("POST", f"/pipelines/runs/{run}/steps", body=report, returns=Orders)
        body = {"epoch": epoch, "status": RunStatus.FINISHED}
        self._client.call("POST", f"/pipelines/runs/{run}/stop", body=body)

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
