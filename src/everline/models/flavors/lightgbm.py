"""LightGBM models: written as its own text, never as a pickle, and asked on one thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightgbm
import msgspec
import numpy as np

from everline.errors import IntegrityError, InvalidInputError
from everline.loader import load
from everline.models.compiling.plan import answer_of
from everline.models.flavors.tables import (
    check_names,
    check_numbers,
    check_same,
    matrix,
    outputs_of,
    row_independent,
    with_outputs,
    write_around,
)
from everline.models.signature import Array, Signature

if TYPE_CHECKING:
    from everline.models.compiling.writing import Compiled
    from everline.models.package import Package

MODEL_FILE = "model.txt"
_TRUSTED_TYPES = (
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
)
"""Types that a skops file of MLflow's may hold: data containers, and the text of the trees."""
_CLASSIFIERS = ("binary", "multiclass", "multiclassova")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What `metadata.flavor` of a manifest says about a LightGBM model.

    Attributes:
        objective: as LightGBM writes it, such as `binary sigmoid:1`.
        classes: labels; None for regressors.
        threshold: the label of a binary classifier is its second class from this probability on.
        iterations: how many rounds of boosting answer.
    """

    objective: str
    classes: list[Any] | None
    threshold: float = 0.5
    iterations: int
    row_independent: bool = True
    lightgbm_version: str


class LightgbmModel:
    """A booster that answers with the outputs of its signature."""

    def __init__(self, booster: Any, signature: Signature, facts: Facts) -> None:
        self._booster = booster
        self._names = [field.name for field in signature.inputs]
        self._facts = facts
        self._classes = None if facts.classes is None else np.asarray(facts.classes)
        self.rows_alone = not facts.row_independent

    def predict(self, arrays: Mapping[str, Array], *, rows: int) -> dict[str, Array]:
        """Answer all rows."""
        given = matrix(arrays, self._names, rows=rows, dtype=np.float64)
        said = self._booster.predict(
            given, num_iteration=self._facts.iterations, num_threads=1, validate_features=False
        )
        return answer_of(np.asarray(said).reshape(rows, -1), self._classes, threshold=self._facts.threshold)


def booster_of(model: Any) -> tuple[Any, list[Any] | None]:
    """The booster of a fitted model, and its classes."""
    if isinstance(model, lightgbm.Booster):
        return model, None
    try:
        booster = model.booster_
    except Exception as error:  # not fitted, or no LightGBM model at all
        raise InvalidInputError(
            f"A {type(model).__name__} cannot be packaged as a LightGBM model: {str(error)[:200]}",
            hint="Give a fitted LGBMClassifier, LGBMRegressor or Booster.",
            field="model",
        ) from error
    classes = getattr(model, "classes_", None)
    return booster, None if classes is None else [getattr(one, "item", lambda one=one: one)() for one in classes]


def write_model(
    model: Any, signature: Signature, *, directory: Path, metadata: Mapping[str, Any], probe: Signature
) -> tuple[Signature, dict[str, Any]]:
    """Write a fitted model and what goes with it; return the whole signature and the flavor's facts.

    Raises:
        InvalidInputError: the model is not fitted, takes categories or an objective of its own, or does not fit the
            signature.
    """
    booster, classes = booster_of(model)
    said = booster.dump_model(num_iteration=1)
    objective = str(said.get("objective") or "")
    if not objective or said.get("pandas_categorical"):
        raise InvalidInputError(
            "A LightGBM model with an objective of its own, or with categories of pandas, cannot be packaged.",
            hint="Use one of LightGBM's objectives, and encode categories as numbers before the model.",
            field="model",
        )
    check_numbers(signature, framework="LightGBM", width=booster.num_feature())
    names = booster.feature_name()
    check_names(signature, [] if names == [f"Column_{place}" for place in range(len(names))] else names)
    if classes is None and objective.split()[0] in _CLASSIFIERS:
        classes = list(range(max(2, int(said["num_class"]))))
    signature = with_outputs(signature, outputs_of(classes))
    facts = Facts(
        objective=objective,
        classes=classes,
        threshold=float(metadata.get("threshold", 0.5)),
        iterations=booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration(),
        lightgbm_version=lightgbm.__version__,
    )
    independent = row_independent(LightgbmModel(booster, signature, facts), signature, probe)
    facts = msgspec.structs.replace(facts, row_independent=independent)
    (directory / MODEL_FILE).write_text(_text(booster, facts.iterations))
    flavors = {
        "python_function": {"loader_module": "mlflow.lightgbm", "data": MODEL_FILE},
        "lightgbm": {"data": MODEL_FILE, "model_class": "lightgbm.basic.Booster",
                     "lgb_version": facts.lightgbm_version, "code": None},
    }  # fmt: skip
    write_around(directory, signature, probe=probe, needs=("lightgbm",), flavor=flavors)
    return signature, msgspec.to_builtins(facts)


def load_model(package: Package) -> LightgbmModel:
    """Load the booster of a verified package.

    Raises:
        IntegrityError: the file is not a model of LightGBM.
    """
    facts = msgspec.convert(package.manifest.metadata.get("flavor"), Facts)
    try:
        booster = lightgbm.Booster(model_str=(package.directory / MODEL_FILE).read_text())
    except (lightgbm.basic.LightGBMError, ValueError, TypeError) as error:
        raise IntegrityError(
            f"The model file {MODEL_FILE} cannot be read by LightGBM {lightgbm.__version__} "
            f"(written by {facts.lightgbm_version}): {str(error)[:200]}."
        ) from error
    return LightgbmModel(booster, package.manifest.signature, facts)


def check_written(model: Any, package: Package, *, probe: Signature) -> None:
    """Ask the written model and the given one the same made-up rows; they must answer with the same bits."""
    facts = msgspec.convert(package.manifest.metadata["flavor"], Facts)
    check_same(LightgbmModel(booster_of(model)[0], package.manifest.signature, facts), package.load(), probe)


def compilable(
    model: Any, signature: Signature, facts: Mapping[str, Any]
) -> tuple[LightgbmModel, Callable[[], Compiled]]:
    """The model as it answers by itself, and how it is compiled."""
    said = msgspec.convert(facts, Facts)
    booster = booster_of(model)[0]
    compiling = load("everline.models.compiling.boosters")
    tree_dump = booster.dump_model(num_iteration=said.iterations)
    return LightgbmModel(booster, signature, said), partial(compiling.compile_lightgbm, tree_dump, signature, said)


class KeptRegressor:
    """What comes back from the bytes that a step kept: LightGBM's own classes are read back by pickle only."""

    def __init__(self, booster: Any) -> None:
        self.booster_ = booster
        self.n_features_in_ = booster.num_feature()

    def predict(self, rows: Any) -> Any:
        """Predictions, shape (rows,)."""
        return self.booster_.predict(rows, num_threads=1)


