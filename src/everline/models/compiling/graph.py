"""The arithmetic of a model as an ONNX graph: chains of operations on columns, then trees or a linear sum.

Everything is calculated in the precision of the framework: 64 bits for scikit-learn and LightGBM, 32 for XGBoost.
Operators of scikit-learn converters that know 32 bits only (`Scaler`, `TreeEnsembleClassifier`) are not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from everline.models.compiling.features import Feature, NotCompiledError
from everline.models.compiling.plan import Column, Plan
from everline.models.compiling.trees import LEAF, Trees

Floats = npt.NDArray[np.float64]

PLAN_KEY = "everline.plan"
NODES_MAX = 1_000_000
_ML = "ai.onnx.ml"
_OPSETS = {"": 18, _ML: 5}
_IR_VERSION = 10
_NEUTRAL = {"fill": np.nan, "sub": 0.0, "div": 1.0, "mul": 1.0, "add": 0.0, "equal": np.nan}
_LEQ, _LT, _MEMBER = 0, 1, 6


class Graph:
    """An ONNX graph in the making; `last` is the matrix that the next operation takes."""

    def __init__(self, *, single: bool) -> None:
        self.single = single
        self.last = "X"
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    @property
    def _kind(self) -> int:
        return int(onnx.TensorProto.FLOAT if self.single else onnx.TensorProto.DOUBLE)

    @property
    def _dtype(self) -> Any:
        return np.float32 if self.single else np.float64

    def columns(self, features: Sequence[Feature]) -> list[Column]:
        """Bring features into the graph; returns what the matrix must hold for that."""
        wanted = [feature.column() for feature in features]
        distinct: list[Column] = []
        for column in wanted:
            if column not in distinct:
                distinct.append(column)
        places = [distinct.index(column) for column in wanted]
        if places != list(range(len(distinct))):
            self._add("Gather", self.last, self._constant(np.array(places, np.int64)), axis=1)
        chains = [list(feature.ops) for feature in features]
        while any(chains):
            op = next(chain[0][0] for chain in chains if chain)
            values = [chain.pop(0)[1] if chain and chain[0][0] == op else _NEUTRAL[op] for chain in chains]
            self._elementwise(op, np.array(values))
        return distinct

    def rounded(self) -> None:
        """Take the numbers as 32 bits hold them, as scikit-learn's trees do."""
        self._add("Cast", self.last, to=onnx.TensorProto.FLOAT)
        self._add("Cast", self.last, to=self._kind)

    def divided(self, by: float) -> None:
        """Divide what came out."""
        self._add("Div", self.last, self._constant(np.array(by, self._dtype)))

    def linear(self, weights: Floats, intercept: Floats) -> None:
        """Sum weighted columns; the product of ONNX Runtime gives a row the same bits whatever rows are beside it.

        Args:
            weights: shape (outputs, columns).
        """
        self._add("MatMul", self.last, self._constant(weights.T.astype(self._dtype)))
        self._add("Add", self.last, self._constant(intercept.astype(self._dtype).reshape(-1)))

    def trees(self, trees: Trees) -> None:
        """Sum the leaves that a row reaches, behind the base value and in the order of the trees."""
        if len(trees.left) > NODES_MAX:
            raise NotCompiledError(f"its trees have {len(trees.left)} nodes, more than {NODES_MAX}")
        self._nodes.append(_tree_node(trees, self.last, self._next(), dtype=self._dtype))
        self.last = self._nodes[-1].output[0]

    def written(self, plan: Plan) -> bytes:
        """The model as bytes, equal for equal models; it carries the plan."""
        self._nodes[-1].output[0] = "scores"
        graph = helper.make_graph(
            self._nodes,
            "everline",
            [helper.make_tensor_value_info("X", self._kind, [None, len(plan.columns)])],
            [helper.make_tensor_value_info("scores", self._kind, [None, None])],
            self._constants,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="everline")
        helper.set_model_props(model, {PLAN_KEY: msgspec.json.encode(plan, order="sorted").decode()})
        written: bytes = model.SerializeToString(deterministic=True)
        return written

    def _elementwise(self, op: str, values: Floats) -> None:
        constant = self._constant(values.astype(self._dtype))
        if op == "fill":
            before = self.last
            self._add("IsNaN", before)
            self._add("Where", self.last, constant, before)
        elif op == "equal":
            before = self.last
            self._add("Equal", before, constant)
            self._add("Cast", self.last, to=self._kind)
            if np.isnan(values).any():
                self._add("Where", self._constant(np.isnan(values)), before, self.last)
        else:
            self._add({"sub": "Sub", "div": "Div", "mul": "Mul", "add": "Add"}[op], self.last, constant)

    def _add(self, op: str, *inputs: str, **attributes: Any) -> None:
        output = self._next()
        self._nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        self.last = output

    def _next(self) -> str:
        return f"v{len(self._nodes)}"

    def _constant(self, values: Any) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name


