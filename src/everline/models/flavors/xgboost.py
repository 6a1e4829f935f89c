"""XGBoost models: written in its own binary JSON (UBJSON), never as a pickle, and asked on one thread.

Only trees of numbers: categories are encoded before the model, linear boosters and DART keep no place here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import xgboost

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

MODEL_FILE = "model.ubj"
_CLASSIFIERS = ("binary:logistic", "multi:softprob")
_REGRESSORS = (
    "reg:squarederror",
    "reg:absoluteerror",
    "reg:pseudohubererror",
    "count:poisson",
    "reg:gamma",
    "reg:tweedie",
)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What `metadata.flavor` of a manifest says about an XGBoost model.

    Attributes:
        classes: labels; None for regressors.
        threshold: the label of a binary classifier is its second class from this probability on.
        iterations: how many rounds of boosting answer; 0 means all.
    """

    objective: str
    classes: list[Any] | None
    threshold: float = 0.5
    iterations: int = 0
    row_independent: bool = True
    xgboost_version: str


class XgboostModel:
    """A booster that answers with the outputs of its signature."""

    def __init__(self, booster: Any, signature: Signature, facts: Facts) -> None:
        self._booster = booster
        self._names = [field.name for field in signature.inputs]
        self._facts = facts
        self._rounds = (0, facts.iterations)
        self._classes = None if facts.classes is None else np.asarray(facts.classes)
        self.rows_alone = not facts.row_independent

    def predict(self, arrays: Mapping[str, Array], *, rows: int) -> dict[str, Array]:
        """Answer all rows."""
        given = matrix(arrays, self._names, rows=rows, dtype=np.float32)
        said = self._booster.inplace_predict(given, iteration_range=self._rounds, validate_features=False)
        return answer_of(np.asarray(said).reshape(rows, -1), self._classes, threshold=self._facts.threshold)


def booster_of(model: Any) -> tuple[Any, list[Any] | None, int]:
    """The booster of a fitted model, its classes, and how many rounds answer (0: all)."""
    if isinstance(model, xgboost.Booster):
        return model.copy(), None, 0
    try:
        booster = model.get_booster().copy()
    except Exception as error:  # not fitted, or no XGBoost model at all
        raise InvalidInputError(
            f"A {type(model).__name__} cannot be packaged as an XGBoost model: {str(error)[:200]}",
            hint="Give a fitted XGBClassifier, XGBRegressor or Booster.",
            field="model",
        ) from error
    best = getattr(model, "best_iteration", None) if getattr(model, "early_stopping_rounds", None) else None
    classes = [value.item() for value in model.classes_] if hasattr(model, "classes_") else None
    return booster, classes, 0 if best is None else int(best) + 1


def described(booster: Any) -> dict[str, Any]:
    """The booster as XGBoost's own JSON describes it."""
    said: dict[str, Any] = msgspec.json.decode(bytes(booster.save_raw("json")))["learner"]
    return said


def write_model(
    model: Any, signature: Signature, *, directory: Path, metadata: Mapping[str, Any], probe: Signature
) -> tuple[Signature, dict[str, Any]]:
    """Write a fitted model and what goes with it; return the whole signature and the flavor's facts.

    Raises:
        InvalidInputError: the model is not fitted, is of a kind that has no place in a package, or does not fit the
            signature.
    """
    booster, classes, iterations = booster_of(model)
    learner = described(booster)
    objective, kind = learner["objective"]["name"], learner["gradient_booster"]["name"]
    if kind != "gbtree" or objective not in _CLASSIFIERS + _REGRESSORS:
        raise InvalidInputError(
            f"An XGBoost model with the booster {kind} and the objective {objective} cannot be packaged.",
            hint=f"Use gbtree with one of: {', '.join(_CLASSIFIERS + _REGRESSORS)}.",
            field="model",
        )
    if getattr(model, "missing", np.nan) == getattr(model, "missing", np.nan):
        raise InvalidInputError(
            f"The model takes {model.missing} for a missing value; a package takes null.",
            hint="Fit it with missing=numpy.nan.",
            field="model",
        )
    check_numbers(signature, framework="XGBoost", width=booster.num_features())
    check_names(signature, booster.feature_names or [])
    if objective in _CLASSIFIERS and classes is None:
        classes = list(range(max(2, int(learner["learner_model_param"]["num_class"]))))
    signature = with_outputs(signature, outputs_of(classes))
    facts = Facts(
        objective=objective,
        classes=classes,
        threshold=float(metadata.get("threshold", 0.5)),
        iterations=iterations,
        xgboost_version=xgboost.__version__,
    )
    independent = row_independent(_loaded(booster, signature, facts), signature, probe)
    facts = msgspec.structs.replace(facts, row_independent=independent)
    (directory / MODEL_FILE).write_bytes(bytes(booster.save_raw("ubj")))
    flavors = {
        "python_function": {"loader_module": "mlflow.xgboost", "data": MODEL_FILE},
        "xgboost": {"data": MODEL_FILE, "model_class": "xgboost.core.Booster", "model_format": "ubj",
                    "xgb_version": facts.xgboost_version, "code": None},
    }  # fmt: skip
    write_around(directory, signature, probe=probe, needs=("xgboost", "xgboost-cpu", "numpy"), flavor=flavors)
    return signature, msgspec.to_builtins(facts)


