"""Models of trusted types whose indices nobody fitted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from everline.errors import IntegrityError
from everline.models.flavors.sklearn import MODEL_FILE, from_files, read_model, to_files

RNG = np.random.default_rng(7)
ROWS = np.column_stack([RNG.normal(size=(120, 3)), RNG.integers(0, 4, size=120)])
LABELS = (ROWS[:, 0] + (ROWS[:, 3] == 2) > 0).astype(int)


def forest() -> RandomForestClassifier:
    return RandomForestClassifier(n_estimators=3, random_state=0).fit(ROWS, LABELS)


def boosted() -> HistGradientBoostingClassifier:
    made = HistGradientBoostingClassifier(max_iter=3, categorical_features=[3], min_samples_leaf=5, random_state=0)
    return made.fit(ROWS, LABELS)


def near() -> KNeighborsClassifier:
    return KNeighborsClassifier(algorithm="kd_tree", leaf_size=5).fit(ROWS, LABELS)


@pytest.mark.parametrize(
    "model",
    [
        DecisionTreeClassifier(),
        RandomForestClassifier(n_estimators=3),
        ExtraTreesRegressor(n_estimators=3),
        GradientBoostingClassifier(n_estimators=3),
        BaggingClassifier(DecisionTreeClassifier(), n_estimators=3, max_features=0.5),
        AdaBoostClassifier(n_estimators=3),
        HistGradientBoostingClassifier(max_iter=3, categorical_features=[3]),
        CalibratedClassifierCV(RandomForestClassifier(n_estimators=2), cv=2),
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), RandomForestClassifier(n_estimators=3)),
        make_pipeline(StandardScaler(), KNeighborsClassifier(algorithm="kd_tree")),
        VotingClassifier([("t", DecisionTreeClassifier()), ("l", LogisticRegression())]),
        StackingClassifier([("t", DecisionTreeClassifier())], cv=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_fitted_models_are_read(model: Any) -> None:
    model.fit(ROWS, LABELS)
    assert np.array_equal(from_files(to_files(model)).predict(ROWS), model.predict(ROWS))


def in_tree(model: Any, field: str, value: int) -> None:
    """Write into the first inner node of a forest's second tree."""
    tree = model.estimators_[1].tree_
    state = tree.__getstate__()
    state["nodes"][field][0] = value
    tree.__setstate__(state)


def in_predictor(model: Any, field: str, value: int) -> None:
    for trees in model._predictors:
        nodes = trees[0].nodes
        nodes[field][np.flatnonzero((nodes["is_leaf"] == 0) & (nodes["is_categorical"] != 0))] = value


def in_kd_tree(model: Any, change: Callable[[list[Any]], None]) -> None:
    state = list(model._tree.__getstate__())
    state = [np.array(part) if isinstance(part, np.ndarray) else part for part in state]
    change(state)
    model._tree.__setstate__(tuple(state))


def row_outside(state: list[Any]) -> None:
    order = next(part for part in state if isinstance(part, np.ndarray) and part.dtype == np.int64 and part.ndim == 1)
    order[0] = 1_000_000


def no_leaves(state: list[Any]) -> None:
    nodes = next(part for part in state if isinstance(part, np.ndarray) and part.dtype.names)
    nodes["is_leaf"] = 0


def drop_bins(model: Any) -> None:
    model._bin_mapper.is_categorical_ = model._bin_mapper.is_categorical_[:1]


def widen(model: Any) -> None:
    """A member that says that its rows are wider than those which the forest takes."""
    member = model.estimators_[1]
    member.n_features_in_ = 1_000
    in_tree(model, "feature", 900)


@pytest.mark.parametrize(
    ("made", "change", "says"),
    [
        (forest, lambda model: in_tree(model, "left_child", 1_000_000), "a child in a tree"),
        (forest, lambda model: in_tree(model, "right_child", -7), "a child in a tree"),
        (forest, lambda model: in_tree(model, "left_child", 0), "leads back up"),
        (forest, lambda model: in_tree(model, "feature", 4), "a feature of a tree"),
        (forest, lambda model: in_tree(model, "feature", -3), "a feature of a tree"),
        (forest, widen, "a feature of a tree"),
        (boosted, lambda model: in_predictor(model, "left", 4_000_000_000), "a child in a tree"),
        (boosted, lambda model: in_predictor(model, "right", 0), "leads back up"),
        (boosted, lambda model: in_predictor(model, "feature_idx", 99), "a feature of a tree"),
        (boosted, lambda model: in_predictor(model, "feature_idx", 3), "takes a number for a category"),
        (boosted, lambda model: in_predictor(model, "bitset_idx", 77), "a set of categories"),
        (boosted, drop_bins, "bins are not those"),
        (near, lambda model: in_kd_tree(model, row_outside), "a row of a k-d tree"),
        (near, lambda model: in_kd_tree(model, no_leaves), "a child in a k-d tree"),
    ],
)
def test_indices_that_lead_outside_are_refused_before_they_are_followed(
    made: Callable[[], Any], change: Callable[[Any], None], says: str, tmp_path: Path
) -> None:
    model = copy.deepcopy(made())
    change(model)
    skops.io.dump(model, tmp_path / MODEL_FILE)
    with pytest.raises(IntegrityError, match=says):
        read_model(tmp_path / MODEL_FILE, written_by="somebody")
    with pytest.raises(IntegrityError, match=says):
        from_files({MODEL_FILE: (tmp_path / MODEL_FILE).read_bytes()})
