"""Values of experiments and runs.

Light on purpose: no database, numpy or web framework, so that the SDK may import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

DEFAULT_EXPERIMENT = "Default"
"""The experiment that every project has, under MLflow's id 0."""

LOGGED_MODEL = "logged-model"
"""The kind of inputs and outputs that are MLflow's logged models; their name is the model's id."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_000


class RunStatus(StrEnum):
    """MLflow's states of a run."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended."""
        return self in (RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED)


class View(StrEnum):
    """Which things a search shows, by their soft deletion."""

    ACTIVE = "active"
    DELETED = "deleted"
    ALL = "all"


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One measured value. `at_ms` counts milliseconds since 1970; `value` may be NaN."""

    key: str
    value: float
    at_ms: int
    step: int = 0


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter or tag."""

    key: str
    value: str


class RunInput(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that a run read.

    Attributes:
        digest: a dataset version's `sha256:…`, or whatever an MLflow client gives its dataset.
        version: number of the dataset version, if it is one of ours.
        context: what it was for, such as `training`.
        source_type, source, schema, profile, tags: MLflow's fields, kept as they came.
    """

    name: str
    digest: str
    version: int | None = None
    context: str = ""
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None
    tags: dict[str, str] = {}


class RunOutput(msgspec.Struct, frozen=True, kw_only=True):
    """A thing that a run made; `kind` is `table`, `model`, `evaluation`, `file` or another word of its maker."""

    name: str
    kind: str
    digest: str
    facts: dict[str, Any] = {}


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What is logged to one run at once; `run` is its uid."""

    run: str
    metrics: Sequence[Metric] = ()
    params: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    inputs: Sequence[RunInput] = ()
    outputs: Sequence[RunOutput] = ()


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A named group of runs. `experiment` is its number, as text, as MLflow writes it."""

    experiment: str
    name: str
    project: str
    artifact_location: str
    deleted: bool
    created_at: datetime
    updated_at: datetime
    tags: dict[str, str] = {}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run with the newest value of each of its metrics.

    Attributes:
        run: its uid, 32 hexadecimal digits.
        experiment: the experiment's name; `experiment_id` is its number as text.
        pipeline: `module:pipeline` if a pipeline made it, else None.
        author: uid of the actor who started it; `user` is what the client says about the user.
        record: digest of the blob with what is needed to do it again (code, environment, seed, data).
        summary: the few facts of the record that lists show.
        metrics: newest value per metric; None where it is not a number.
    """

    run: str
    experiment: str
    experiment_id: str
    project: str
    name: str
    status: RunStatus
    started_at: datetime
    ended_at: datetime | None
    pipeline: str | None
    author: str
    user: str
    artifact_uri: str
    deleted: bool = False
    record: str | None = None
    summary: dict[str, Any] = {}
    params: dict[str, str] = {}
    metrics: dict[str, float | None] = {}
    tags: dict[str, str] = {}
    inputs: list[RunInput] = []
    outputs: list[RunOutput] = []


class TrackedRun(Run, frozen=True, kw_only=True):
    """A run as the services hand it out inside the process, with what MLflow's face needs to the bit.

    Attributes:
        started_ms, ended_ms: the client's own milliseconds, which need not be a time of the calendar.
        latest: newest value of each metric with its step and time; NaN is NaN.
    """

    started_ms: int
    ended_ms: int | None
    latest: list[Metric]

    def public(self) -> Run:
        """The run without the parts for MLflow's face."""
        return Run(**{name: getattr(self, name) for name in Run.__struct_fields__})


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file or folder below a run's artifact root; folders have neither digest nor size."""

    path: str
    is_dir: bool
    digest: str | None = None
    bytes: int | None = None


class ArtifactUpload(msgspec.Struct, frozen=True, kw_only=True):
    """A file that comes in parts, numbered from 1; the secret allows its parts to be sent, and nothing else."""

    upload: str
    secret: str
    parts: int


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a comparison: a key and its value in each run, None where a run lacks it."""

    key: str
    values: list[Any]
    differs: bool


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Runs side by side; every list has one value per run, in the order of `runs`."""

    runs: list[str]
    names: list[str]
    params: list[Difference]
    metrics: list[Difference]
    code: list[Difference]
    environment: list[Difference]
    data: list[Difference]


class FileDifference(msgspec.Struct, frozen=True, kw_only=True):
    """How a recorded source file differs between two runs.

    Attributes:
        change: `added`, `removed` or `changed`.
        lines: a unified difference without its two heads; empty where `note` says why.
    """

    path: str
    change: str
    added: int = 0
    removed: int = 0
    lines: list[str] = []
    note: str = ""


class CodeDifference(msgspec.Struct, frozen=True, kw_only=True):
    """How the recorded code of two runs differs; `left_out` files differ too and are not listed."""

    before: str
    after: str
    digests: list[str]
    commits: list[str | None]
    files: list[FileDifference]
    left_out: int = 0


class RunSelection(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs a table shows.

    Attributes:
        filter: conditions in MLflow's language.
        experiments: names; none means all.
        statuses: none means all.
        pipeline: `module:pipeline`; `without_pipeline` asks for the runs of none.
        roots_only: leave out runs that are nested in another.
    """

    filter: str = ""
    experiments: tuple[str, ...] = ()
    statuses: tuple[RunStatus, ...] = ()
    pipeline: str | None = None
    without_pipeline: bool = False
    roots_only: bool = False


class KnownKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Names that can be shown and searched, each list in order."""

    metrics: list[str]
    params: list[str]
    tags: list[str]


class MetricRange(msgspec.Struct, frozen=True, kw_only=True):
    """The newest values of one metric over the runs of a group that have it."""

    count: int
    mean: float
    low: float
    high: float


class RunGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that share a value; None for those that have none."""

    value: str | None
    count: int
    metrics: dict[str, MetricRange] = {}


class RunGroups(msgspec.Struct, frozen=True, kw_only=True):
    """Groups, the largest first; `runs` were looked at; `whole` says that nothing was left out."""

    by: str
    groups: list[RunGroup]
    runs: int
    whole: bool


class SavedView(msgspec.Struct, frozen=True, kw_only=True):
    """A named look at the table of runs.

    Attributes:
        view: its uid.
        query: the address of the table after the question mark: filter, columns, order, groups.
        shared: everybody in the project sees it; else only its author.
        author: name of the actor who saved it last.
    """

    view: str
    name: str
    query: str
    shared: bool
    author: str
    created_at: datetime
    updated_at: datetime


class SaveView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends to save a view; one of the same name and owner is replaced."""

    name: str
    query: str = ""
    shared: bool = False


class CreateRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends to start a run; `run` is a uid of its own making, so that it may ask twice."""

    run: str | None = None

    experiment: str = DEFAULT_EXPERIMENT
    name: str | None = None
    pipeline: str | None = None
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    started_at: datetime | None = None


class FinishRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run ended."""

    status: RunStatus = RunStatus.FINISHED
    ended_at: datetime | None = None


class MetricHistory(msgspec.Struct, frozen=True, kw_only=True):
    """A metric's values in order of time; lists of equal length; None where a value is not a number."""

    key: str
    steps: list[int]
    at_ms: list[int]
    values: list[float | None]
    next: str | None = None


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A metric's history as a picture needs it; lists of equal length, in order of time or of steps.

    Attributes:
        total: points of the history that have a finite value; all points if it is not thinned.
        thinned: whether each place stands for a bucket of neighbouring points: where it begins, its mean in
            `values`, its least and greatest value in `low` and `high`. The last place is the newest point.
        values: None where a value is not finite.
    """

    run: str
    key: str
    total: int
    thinned: bool = False
    steps: list[int]
    at_ms: list[int]
    values: list[float | None]
    low: list[float] | None = None
    high: list[float] | None = None


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """Curves, and the status of each of their runs, by which a picture knows whether to ask again."""

    curves: list[Curve]
    status: dict[str, RunStatus]


class MetricExtremes(msgspec.Struct, frozen=True, kw_only=True):
    """How many values a metric has, and the least and greatest of them."""

    count: int
    low: float
    high: float


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970, rounded down."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """The UTC time of milliseconds since 1970; what lies outside of the calendar becomes its nearest end."""
    return _EPOCH + timedelta(milliseconds=min(max(ms, 0), _LAST_MS))
