"""Values of the model registry: what a version is, and what its lineage looks like.

Light on purpose: no database, numpy or web framework, so that the SDK and the data plane may import it.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from everline.runs.types import Metric


class VersionStatus(StrEnum):
    """Where a version stands in the registry; a release has its own states."""

    READY = "ready"
    PENDING = "pending"
    FAILED = "failed"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A registered model: the series that versions belong to.

    Attributes:
        uid: canonical UUIDv7 text.
        name: what people call it; unique inside its project.
        latest_version: highest version number that was ever given out, 0 while there is none.
        aliases: alias name to version number.
        following: alias name to the endpoint whose champion it names; people do not move such an alias.
    """

    uid: str
    name: str
    project: str
    description: str = ""
    created_at: datetime
    updated_at: datetime
    latest_version: int = 0
    tags: dict[str, str] = {}
    aliases: dict[str, int] = {}
    following: dict[str, str] = {}


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable package under a model's name.

    Attributes:
        uid: canonical UUIDv7 text; evidence names the version as `model-version:<uid>`.
        version: 1, 2, 3, … inside the model; never given out twice.
        package: digest of the package manifest, `sha256:…`; None for a version that an MLflow client
            created from a folder that is not an Everline package (such a version cannot be released).
        signature: digest of the blob with the package's DSSE signature, or None without a package.
        run: 32-hex uid of the run that made it, or None.
        author: uid of the person who registered it; may never approve its release.
        source: MLflow's `source` URI when an MLflow client created it, else None.
        model_signature: types of the inputs and outputs, as in the package manifest; None without a package.
        logged_model: uid of the logged model that an MLflow client registered it from, or None.
        contents: digest of the list of its files as they were when it was registered; None for a version with a
            package, and for one whose files are kept elsewhere.
    """

    uid: str
    model: str
    version: int
    project: str
    package: str | None
    signature: str | None
    run: str | None
    author: str
    author_name: str
    created_at: datetime
    updated_at: datetime
    status: VersionStatus = VersionStatus.READY
    description: str = ""
    tags: dict[str, str] = {}
    aliases: list[str] = []
    source: str | None = None
    model_signature: dict[str, Any] | None = None
    logged_model: str | None = None
    contents: str | None = None

    @property
    def subject(self) -> str:
        """The name under which evidence about this version is attached."""
        return f"model-version:{self.uid}"


class TrackedVersion(ModelVersion, frozen=True, kw_only=True):
    """A version as the services hand it out inside the process, with what only MLflow's face shows.

    Attributes:
        stage: MLflow's old stage; means nothing to a release.
        run_link: address of a run on another server.
        storage: where the files are, if `source` says it only by way of another version.
    """

    stage: str = "None"
    run_link: str = ""
    storage: str | None = None


class AliasMove(msgspec.Struct, frozen=True, kw_only=True):
    """One time that an alias came to point elsewhere.

    Attributes:
        version: what it pointed at from then on; None means at nothing.
        at, until: when that began and ended, by the control plane's clock; `until` is None while it lasts.
        actor_name: who moved it.
        release: the release that moved it, or None if a person did.
    """

    model: str
    alias: str
    version: int | None
    at: datetime
    until: datetime | None
    actor: str
    actor_name: str
    release: str | None


class LineageNode(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in a lineage graph.

    Attributes:
        id: `<kind>:<identifier>`, unique in the graph.
        kind: dataset-version, run, step, package, model-version, release, endpoint.
        label: what people read.
    """

    id: str
    kind: str
    label: str
    facts: dict[str, Any] = {}


class LineageEdge(msgspec.Struct, frozen=True, kw_only=True):
    """`source` was needed to make `target`."""

    source: str
    target: str
    label: str = ""


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """A directed graph from data to model version; parts above add releases and endpoints."""

    nodes: list[LineageNode]
    edges: list[LineageEdge]


class DatasetUse(msgspec.Struct, frozen=True, kw_only=True):
    """A run that read a dataset version.

    Attributes:
        context: for what, such as `training`, if the run said so.
        models: the model versions that it made, as `name/version`.
    """

    run: str
    name: str
    status: str
    started_at: datetime
    context: str = ""
    models: tuple[str, ...] = ()


