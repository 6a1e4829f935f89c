"""Values of reproduction and replay: levels, verdicts, the first difference, certificates. Light."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class Verdict(StrEnum):
    """What a comparison of a record with its repetition says."""

    IDENTICAL = "identical"
    """Every output has the same bits, and everything recorded was as recorded."""
    EQUIVALENT = "equivalent"
    """Every output is equal within the tolerance, or has the same bits in another environment."""
    DIVERGED = "diverged"
    """An output differs, or the work could not be done again."""
    UNVERIFIABLE = "unverifiable"
    """There is no record to compare with."""


class Cause(StrEnum):
    """The class of a difference."""

    CODE = "code"
    DATA = "data"
    PARAMETERS = "parameters"
    SEED = "seed"
    ENVIRONMENT = "environment"
    HARDWARE = "hardware"
    HIDDEN_INPUT = "hidden input"
    NON_DETERMINISM = "non-determinism"
    RECORD = "record"
    """The record itself is missing, incomplete or altered."""
    PACKAGE = "package"
    INPUTS = "inputs"
    OUTPUTS = "outputs"


REPEATS_MIN, REPEATS_MAX = 3, 50
ARGUMENTS_TAG = "everline.arguments"
"""Set on a rebuild whose arguments were given by whoever rebuilt it, not by the record."""
LEVELS = ("L0", "L1", "L2", "L3", "L4", "L5", "L6")
REPLAY_LEVELS = ("P0", "P1", "P2", "P3", "P4")


class FirstDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Where a repetition first left its record.

    Attributes:
        step: name of the step, or None when it is about the run as a whole.
    """

    step: str | None
    cause: Cause = msgspec.field(name="class")
    detail: str


class LevelCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One rung of the ladder: earned or not, and why."""

    level: str
    earned: bool
    reason: str


class StepComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The outputs of one step, as recorded and as rebuilt; of a script, which has no steps, one of its results.

    Attributes:
        name: of the step, or of the result: `metric auc`, `artifact plots/roc.png`, `model m/MLmodel`, `output table`.
        equal: `bits`, `tolerance`, `no`, or `missing` when the rebuild has no such step.
        difference: largest relative difference of numbers where bits differ and both can be compared.
    """

    name: str
    position: int
    recorded: tuple[str, ...]
    rebuilt: tuple[str, ...] = ()
    equal: str = "missing"
    difference: float | None = None


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """Where one more repetition's number is to be expected, and whether the recorded number is there.

    Attributes:
        name: a metric, or a step's number by its path, such as `evaluate.metrics.auc`.
        low, high: None where not every repetition has a finite number.
        n: repetitions that have it.
        level: of this band alone; all bands together have 0.95.
    """

    name: str
    recorded: float | None
    low: float | None
    high: float | None
    n: int
    level: float
    inside: bool


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What the MLflow client wrote about where a run's code lies: tags, and the requirements of a model that it logged.

    Attributes:
        script: the script or notebook as it was started: absolute, or relative to a folder that nobody recorded.
        notebook: whether it is one.
        repository: address of the Git repository, without user and password.
        dirty: whether there were uncommitted changes; None where nobody wrote it down, as with the plain client.
        diff: these changes, if they were written down.
        requirements: `name==version`, from the model's own requirements; empty without a model.
        python: Python's version, from the model.
        model: the name of that model.
    """

    script: str
    commit: str
    notebook: bool = False
    branch: str | None = None
    repository: str | None = None
    dirty: bool | None = None
    diff: str | None = None
    requirements: tuple[str, ...] = ()
    python: str | None = None
    model: str | None = None


class Preparation(msgspec.Struct, frozen=True, kw_only=True):
    """What the server knows about a run before it is rebuilt.

    Attributes:
        record: what the run recorded, or None.
        record_digest: digest of its canonical JSON.
        problem: what is missing or altered; a run with a problem is not rebuilt.
        source: where the code lies, for a run of the MLflow client, which has no record.
        has_steps: whether it is a pipeline's run, which is done again step by step.
    """

    run: str
    record: dict[str, Any] | None
    record_digest: str | None
    problem: FirstDifference | None = None
    source: Source | None = None
    has_steps: bool = False


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    """How far the rebuild of a run came.

    Attributes:
        level: the highest rung up to which every rung was earned; None when not even the record is whole.
        environment: differences of software, one sentence each; empty if equal.
        hardware: differences of the machine, one sentence each.
        rebuilds: the runs that repeated the work.
        repeats: further runs, with other seeds, that the bands come from; `bands` is empty without them.
        undeclared: files and hosts that the rebuild read outside of code, data and environment, one sentence each.
        not_recorded: what the run's record leaves out, one phrase each; empty for Everline's own records.
        certificate: uid of the signed statement, or None if none was asked for.
    """

    run: str
    level: str | None
    verdict: Verdict
    first_difference: FirstDifference | None
    reason: str
    checks: tuple[LevelCheck, ...] = ()
    steps: tuple[StepComparison, ...] = ()
    environment: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()
    record_digest: str | None = None
    rebuilds: tuple[str, ...] = ()
    repeats: tuple[str, ...] = ()
    bands: tuple[Band, ...] = ()
    undeclared: tuple[str, ...] = ()
    not_recorded: tuple[str, ...] = ()
    certificate: str | None = None
    subjects: tuple[str, ...] = ()


class Variation(msgspec.Struct, frozen=True, kw_only=True):
    """A repetition in which one thing was changed that should not matter.

    Attributes:
        changed: `nothing`, `hash seed`, `threads` or `file order`.
        what: from what to what.
        equal: whether every output has the recorded bits.
        step: the first step with other bits, or None.
        detail: what went wrong, if it did not finish.
        run: the repetition's run, or None if it was not recorded.
    """

    changed: str
    what: str
    equal: bool
    step: str | None = None
    detail: str | None = None
    run: str | None = None


class Determinism(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a run's results depend on what should not matter, and through which step."""

    run: str
    deterministic: bool
    reason: str
    variations: tuple[Variation, ...] = ()


