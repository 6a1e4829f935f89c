"""Values of pipelines as they are recorded: steps, results by digest, cache entries.

Light on purpose: no database, numpy or Arrow, so that `import everline` stays fast.
"""

from __future__ import annotations

import math
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from everline.errors import EverlineError


class StepStatus(StrEnum):
    """Where a step of a run stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    CACHED = "cached"
    FAILED = "failed"


ENDED = frozenset({StepStatus.SUCCEEDED, StepStatus.CACHED, StepStatus.FAILED})


class StepFailedError(EverlineError):
    """A step of a pipeline raised; the run ended there.

    Attributes:
        result: the run as far as it came, for whoever reports it.
    """

    code = "step_failed"
    status = 422
    result: PipelineResult | None = None


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What a step asks for; executors that place work obey it, the local one runs one step at a time.

    Attributes:
        cpus: processor cores, more than 0. Numeric libraries get as many threads, rounded up: sums over more
            threads are added in another order, so the number is part of the step key.
        memory_mb: megabytes of memory, or None for no demand.
    """

    cpus: float = 1
    memory_mb: int | None = None

    @property
    def threads(self) -> int:
        """Threads that numeric libraries may use."""
        return max(1, math.ceil(self.cpus))


class FileRef(msgspec.Struct, frozen=True, kw_only=True):
    """One blob of a result; `path` is its name inside the result."""

    path: str
    digest: str
    bytes: int


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


class RecordSteps(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of one report of a driver."""

    pipeline: str
    steps: list[StepUpdate]


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
