"""Indices inside of fitted scikit-learn models, checked before compiled code follows them.

A type that is trusted may still come with values that nobody fitted. Trees are the ones whose compiled code follows
what it is told without looking: an index behind the end reads foreign memory, or ends the process. (skops has not
trusted `sklearn.tree._tree.Tree` by itself since 0.15 for this reason; with the check here it can be.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import BaseEnsemble
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.neighbors import KDTree
from sklearn.tree._tree import Tree

from everline.errors import IntegrityError

_LEAF = -1


def check_indices(model: Any) -> None:
    """Look at every tree that a model holds.

    Raises:
        IntegrityError: an index leads out of its tree or its row, or back up.
    """
    seen: set[int] = set()
    # What is left to look at, with the model that hands rows to it.
    waiting: list[tuple[Any, Any]] = [(model, None)]
    while waiting:
        one, owner = waiting.pop()
        if id(one) in seen or isinstance(one, (str, bytes, int, float)):
            continue
        seen.add(id(one))
        if isinstance(one, Tree):
            _check_tree(one, features=_features(owner))
        elif isinstance(one, TreePredictor):
            _check_predictor(one, owner)
        elif isinstance(one, KDTree):
            _check_kd_tree(one)
        elif isinstance(one, BaseEstimator):
            within = _narrower(one, owner) if isinstance(owner, BaseEnsemble) else one
            waiting += [(part, within) for part in vars(one).values()]
        else:
            waiting += [(part, owner) for part in _parts(one)]


def _parts(one: Any) -> Iterable[Any]:
    if isinstance(one, dict):
        return one.values()
    if isinstance(one, (list, tuple, set, frozenset)):
        return one
    if isinstance(one, np.ndarray):
        return one.ravel() if one.dtype == object else ()
    return getattr(one, "__dict__", {}).values()


def _narrower(one: Any, ensemble: Any) -> Any:
    """Ensembles look at the width of a row once, for all of their members."""
    if not hasattr(one, "n_features_in_") or _features(ensemble) < _features(one):
        return ensemble
    return one


def _features(owner: Any) -> int:
    count = getattr(owner, "n_features_in_", None)
    if not isinstance(count, (int, np.integer)):
        raise IntegrityError("The model holds a tree that belongs to no fitted estimator.")
    return int(count)


def _check_tree(tree: Any, *, features: int) -> None:
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    inner = left != _LEAF
    _check_children(left[inner], right[inner], parents=np.flatnonzero(inner), nodes=len(left))
    _check_within(feature[inner], features, what="a feature of a tree")


def _check_predictor(predictor: Any, owner: Any) -> None:
    """A tree of histogram gradient boosting: what `predict_one_from_raw_data` of scikit-learn follows."""
    features, bins = _features(owner), getattr(owner, "_bin_mapper", None)
    inner = np.flatnonzero(predictor.nodes["is_leaf"] == 0)
    nodes = predictor.nodes[inner]
    if len(predictor.nodes) == 0:
        raise IntegrityError("The model holds a tree without nodes.")
    _check_children(
        nodes["left"].astype(np.int64), nodes["right"].astype(np.int64), parents=inner, nodes=len(predictor.nodes)
    )
    _check_within(nodes["feature_idx"], features, what="a feature of a tree")
    split = nodes[nodes["is_categorical"] != 0]
    if len(split) == 0:
        return
    for bitsets in (predictor.raw_left_cat_bitsets, predictor.binned_left_cat_bitsets):
        if bitsets.ndim != 2 or bitsets.shape[1] != 8:
            raise IntegrityError("The model holds a set of categories that is not 256 bits wide.")
        _check_within(split["bitset_idx"].astype(np.int64), len(bitsets), what="a set of categories of a tree")
    categorical = np.asarray(getattr(bins, "is_categorical_", ()))
    if len(categorical) != features or len(getattr(bins, "n_bins_non_missing_", ())) != features:
        raise IntegrityError("The model's bins are not those of its features.")
    if not categorical[split["feature_idx"]].all():
        raise IntegrityError("The model holds a tree that takes a number for a category.")


def _check_kd_tree(tree: Any) -> None:
    data, order, nodes, bounds = tree.get_arrays()
    if len(order) != len(data) or bounds.shape != (2, len(nodes), data.shape[1]) or len(nodes) == 0:
        raise IntegrityError("The model holds a k-d tree whose parts do not fit together.")
    _check_within(order, len(data), what="a row of a k-d tree")
    _check_within(nodes["idx_start"], len(data) + 1, what="a node of a k-d tree")
    _check_within(nodes["idx_end"], len(data) + 1, what="a node of a k-d tree")
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    _check_within(2 * inner + 2, len(nodes), what="a child in a k-d tree")


def _check_children(left: Any, right: Any, *, parents: Any, nodes: int) -> None:
    """Children come behind their parents, so that every way down ends."""
    for children in (left, right):
        _check_within(children, nodes, what="a child in a tree")
        if np.any(children <= parents):
            raise IntegrityError("The model holds a tree in which a way leads back up: it would be followed for ever.")


def _check_within(indices: Any, limit: int, *, what: str) -> None:
    if np.any(indices < 0) or np.any(indices >= limit):
        raise IntegrityError(
            f"The model holds an index of {what} that leads outside of it: following it would read foreign memory.",
            hint="Nobody fitted this model as it is; build it again from its run.",
        )