class DatasetLineage(msgspec.Struct, frozen=True, kw_only=True):
    """What a dataset version comes from, and what stands on it.

    Attributes:
        made_by: the run that made it, or None; `step` is in which of its steps.
        used_by: the runs that read it, the newest first, at most 100.
        more: whether further runs read it.
    """

    dataset: str
    version: int
    made_by: str | None = None
    step: str | None = None
    used_by: tuple[DatasetUse, ...] = ()
    more: bool = False


class PackageCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What was found when a version's package was verified again.

    Attributes:
        verified: every digest holds, and the signature if there is a package.
        key: identifier of the key that signed; None if the signature does not hold, or without a package.
        files: number of files whose bytes were hashed again.
        bytes: their size.
        problem: the first thing that does not hold, in one sentence; empty if all holds.
    """

    verified: bool
    key: str | None
    files: int
    bytes: int
    problem: str = ""


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """A model card in the Hugging Face layout, filled from recorded facts only.

    Attributes:
        text: YAML front matter and Markdown.
        missing: names of the fields that no fact fills; empty when the card is complete.
    """

    text: str
    complete: bool
    missing: list[str]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of two models on the same rows.

    Attributes:
        difference: challenger minus champion, in the metric's unit (log loss in nats, others 0 to 1).
        low: lower end of the interval of the difference.
        high: upper end.
        level: confidence of the interval, such as 0.95.
        blocks: number of resampled blocks, or None when rows were taken as independent.
        verdict: `better`, `worse` or `no difference shown`.
    """

    metric: str
    n: int
    champion_value: float
    challenger_value: float
    difference: float
    low: float
    high: float
    level: float
    method: str
    blocks: int | None
    verdict: str


class SliceComparison(Comparison, frozen=True, kw_only=True):
    """A comparison of two models on the rows that share one value of one column.

    Attributes:
        level: of this interval alone: so high that all slices' intervals together hold with the level asked for.
    """

    by: str
    value: str


class LoggedModelStatus(StrEnum):
    """How far the upload of a logged model is: MLflow's states."""

    UNSPECIFIED = "unspecified"
    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


class ModelMetric(Metric, frozen=True, kw_only=True):
    """A measured value that says which logged model it is of, and on which dataset it was measured.

    Attributes:
        model_id: uid of a logged model, such as `m-6f…`; None or empty for a metric of the run alone.
        dataset_name, dataset_digest: given both or neither.
    """

    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LoggedMetric(ModelMetric, frozen=True, kw_only=True):
    """A point of a logged model; `run` is the uid of the run that measured it."""

    run: str


class LoggedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a run wrote while it ran: files, parameters and metrics, under an id of its own.

    It belongs to an experiment and is what MLflow's `log_model` makes; registering it gives it a version.

    Attributes:
        uid: `m-` and 32 hex digits.
        name: what people call it; need not be unique.
        experiment: number of its experiment, as text.
        source_run: uid of the run that made it; empty if none did.
        model_type: a free word of its maker; may be empty.
        artifact_uri: where its files are.
        metrics: every point that was measured of it, by name, step and time.
    """

    uid: str
    name: str
    project: str
    experiment: str
    status: LoggedModelStatus
    model_type: str
    source_run: str
    artifact_uri: str
    created_at: datetime
    updated_at: datetime
    deleted: bool = False
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: list[LoggedMetric] = []


class DatasetChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset by its name, by its digest, or by both; an empty name is any."""

    name: str
    digest: str | None = None


class LoggedModelOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A sort key of a search for logged models.

    Attributes:
        field: an attribute such as `creation_time`, or `metrics.<name>`.
        dataset: only points that were measured on this one count.
    """

    field: str
    ascending: bool = True
    dataset: DatasetChoice | None = None


class OpenSignature(msgspec.Struct, frozen=True, kw_only=True):
    """A signature for strangers' tools.

    Attributes:
        bundle: the Sigstore bundle, to be written as `model.sig`.
        public_key: in PEM; trust the one that you got another way.
    """

    bundle: dict[str, Any]
    public_key: str
