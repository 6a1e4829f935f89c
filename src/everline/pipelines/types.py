"""Values of pipelines as they are recorded: steps, results by digest, cache entries.

Light on purpose: no database, numpy or Arrow, so that `import everline` stays fast.
"""

from __future__ import annotations

import math
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

import msgspec

from everline.errors import EverlineError


class StepStatus(StrEnum):
    """Where a step of a run stands."""

    RUNNING = "running"
    WAITING = "waiting"
    """For a person's answer."""
    SUCCEEDED = "succeeded"
    CACHED = "cached"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Its branch was not taken."""
    CANCELLED = "cancelled"


QUEUE = "pipelines"
JOB_KIND = "pipeline.run"
REPRODUCES_TAG = "everline.reproduces"
"""Of runs that rebuild another; its value is that one's uid."""
PLAN_MAX = 2_000
"""How many vertices of a graph are shown before it runs."""


class RunState(StrEnum):
    """Whether a run of a pipeline is at work."""

    RUNNING = "running"
    WAITING = "waiting"
    """For people; no process runs it."""
    ENDED = "ended"


ENDED = frozenset(StepStatus) - {StepStatus.RUNNING, StepStatus.WAITING}
AGAIN = frozenset({StepStatus.FAILED, StepStatus.CANCELLED})
"""Ends after which a step may be begun again, when its run goes on."""


class RunEndedError(EverlineError):
    """A run that did not come to its end.

    Attributes:
        result: the run as far as it came, for whoever reports it.
    """

    status = 422
    result: PipelineResult | None = None


class StepFailedError(RunEndedError):
    """A step of a pipeline raised; the run ended there."""

    code = "step_failed"


class RunCancelledError(RunEndedError):
    """Somebody cancelled the run."""

    code = "run_cancelled"
    status = 409


class RunWaitingError(RunEndedError):
    """Nothing is left to do until somebody answers.

    Attributes:
        steps: the names of the questions.
    """

    code = "run_waiting"
    status = 409

    def __init__(self, steps: list[str], run: str) -> None:
        names = ", ".join(map(repr, steps))
        super().__init__(
            f"The run {run} waits for an answer to {names}.",
            hint=f"`everline approvals answer {run} {steps[0]} --yes`; then `everline run --resume {run}` goes on.",
        )
        self.steps = steps


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What a step asks for; steps run at the same time as far as the machine has it for all of them.

    Attributes:
        cpus: processor cores, more than 0. Numeric libraries get as many threads, rounded up: sums over more
            threads are added in another order, so the number is part of the step key.
        memory_mb: megabytes of memory: a process that takes more is stopped, and its step fails. None for no limit.
    """

    cpus: float = 1
    memory_mb: int | None = None

    @property
    def threads(self) -> int:
        """Threads that numeric libraries may use."""
        return max(1, math.ceil(self.cpus))


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual environment of a step's own: distributions that come before those of the run, which are there too.

    It is made once for its content, by uv. What stands here is installed without its dependencies, so that the list
    is the whole difference; Python is that of the run.

    Attributes:
        requirements: lines of a requirements file that name each distribution with its exact version (`name==1.2`),
            with or without `--hash`.
        file: a requirements file of that kind instead, relative to the project's folder.
    """

    requirements: tuple[str, ...] = ()
    file: str | None = None


class FileRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of a result; `path` is its name inside the result.

    Attributes:
        text: the content itself, of short JSON values; anything else is a blob.
    """

    path: str
    digest: str
    bytes: int
    text: str | None = None


class ValueRef(msgspec.Struct, frozen=True, kw_only=True):
    """One result by content.

    Attributes:
        kind: table, array, json, model or files: how the blobs are read again.
        digest: of the canonical JSON of `kind`, `files` and `meta`: equal digests, equal results.
        files: the blobs, ordered by path.
        meta: small facts that reading needs, such as the frame library of a table.
    """

    kind: str
    digest: str
    files: tuple[FileRef, ...] = ()
    meta: dict[str, Any] = {}


class KeyMaterial(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a step's result depends on; the step key is its digest.

    Attributes:
        code: digest of the step's code with every project function and constant it reaches.
        parts: digest of each of those, by qualified name: says which one changed.
        inputs: by parameter name, a digest or a value.
        environment: digest of Python and every installed distribution.
        threads: what numeric libraries were held to.
    """

    code: str
    environment: str
    threads: int = 1
    inputs: dict[str, Any] = {}
    parts: dict[str, str] = {}


class StepError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a step failed."""

    type: str
    message: str
    traceback: str = ""


class StepUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a driver reports about one step: its start, or its end.

    Attributes:
        uid: canonical UUID text, given by the driver; start and end of a step carry the same.
        position: 0 for the first step of the graph.
        key: the step key, or None for a step that is never cached.
        outputs: results of an ended step, one per returned value.
        cache: keep the outputs under `key` for later runs.
        cached_from: run that computed the outputs, for a cached step.
        reason: why the step ran although an earlier run had done it, or that it was cached; one sentence.
        needs: names of the steps whose results it takes.
    """

    uid: str
    name: str
    position: int
    status: StepStatus
    key: str | None = None
    material: KeyMaterial | None = None
    outputs: tuple[ValueRef, ...] = ()
    cache: bool = False
    cached_from: str | None = None
    attempts: int = 0
    started_at: datetime
    ended_at: datetime | None = None
    reason: str = ""
    needs: tuple[str, ...] = ()
    error: StepError | None = None


