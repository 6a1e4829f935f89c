"""Decision trees of any framework in one form: what the compiler writes and what explanations follow.

All trees of a model lie behind each other in the same arrays; `left` and `right` are places in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

LEAF = -1


@dataclass(frozen=True, kw_only=True)
class Trees:
    """The trees of a model; what a row gets is the base value plus the value of one leaf of each tree, in order.

    Attributes:
        roots: where each tree begins, shape (trees,).
        feature: what an inner node looks at, shape (nodes,); 0 in leaves.
        threshold: a row goes left where its value is at most this (or below it: `strict`), shape (nodes,).
        left, right: children, -1 in leaves, shape (nodes,).
        missing_left: whether a row without the value goes left, shape (nodes,).
        members: of nodes that ask for a category instead: the codes that go left.
        value: what a leaf adds to each output, shape (nodes, outputs).
        cover: how much of the training data came by, shape (nodes,).
        base: shape (outputs,).
        strict: left means `<` instead of `<=`.
        single: whether features, thresholds and sums are of 32 bits.
    """

    roots: Ints
    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    missing_left: Bools
    value: Floats
    cover: Floats
    base: Floats
    members: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    strict: bool = False
    single: bool = False

    @property
    def outputs(self) -> int:
        """How many numbers a row gets."""
        return int(self.value.shape[1])


@dataclass(frozen=True, kw_only=True)
class Tree:
    """One tree; places count from its root. See `Trees`."""

    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    missing_left: Bools
    value: Floats
    cover: Floats
    members: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


def joined(trees: list[Tree], *, base: Floats, strict: bool = False, single: bool = False) -> Trees:
    """Lay trees behind each other."""
    sizes = np.array([len(tree.left) for tree in trees], dtype=np.int64)
    roots = np.cumsum(sizes) - sizes
    members = {
        int(root) + place: codes
        for root, tree in zip(roots, trees, strict=True)
        for place, codes in tree.members.items()
    }

    def moved(name: str) -> Ints:
        return np.concatenate(
            [
                np.where(getattr(tree, name) == LEAF, LEAF, getattr(tree, name) + root)
                for root, tree in zip(roots, trees, strict=True)
            ]
        ).astype(np.int64)

    return Trees(
        roots=roots,
        feature=np.concatenate([tree.feature for tree in trees]).astype(np.int64),
        threshold=np.concatenate([tree.threshold for tree in trees]).astype(np.float64),
        left=moved("left"),
        right=moved("right"),
        missing_left=np.concatenate([tree.missing_left for tree in trees]).astype(bool),
        value=np.concatenate([tree.value for tree in trees]).astype(np.float64),
        cover=np.concatenate([tree.cover for tree in trees]).astype(np.float64),
        base=np.asarray(base, dtype=np.float64).reshape(-1),
        members=members,
        strict=strict,
        single=single,
    )
