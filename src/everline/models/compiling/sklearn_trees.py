"""scikit-learn's tree models as `Trees`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

from everline.models.compiling.features import NotCompiledError
from everline.models.compiling.trees import LEAF, Floats, Tree, Trees, joined

HISTOGRAM = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
BOOSTED = (GradientBoostingClassifier, GradientBoostingRegressor)
FORESTS = (ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor)
SINGLE = (DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor)


def histogram_trees(model: Any) -> Trees:
    """The trees of histogram gradient boosting; their sum is the raw prediction."""
    outputs = int(model.n_trees_per_iteration_)
    trees = [
        _histogram_tree(predictor, output=output, outputs=outputs)
        for iteration in model._predictors
        for output, predictor in enumerate(iteration)
    ]
    return joined(trees, base=model._baseline_prediction)


def boosted_trees(model: Any) -> Trees:
    """The trees of gradient boosting; their sum is the raw prediction.

    Raises:
        NotCompiledError: boosting began from a model of its own.
    """
    start = model.init_
    if not isinstance(start, (str, DummyClassifier, DummyRegressor)):
        raise NotCompiledError(f"it starts from a {type(start).__name__}")
    base = model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32))[0]
    outputs = model.estimators_.shape[1]
    trees = []
    for stage in model.estimators_:
        for output, estimator in enumerate(stage):
            leaf = model.learning_rate * estimator.tree_.value[:, 0, :1]
            trees.append(_tree(estimator.tree_, _placed(leaf, output=output, outputs=outputs)))
    return joined(trees, base=base)


def forest_trees(model: Any) -> Trees:
    """The trees of a forest, or of a single tree; their sum is the prediction times the number of trees.

    Of two classes only the second is there, of three and more each.
    """
    members = [model] if isinstance(model, SINGLE) else list(model.estimators_)
    if is_classifier(model):
        classes = len(model.classes_)
        values = [one.tree_.value[:, 0, :classes] for one in members]
        values = [value[:, 1:] if classes == 2 else value for value in values]
    else:
        values = [one.tree_.value[:, 0, :] for one in members]
    trees = [_tree(one.tree_, value) for one, value in zip(members, values, strict=True)]
    return joined(trees, base=np.zeros(trees[0].value.shape[1]))


def _tree(tree: Any, value: Floats) -> Tree:
    left = np.asarray(tree.children_left, dtype=np.int64)
    leaf = left == LEAF
    return Tree(
        feature=np.where(leaf, 0, tree.feature),
        threshold=np.where(leaf, 0.0, tree.threshold),
        left=left,
        right=np.asarray(tree.children_right, dtype=np.int64),
        missing_left=np.asarray(tree.missing_go_to_left, dtype=bool) & ~leaf,
        value=np.where(leaf.reshape(-1, 1), value, 0.0),
        cover=np.asarray(tree.weighted_n_node_samples, dtype=np.float64),
    )


def _histogram_tree(predictor: Any, *, output: int, outputs: int) -> Tree:
    nodes = predictor.nodes
    leaf = nodes["is_leaf"] != 0
    members = {
        int(node): _codes(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]])
        for node in np.flatnonzero((nodes["is_categorical"] != 0) & ~leaf)
    }
    return Tree(
        feature=np.where(leaf, 0, nodes["feature_idx"]),
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]),
        left=np.where(leaf, LEAF, nodes["left"].astype(np.int64)),
        right=np.where(leaf, LEAF, nodes["right"].astype(np.int64)),
        missing_left=(nodes["missing_go_to_left"] != 0) & ~leaf,
        value=_placed(np.where(leaf, nodes["value"], 0.0).reshape(-1, 1), output=output, outputs=outputs),
        cover=nodes["count"].astype(np.float64),
        members=members,
    )


def _codes(bits: Any) -> tuple[int, ...]:
    return tuple(32 * word + bit for word in range(len(bits)) for bit in range(32) if int(bits[word]) >> bit & 1)


def _placed(value: Floats, *, output: int, outputs: int) -> Floats:
    placed = np.zeros((len(value), outputs))
    placed[:, output] = value[:, 0]
    return placed