class CertifyReproduction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that asks for a comparison and, unless told otherwise, a certificate.

    Attributes:
        rebuilds: runs that rebuilt `run`, in order; none when it could not be started.
        failure: what went wrong on the way, in one sentence.
        cause: what it was about, if nothing was rebuilt.
        repeats: runs that repeated it with other seeds, at least 3: for bands, where the results differ.
        certify: False compares only, for rebuilds that changed something on purpose.
    """

    run: str
    rebuilds: list[str] = []
    failure: str | None = None
    cause: Cause = Cause.RECORD
    repeats: list[str] = []
    certify: bool = True


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """One logged prediction, asked again of the package that gave it.

    Attributes:
        logged, replayed: outputs by name, as JSON.
        difference: largest relative difference of numbers; 0 when equal.
    """

    prediction: str
    level: str | None
    verdict: Verdict
    first_difference: FirstDifference | None
    reason: str
    package: str | None = None
    release: str | None = None
    revision: str | None = None
    endpoint: str | None = None
    logged: dict[str, Any] = {}
    replayed: dict[str, Any] = {}
    difference: float | None = None
    certificate: str | None = None


class ReplayBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Many predictions of one endpoint, replayed.

    Attributes:
        level: the lowest level that a prediction earned; None without predictions.
        failed: those below P3, at most 100.
    """

    endpoint: str
    n: int
    bit_equal: int
    within_tolerance: int
    diverged: int
    level: str | None
    verdict: Verdict
    first_difference: FirstDifference | None
    reason: str
    packages: tuple[str, ...]
    failed: tuple[Replay, ...] = ()
    certificate: str | None = None


class CertifyReplay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that asks for a certificate of a replay that was done by the client."""

    replay: Replay


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A signed statement: the envelope is a blob, `digest`, which anybody can verify with the public key."""

    uid: str
    kind: str
    subject: str
    level: str | None
    verdict: str
    digest: str
    created_at: datetime
    created_by: str


class CertificateDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate with its DSSE envelope and the statement in it."""

    certificate: Certificate
    envelope: dict[str, Any]
    statement: dict[str, Any]
