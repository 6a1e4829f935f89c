"""Exact Shapley values of trees, path-dependent: what a missing feature would have been is said by the trees' cover.

A leaf is a game of the features on its way: a feature that is present lets the row pass or not (0 or 1), one that is
absent lets the share of the training data pass that went that way. Its Shapley value is

    value · (present_i − absent_i) · ∫₀¹ ∏_{j≠i} (absent_j (1 − t) + present_j t) dt

for the weights k!(m−k−1)!/m! of the subsets are the Beta integrals of t^k (1 − t)^(m−k−1). The integrand is a
polynomial of degree m − 1, which Gauss and Legendre's m/2 points integrate exactly.

Source: Lundberg et al. (2020), From local explanations to global understanding with explainable AI for trees; the
same values as XGBoost's and LightGBM's `pred_contribs`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from everline.models.compiling.trees import LEAF, Floats, Trees

LEAVES_AT_ONCE = 4096
_ABSENT_MIN = 1e-12
"""A way that no training row went still has a share, so that it can be divided by."""


class TreeShap:
    """The games of a model's leaves, worked out once."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees
        ways = _ways(trees)
        leaves = [leaf for leaf, _ in ways]
        players = max((len({int(trees.feature[node]) for node, _ in steps}) for _, steps in ways), default=1) or 1
        self._values = trees.value[leaves]
        self._feature = np.zeros((len(ways), players), np.int64)
        self._absent = np.ones((len(ways), players))
        node: list[int] = []
        left: list[bool] = []
        place: list[int] = []
        for row, (_, steps) in enumerate(ways):
            slots: dict[int, int] = {}
            for parent, went_left in steps:
                feature = int(trees.feature[parent])
                slot = slots.setdefault(feature, len(slots))
                child = trees.left[parent] if went_left else trees.right[parent]
                self._feature[row, slot] = feature
                self._absent[row, slot] *= trees.cover[child] / max(trees.cover[parent], _ABSENT_MIN)
                node.append(parent)
                left.append(went_left)
                place.append(row * players + slot)
        self._node, self._left, self._place = np.array(node, np.int64), np.array(left, bool), np.array(place, np.int64)
        self._absent = np.maximum(self._absent, _ABSENT_MIN)
        points, weights = np.polynomial.legendre.leggauss(players // 2 + 1)
        self._points, self._weights = (points + 1) / 2, weights / 2
        self.base: Floats = trees.base + (self._values * self._absent.prod(axis=1, keepdims=True)).sum(axis=0)

    def contributions(self, rows: Floats, *, features: int) -> Floats:
        """What each feature contributed to each output, shape (rows, features, outputs).

        Args:
            rows: shape (rows, features), as the trees compare them; NaN is missing.
        """
        lefts = _lefts(self._trees, rows)
        found = np.zeros((len(rows), features, self._trees.outputs))
        for row in range(len(rows)):
            present = np.ones(self._absent.size)
            present[self._place[lefts[row, self._node] != self._left]] = 0.0
            self._add(found[row], present.reshape(self._absent.shape))
        return found

    def _add(self, found: Floats, present: Floats) -> None:
        for start in range(0, len(present), LEAVES_AT_ONCE):
            part = slice(start, start + LEAVES_AT_ONCE)
            absent, here = self._absent[part], present[part]
            factors = absent[:, :, None] * (1 - self._points) + here[:, :, None] * self._points
            without = factors.prod(axis=1, keepdims=True) / factors
            shares = (here - absent) * (without @ self._weights)
            for output in range(found.shape[1]):
                value = shares * self._values[part, output : output + 1]
                found[:, output] += np.bincount(self._feature[part].ravel(), value.ravel(), minlength=len(found))


def _ways(trees: Trees) -> list[tuple[int, list[tuple[int, bool]]]]:
    """Each leaf with the nodes above it and whether the way goes left there."""
    found: list[tuple[int, list[tuple[int, bool]]]] = []
    waiting: list[tuple[int, list[tuple[int, bool]]]] = [(int(root), []) for root in trees.roots]
    while waiting:
        node, steps = waiting.pop()
        if trees.left[node] == LEAF:
            found.append((node, steps))
            continue
        waiting.append((int(trees.left[node]), [*steps, (node, True)]))
        waiting.append((int(trees.right[node]), [*steps, (node, False)]))
    return found


def _lefts(trees: Trees, rows: Floats) -> npt.NDArray[np.bool_]:
    """Whether a row goes left at a node, shape (rows, nodes)."""
    kind: Any = np.float32 if trees.single else np.float64
    seen = rows.astype(kind)[:, trees.feature]
    limits = trees.threshold.astype(kind)
    with np.errstate(invalid="ignore"):
        lefts = seen < limits if trees.strict else seen <= limits
    for node, codes in trees.members.items():
        lefts[:, node] = np.isin(seen[:, node], codes)
    found: npt.NDArray[np.bool_] = np.where(np.isnan(seen), trees.missing_left, lefts)
    return found