class _TreeLists:
    """The attributes of `TreeEnsemble` (ai.onnx.ml 5): nodes and leaves are numbered apart; a leaf has one output."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees
        self._leaf = trees.left == LEAF
        self._mode = _LT if trees.strict else _LEQ
        self.splits: list[float] = []
        self.modes: list[int] = []
        self.weights: list[float] = []
        self.members: list[float] = []
        names = ("featureids", "truenodeids", "falsenodeids", "trueleafs", "falseleafs", "missing_value_tracks_true")
        self.ints: dict[str, list[int]] = {f"nodes_{name}": [] for name in names}
        self.ints |= {"leaf_targetids": [], "tree_roots": []}

    def lone(self, weight: float, *, target: int) -> None:
        """A tree that is one leaf: both ways lead to it."""
        leaf = len(self.weights)
        self.ints["tree_roots"].append(len(self.splits))
        both: dict[str, list[Any]] = {
            "truenodeids": [leaf],
            "falsenodeids": [leaf],
            "trueleafs": [1],
            "falseleafs": [1],
        }
        self._inner([0.0], [_LEQ], featureids=[0], missing_value_tracks_true=[0], **both)
        self.weights.append(weight)
        self.ints["leaf_targetids"].append(target)

    def tree(self, root: int, end: int, *, target: int) -> None:
        """The tree that lies from `root` up to, without, `end`, with what it adds to one output."""
        trees = self._trees
        if self._leaf[root]:
            return self.lone(float(trees.value[root, target]), target=target)
        own = np.arange(root, end)
        inner, leaves = own[~self._leaf[own]], own[self._leaf[own]]
        place = np.zeros(end - root, np.int64)
        place[inner - root] = len(self.splits) + np.arange(len(inner))
        place[leaves - root] = len(self.weights) + np.arange(len(leaves))
        left, right = trees.left[inner], trees.right[inner]
        self.ints["tree_roots"].append(int(place[0]))
        for node in inner.tolist():
            if node in trees.members:
                self.members += [*map(float, trees.members[node]), float("nan")]
        self._inner(
            trees.threshold[inner].tolist(),
            [_MEMBER if node in trees.members else self._mode for node in inner.tolist()],
            featureids=trees.feature[inner].tolist(),
            truenodeids=place[left - root].tolist(),
            falsenodeids=place[right - root].tolist(),
            trueleafs=self._leaf[left].tolist(),
            falseleafs=self._leaf[right].tolist(),
            missing_value_tracks_true=trees.missing_left[inner].tolist(),
        )
        self.weights += trees.value[leaves, target].tolist()
        self.ints["leaf_targetids"] += [target] * len(leaves)
        return None

    def _inner(self, splits: list[float], modes: list[int], **ints: list[Any]) -> None:
        self.splits += splits
        self.modes += modes
        for name, values in ints.items():
            self.ints[f"nodes_{name}"] += [int(value) for value in values]


def _tree_node(trees: Trees, given: str, output: str, *, dtype: Any) -> Any:
    lists = _TreeLists(trees)
    for target, base in enumerate(trees.base.tolist()):
        lists.lone(base, target=target)
    ends = np.append(trees.roots[1:], len(trees.left)).tolist()
    for target in range(trees.outputs):
        for root, end in zip(trees.roots.tolist(), ends, strict=True):
            if trees.value[root:end, target].any():
                lists.tree(root, end, target=target)
    attributes: dict[str, Any] = {
        "nodes_splits": numpy_helper.from_array(np.array(lists.splits, dtype)),
        "nodes_modes": numpy_helper.from_array(np.array(lists.modes, np.uint8)),
        "leaf_weights": numpy_helper.from_array(np.array(lists.weights, dtype)),
    }
    if lists.members:
        attributes["membership_values"] = numpy_helper.from_array(np.array(lists.members, dtype))
    node = helper.make_node(
        "TreeEnsemble", [given], [output], domain=_ML,
        aggregate_function=1, post_transform=0, n_targets=trees.outputs, **attributes,
    )  # fmt: skip
    for name, values in lists.ints.items():
        node.attribute.add(name=name, type=onnx.AttributeProto.INTS).ints.extend(values)
    return node
