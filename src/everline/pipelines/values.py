"""What steps hand to each other beside plain values: tables, models, evaluations, candidates.

Light on purpose: the names are used in annotations, and `import everline` loads no numpy or Arrow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from everline.pipelines.types import DatasetUse

if TYPE_CHECKING:
    from pyarrow import Table as Table
else:

    class Table:
        """A `pyarrow.Table`. A step may also say pandas or polars `DataFrame`: it is converted on the way."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained model with what it takes and what it predicts.

    Attributes:
        estimator: the framework's object, such as a fitted scikit-learn pipeline.
        features: input columns in the order the estimator was fitted on.
        target: column with the true outcome; never an input.
        flavor: how the object is stored; empty takes its framework's own. Only flavors without pickle exist.
        metadata: JSON facts for the package, such as hyperparameters.
    """

    estimator: Any
    features: tuple[str, ...]
    target: str
    flavor: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.flavor:
            framework = type(self.estimator).__module__.partition(".")[0]
            found = framework if framework in ("xgboost", "lightgbm") else "sklearn"
            object.__setattr__(self, "flavor", found)


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The metrics of the rows that share one value of one column.

    Attributes:
        metrics: those that are defined on these rows; AUC is missing where only one outcome occurs.
    """

    by: str
    value: str
    n: int
    metrics: dict[str, float]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics and slices of one model on one table, in the form of the `evaluation` evidence.

    Attributes:
        dataset: names of the dataset versions that the rows come from.
        digest: content digest of the evaluated table.
        n: rows with a known outcome.
        metrics: by name; see docs/pipelines.md for formulas.
    """

    dataset: str
    digest: str
    n: int
    metrics: dict[str, float]
    slices: list[Slice] = []


class Packaged(msgspec.Struct, frozen=True, kw_only=True):
    """A model package in the blob store, not yet registered.

    Attributes:
        package: digest of the package manifest.
        data: the dataset versions that the model depends on.
    """

    name: str
    package: str
    evaluation: Evaluation
    data: list[DatasetUse] = []


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A registered model version, ready to be released.

    Attributes:
        model: name of the registered model.
        uid: of the model version; evidence names it as `model-version:<uid>`.
        package: digest of the package manifest.
        run: the run that made the package.
    """

    model: str
    version: int
    uid: str
    package: str
    run: str
    metrics: dict[str, float] = {}


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What a person answered to a pipeline that asked.

    Attributes:
        by: name of the user.
        role: that the question asked for.
        reason: what the person gave as a reason.
    """

    approved: bool
    by: str
    role: str
    reason: str = ""


@dataclass(frozen=True)
class Secret:
    """Stands for a secret in a call of a step: only its name is recorded, and the step gets its value.

    Attributes:
        name: of the environment variable that has the value where the step runs.
    """

    name: str


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the run knows, for a step that has a parameter of this type. It is not part of the step key.

    Attributes:
        run: uid of the run.
        origin: uid that packages name as their maker: the run, or the run that is being reproduced.
        client: the SDK client that the driver uses.
        data: dataset versions that the step's inputs come from, however many steps lie between.
        inputs: digest of each argument that is a result or a dataset, by parameter name.
        folder: an empty directory for the step alone; it is gone after the step.
    """

    run: str
    origin: str
    pipeline: str
    client: Any
    code: str
    environment: str
    environment_recorded: bool
    code_recorded: bool
    seed: int | None
    folder: Path
    data: tuple[DatasetUse, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)
