"""Fitted scikit-learn models, whole pipelines included, as a compiled model; what is not known here is said so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    Lasso,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeCV,
    SGDRegressor,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)

from everline.models.compiling.features import Feature, NotCompiledError, first_features
from everline.models.compiling.graph import Graph
from everline.models.compiling.plan import Column, Plan
from everline.models.compiling.sklearn_trees import (
    BOOSTED,
    FORESTS,
    HISTOGRAM,
    SINGLE,
    boosted_trees,
    forest_trees,
    histogram_trees,
)
from everline.models.compiling.trees import Floats, Trees
from everline.models.compiling.writing import Compiled, thresholds_of
from everline.models.explaining.parts import About, Chain, Parts, chains_of
from everline.models.signature import Signature

_LOGISTIC = (LogisticRegression, LogisticRegressionCV)
_LINEAR = (LinearRegression, Ridge, RidgeCV, Lasso, LassoCV, ElasticNet, ElasticNetCV, SGDRegressor)


class Steps(msgspec.Struct, frozen=True):
    """A model taken apart: the columns that reach its last step, and that step."""

    features: list[Feature]
    last: Any


def parts(model: Any, signature: Signature) -> Steps:
    """Follow the inputs of a signature through a pipeline to its last step.

    Raises:
        NotCompiledError: a step is not known here.
    """
    names = [field.name for field in signature.inputs]
    features = first_features(signature.inputs)
    while isinstance(model, Pipeline):
        for _, step in model.steps[:-1]:
            features, names = _transformed(step, features, names), []
        model = model.steps[-1][1]
    if type(model) in HISTOGRAM and model._preprocessor is not None:
        features = _transformed(model._preprocessor, features, names)
    return Steps(features, model)


def compile_model(model: Any, signature: Signature, *, threshold: float) -> Compiled:
    """The model as an ONNX file.

    Raises:
        NotCompiledError: it has a part that is not known here; the message says which.
    """
    found = parts(model, signature)
    last, graph = found.last, Graph(single=False)
    columns = graph.columns(found.features)
    trees = trees_of(last)
    link, missing = _arithmetic(last, trees, graph, columns=len(found.features))
    classes = [value.item() if isinstance(value, np.generic) else value for value in getattr(last, "classes_", ())]
    plan = Plan(
        columns=columns,
        task="classifier" if is_classifier(last) else "regressor",
        link=link,
        classes=classes or None,
        threshold=threshold,
        missing=missing,
        filled=_filled(found.features, columns),
    )
    return Compiled(
        content=graph.written(plan),
        thresholds=thresholds_of(found.features, trees),
        parts=_parts(last, trees, chains_of(found.features, columns), link=link),
    )


def _filled(features: list[Feature], columns: list[Column]) -> list[int]:
    """The places of columns whose NaN never reaches the model."""
    open_ = {columns.index(feature.column()) for feature in features if not feature.ops or feature.ops[0][0] != "fill"}
    return [place for place in range(len(columns)) if place not in open_]


def _parts(last: Any, trees: Trees | None, chains: list[Chain], *, link: str) -> Parts:
    """What an exact explanation needs."""
    if trees is None:
        weights, intercept = _weights(last)
        return Parts(about=About(kind="linear", link=link, chains=chains), weights=weights, intercept=intercept)
    about = About(
        kind="trees",
        link=link,
        chains=chains,
        divide=float(len(last.estimators_)) if type(last) in FORESTS else 1.0,
        rounded=type(last) not in HISTOGRAM,
        members=[(node, list(codes)) for node, codes in trees.members.items()],
    )
    return Parts(about=about, trees=trees)


def trees_of(last: Any) -> Trees | None:
    """The trees of a model's last step; None if it has none.

    Raises:
        NotCompiledError: they are not of a kind that is known here.
    """
    if getattr(last, "n_outputs_", 1) != 1:
        raise NotCompiledError("it has several targets")
    if type(last) in HISTOGRAM:
        return histogram_trees(last)
    if type(last) in BOOSTED:
        return boosted_trees(last)
    if type(last) in FORESTS + SINGLE:
        return forest_trees(last)
    return None


def _arithmetic(last: Any, trees: Trees | None, graph: Graph, *, columns: int) -> tuple[str, bool]:
    """Write the last step; returns its link and whether it takes NaN."""
    if trees is not None:
        if type(last) not in HISTOGRAM:
            graph.rounded()
        graph.trees(trees)
        if type(last) in FORESTS:
            graph.divided(float(len(last.estimators_)))
        link = "mean" if type(last) in FORESTS + SINGLE else _loss_link(last._loss, last)
        return link, type(last) in HISTOGRAM or _takes_missing(last)
    if type(last) in _LOGISTIC + _LINEAR:
        weights, intercept = _weights(last)
        if type(last) in _LINEAR and len(weights) != 1:
            raise NotCompiledError("it has several targets")
        if weights.shape[1] != columns:
            raise NotCompiledError("its coefficients do not fit the columns")
        graph.linear(weights, intercept)
        return ("identity" if type(last) in _LINEAR else "logit" if len(weights) == 1 else _several(last)), False
    raise NotCompiledError(f"a {type(last).__name__} is not compiled")


def _weights(last: Any) -> tuple[Floats, Floats]:
    """Coefficients of shape (outputs, columns) and intercepts of shape (outputs,)."""
    weights = np.asarray(last.coef_, dtype=np.float64)
    weights = weights.reshape(1, -1) if weights.ndim == 1 else weights
    return weights, np.broadcast_to(np.asarray(last.intercept_, dtype=np.float64), (len(weights),)).copy()


def _several(last: Any) -> str:
    return "ovr" if getattr(last, "solver", "") == "liblinear" else "softmax"


def _takes_missing(last: Any) -> bool:
    members = [last] if type(last) in SINGLE else np.ravel(getattr(last, "estimators_", []))
    return any(getattr(getattr(one, "tree_", None), "missing_go_to_left", np.zeros(1)).any() for one in members) and (
        type(last) not in BOOSTED
    )


def _loss_link(loss: Any, last: Any) -> str:
    link = type(loss.link).__name__
    known = {
        "IdentityLink": "identity",
        "LogLink": "exp",
        "LogitLink": "logit",
        "HalfLogitLink": "half_logit",
        "MultinomialLogit": "softmax",
    }
    if link not in known:
        raise NotCompiledError(f"the loss {type(loss).__name__} of {type(last).__name__} is not compiled")
    return known[link]


def _transformed(step: Any, features: Sequence[Feature], names: Sequence[str]) -> list[Feature]:
    """The features behind one transformer."""
    if step is None or step == "passthrough":
        return list(features)
    if isinstance(step, Pipeline):
        for _, one in step.steps:
            features, names = _transformed(one, features, names), []
        return list(features)
    if type(step) is ColumnTransformer:
        return _columns(step, features, names)
    known = _TRANSFORMERS.get(type(step))
    if known is None:
        raise NotCompiledError(f"a {type(step).__name__} is not compiled")
    if getattr(step, "n_features_in_", len(features)) != len(features):
        raise NotCompiledError(f"the {type(step).__name__} was fitted on other columns")
    found: list[Feature] = known(step, list(features))
    return found


def _columns(step: ColumnTransformer, features: Sequence[Feature], names: Sequence[str]) -> list[Feature]:
    found: list[Feature] = []
    for _, transformer, chosen in step.transformers_:
        if isinstance(transformer, str) and transformer == "drop":
            continue
        places = _places(chosen, len(features), names)
        if places:
            found += _transformed(transformer, [features[place] for place in places], [])
    return found


def _places(chosen: Any, width: int, names: Sequence[str]) -> list[int]:
    if isinstance(chosen, slice):
        if isinstance(chosen.start, str) or isinstance(chosen.stop, str):
            raise NotCompiledError("columns are chosen by a slice of names")
        return list(range(width))[chosen]
    listed = [chosen] if isinstance(chosen, (str, int)) else list(chosen)
    if listed and all(isinstance(one, (bool, np.bool_)) for one in listed):
        return [place for place, one in enumerate(listed) if one]
    if any(isinstance(one, str) for one in listed) and not names:
        raise NotCompiledError("columns are chosen by the names that an earlier step gave")
    return [list(names).index(one) if isinstance(one, str) else int(one) % width for one in listed]


def _function(step: FunctionTransformer, features: list[Feature]) -> list[Feature]:
    name = getattr(step.func, "__name__", "")
    module = getattr(step.func, "__module__", "") or ""
    # What histogram boosting checks its numbers with.
    if step.func is not None and not (
        (name == "check_array" or getattr(getattr(step.func, "func", None), "__name__", "") == "check_array")
        and (module.startswith("sklearn.") or hasattr(step.func, "func"))
    ):
        raise NotCompiledError("a FunctionTransformer with a function of its own is not compiled")
    return features


def _ordinal(step: OrdinalEncoder, features: list[Feature]) -> list[Feature]:
    if getattr(step, "_infrequent_enabled", False):
        raise NotCompiledError("an OrdinalEncoder that joins rare categories is not compiled")
    unknown = float(step.unknown_value) if step.handle_unknown == "use_encoded_value" else None
    found = []
    for feature, categories in zip(features, step.categories_, strict=True):
        values = list(categories)
        missing = float(step.encoded_missing_value)
        codes = [missing if value is None or value != value else float(code) for code, value in enumerate(values)]
        found.append(feature.encoded(values, codes, unknown=unknown))
    return found


def _one_hot(step: OneHotEncoder, features: list[Feature]) -> list[Feature]:
    if getattr(step, "_infrequent_enabled", False):
        raise NotCompiledError("a OneHotEncoder that joins rare categories is not compiled")
    drop = getattr(step, "_drop_idx_after_grouping", None)
    drops = [None] * len(features) if drop is None else list(drop)
    found = []
    for feature, categories, dropped in zip(features, step.categories_, drops, strict=True):
        values = list(categories)
        unknown = None if step.handle_unknown == "error" else -1.0
        coded = feature.encoded(values, [float(code) for code in range(len(values))], unknown=unknown)
        found += [coded.then("equal", code) for code in range(len(values)) if code != dropped]
    return found


def _imputer(step: SimpleImputer, features: list[Feature]) -> list[Feature]:
    if step.add_indicator or not (step.missing_values is None or step.missing_values != step.missing_values):
        raise NotCompiledError("a SimpleImputer with an indicator or another missing value than NaN is not compiled")
    values = step.statistics_.tolist()
    if any(value is None or value != value for value in values):
        raise NotCompiledError("a SimpleImputer that drops columns is not compiled")
    return [feature.filled(value) for feature, value in zip(features, values, strict=True)]


def _scaled(*steps: tuple[str, str]) -> Any:
    def chain(step: Any, features: list[Feature]) -> list[Feature]:
        if getattr(step, "clip", False):
            raise NotCompiledError(f"a {type(step).__name__} that clips is not compiled")
        for op, attribute in steps:
            values = getattr(step, attribute, None)
            if values is not None:
                features = [feature.then(op, value) for feature, value in zip(features, values.tolist(), strict=True)]
        return features

    return chain


_TRANSFORMERS: dict[type, Any] = {
    FunctionTransformer: _function,
    OrdinalEncoder: _ordinal,
    OneHotEncoder: _one_hot,
    SimpleImputer: _imputer,
    StandardScaler: _scaled(("sub", "mean_"), ("div", "scale_")),
    RobustScaler: _scaled(("sub", "center_"), ("div", "scale_")),
    MinMaxScaler: _scaled(("mul", "scale_"), ("add", "min_")),
    MaxAbsScaler: _scaled(("div", "scale_")),
}