class StepOutput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a step wrote to its standard output and error since the last report; `uid` is the step's."""

    uid: str
    text: str


class RecordSteps(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of one report of a driver.

    Attributes:
        epoch: which of the run's drivers it is, as `start` told; a report of a driver that was replaced is refused.
        steps: empty says only that the driver is alive.
    """

    pipeline: str
    epoch: int
    steps: list[StepUpdate] = []
    output: list[StepOutput] = []


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver is told in answer to a report.

    Attributes:
        cancel: who wants the run to stop at once; None to go on.
    """

    cancel: str | None = None


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A vertex of the graph as it is before anything runs.

    Attributes:
        kind: step, question, choice or expansion.
        needs: positions in the plan of those that it waits for.
        count: how many it stands for, where many calls of one step are shown as one.
    """

    name: str
    kind: Literal["step", "question", "choice", "expansion"] = "step"
    needs: tuple[int, ...] = ()
    count: int = 1


class PrintedPiece(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of what a step printed; pieces follow each other in the order of their uids."""

    uid: str
    at: datetime
    text: str


class StartRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A driver begins with a run, or goes on with it.

    Attributes:
        driver: who it is: `host:process:moment`.
        directory: folder of the module on that host, for whoever goes on later.
        plan: at most 2,000 vertices.
        replaces: the driver that is known to be gone, though its lease has not run out.
    """

    pipeline: str
    driver: str
    directory: str = ""
    plan: list[PlannedStep] = []
    replaces: str | None = None


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """A run that has a driver now.

    Attributes:
        epoch: to be sent with each report.
    """

    epoch: int


class PipelineRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a pipeline as the engine sees it.

    Attributes:
        driver: who runs it, or did last.
        lease_until: when a driver that says nothing is taken for dead.
        cancelled_by: who asked it to stop.
    """

    run: str
    pipeline: str
    state: RunState
    driver: str
    directory: str
    epoch: int
    lease_until: datetime
    cancelled_by: str | None
    plan: tuple[PlannedStep, ...] = ()


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question of a run to people; see `el.approval`.

    Attributes:
        material: digest of what is shown; an answer holds for this alone.
        shown: JSON values, other results by kind and digest.
    """

    step: str
    question: str
    role: str
    others: bool
    material: str
    shown: dict[str, Any] = {}


class ApprovalRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A question and what was answered.

    Attributes:
        approved: None as long as nobody answered.
    """

    run: str
    pipeline: str
    step: str
    question: str
    role: str
    others: bool
    shown: dict[str, Any]
    asked_by: str
    asked_at: datetime
    approved: bool | None
    answered_by: str | None
    answered_at: datetime | None
    reason: str


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one run as it is kept; the fields are those of `StepUpdate`.

    Attributes:
        seconds: from start to end, or None while it runs.
    """

    uid: str
    run: str
    pipeline: str
    name: str
    position: int
    status: StepStatus
    cached: bool
    key: str | None
    material: KeyMaterial | None
    outputs: tuple[ValueRef, ...]
    cached_from: str | None
    attempts: int
    started_at: datetime
    ended_at: datetime | None
    seconds: float | None
    reason: str
    needs: tuple[str, ...]
    error: StepError | None


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A result that is kept for every later step with the same key.

    Attributes:
        run: the run that computed it.
        seconds: how long that took.
    """

    key: str
    outputs: tuple[ValueRef, ...]
    run: str
    step: str
    created_at: datetime
    seconds: float


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """What a pipeline's last runs tell the next one.

    Attributes:
        materials: what each step depended on when it last ended well, by name.
        kept: the results of these steps that are kept for reuse.
    """

    materials: dict[str, KeyMaterial]
    kept: list[CacheEntry]


class PipelineSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline that has run, with its newest run."""

    name: str
    runs: int
    last_run: str
    last_at: datetime
    steps: int
    cached: int
    failed: int


class DatasetUse(msgspec.Struct, frozen=True, kw_only=True):
    """One dataset version that a run read."""

    name: str
    version: int
    digest: str
    label: str | None = None


class StepOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One step in the answer of a pipeline run."""

    name: str
    status: StepStatus
    cached: bool
    seconds: float
    outputs: tuple[str, ...] = ()
    reason: str = ""


class PipelineResult(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a pipeline run.

    Attributes:
        run: 32-hex uid.
        value: what the pipeline function returned, as JSON; None for values that are not JSON.
        data: the dataset versions that were read.
    """

    run: str
    pipeline: str
    status: str
    seconds: float
    steps: list[StepOutcome]
    value: Any = None
    data: list[DatasetUse] = []