def load_model(package: Package) -> XgboostModel:
    """Load the booster of a verified package.

    Raises:
        IntegrityError: the file is not a model of XGBoost.
    """
    facts = msgspec.convert(package.manifest.metadata.get("flavor"), Facts)
    try:
        booster = xgboost.Booster(model_file=bytearray((package.directory / MODEL_FILE).read_bytes()))
    except (xgboost.core.XGBoostError, ValueError) as error:
        raise IntegrityError(
            f"The model file {MODEL_FILE} cannot be read by XGBoost {xgboost.__version__} "
            f"(written by {facts.xgboost_version}): {str(error)[:200]}."
        ) from error
    return _loaded(booster, package.manifest.signature, facts)


def check_written(model: Any, package: Package, *, probe: Signature) -> None:
    """Ask the written model and the given one the same made-up rows; they must answer with the same bits."""
    facts = msgspec.convert(package.manifest.metadata["flavor"], Facts)
    check_same(_loaded(booster_of(model)[0], package.manifest.signature, facts), package.load(), probe)


def compilable(
    model: Any, signature: Signature, facts: Mapping[str, Any]
) -> tuple[XgboostModel, Callable[[], Compiled]]:
    """The model as it answers by itself, and how it is compiled."""
    said = msgspec.convert(facts, Facts)
    booster = booster_of(model)[0]
    compiling = load("everline.models.compiling.boosters")
    return _loaded(booster, signature, said), partial(compiling.compile_xgboost, described(booster), signature, said)


def to_files(model: Any) -> dict[str, bytes]:
    """A fitted model as named bytes, equal for equal models: how a pipeline keeps the result of a step."""
    booster, classes, iterations = booster_of(model)
    facts = {"classes": classes, "iterations": iterations}
    return {MODEL_FILE: bytes(booster.save_raw("ubj")), "facts.json": msgspec.json.encode(facts, order="sorted")}


def from_files(files: Mapping[str, bytes]) -> Any:
    """The model that `to_files` wrote, as a classifier or regressor of XGBoost's scikit-learn interface."""
    facts = msgspec.json.decode(files["facts.json"])
    if facts["classes"] is None:
        model: Any = xgboost.XGBRegressor()
    else:
        model = xgboost.XGBClassifier()
    model.load_model(bytearray(files[MODEL_FILE]))
    return model


def _loaded(booster: Any, signature: Signature, facts: Facts) -> XgboostModel:
    booster.set_param({"nthread": 1})
    return XgboostModel(booster, signature, facts)


def read_logged(data: bytes, *, kind: str, kept: str) -> Any:
    """The model in a file that MLflow's client wrote.

    Args:
        kind: the class that was logged, such as `xgboost.sklearn.XGBClassifier`.

    Raises:
        IntegrityError: the file is something else.
    """
    classes = {"XGBClassifier": xgboost.XGBClassifier, "XGBRegressor": xgboost.XGBRegressor}
    model = classes.get(kind.rpartition(".")[2], xgboost.Booster)()
    try:
        model.load_model(bytearray(data))
    except (xgboost.core.XGBoostError, ValueError, TypeError) as error:
        raise IntegrityError(f"The logged file is no model of XGBoost: {str(error)[:200]}.") from error
    return model