class KeptClassifier(KeptRegressor):
    """The same for classifiers."""

    def __init__(self, booster: Any, classes: list[Any]) -> None:
        super().__init__(booster)
        self.classes_ = np.asarray(classes)

    def predict_proba(self, rows: Any) -> Any:
        """Probabilities, shape (rows, classes)."""
        said = np.asarray(self.booster_.predict(rows, num_threads=1))
        return np.column_stack([1 - said, said]) if said.ndim == 1 else said

    def predict(self, rows: Any) -> Any:
        """Labels, shape (rows,)."""
        return self.classes_[self.predict_proba(rows).argmax(axis=1)]


def to_files(model: Any) -> dict[str, bytes]:
    """A fitted model as named bytes, equal for equal models: how a pipeline keeps the result of a step."""
    booster, classes = booster_of(model)
    said = msgspec.json.encode({"classes": classes}, order="sorted")
    return {MODEL_FILE: _text(booster, booster.best_iteration).encode(), "facts.json": said}


def from_files(files: Mapping[str, bytes]) -> KeptRegressor:
    """The model that `to_files` wrote, which predicts as LightGBM's own classes do."""
    booster = lightgbm.Booster(model_str=files[MODEL_FILE].decode())
    classes = msgspec.json.decode(files["facts.json"])["classes"]
    return KeptRegressor(booster) if classes is None else KeptClassifier(booster, classes)


def _text(booster: Any, iterations: int) -> str:
    text: str = booster.model_to_string(num_iteration=iterations if iterations > 0 else None)
    return text


def read_logged(data: bytes, *, kind: str, kept: str) -> Any:
    """The model in a file that MLflow's client wrote: LightGBM's text, or a skops file of its scikit-learn classes.

    Raises:
        IntegrityError: the file is something else, or holds other types.
    """
    try:
        if kept == "skops":
            return load("skops.io").loads(data, trusted=list(_TRUSTED_TYPES))
        return lightgbm.Booster(model_str=data.decode())
    except Exception as error:  # both raise whatever damage makes them raise
        raise IntegrityError(f"The logged file is no model of LightGBM: {str(error)[:200]}.") from error
