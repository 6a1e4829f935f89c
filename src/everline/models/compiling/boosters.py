"""XGBoost's and LightGBM's trees as a compiled model, in the precision of each: 32 bits and 64 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from everline.models.compiling.features import Feature, NotCompiledError, first_features
from everline.models.compiling.graph import Graph
from everline.models.compiling.plan import Plan
from everline.models.compiling.trees import LEAF, Floats, Tree, Trees, joined
from everline.models.compiling.writing import Compiled, thresholds_of
from everline.models.explaining.parts import About, Parts, chains_of
from everline.models.signature import Signature

if TYPE_CHECKING:
    from everline.models.flavors.lightgbm import Facts as LightgbmFacts
    from everline.models.flavors.xgboost import Facts as XgboostFacts

XGBOOST_FROM_ROWS = 256
"""From here on XGBoost's own predictor is faster than ONNX Runtime; LightGBM's never is by more than a fifth.

Measured by `benchmarks/serving/crossover.py`.
"""
_XGBOOST_LINKS = {
    "binary:logistic": "logit32",
    "multi:softprob": "softmax",
    "count:poisson": "exp",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
}


def compile_xgboost(learner: Mapping[str, Any], signature: Signature, facts: XgboostFacts) -> Compiled:
    """The model as an ONNX file.

    Args:
        learner: as XGBoost's JSON has it.
    """
    trees = xgboost_trees(learner, iterations=facts.iterations)
    link = _XGBOOST_LINKS.get(facts.objective, "identity")
    return _compiled(trees, first_features(signature.inputs), facts, link=link, native_from_rows=XGBOOST_FROM_ROWS)


def compile_lightgbm(dump: Mapping[str, Any], signature: Signature, facts: LightgbmFacts) -> Compiled:
    """The model as an ONNX file.

    Args:
        dump: what `Booster.dump_model` says.

    Raises:
        NotCompiledError: it averages, has categories, takes zero for missing, or an objective that is not known here.
    """
    name, *options = facts.objective.split()
    if name == "binary" and "sigmoid:1" in options:
        link = "logit"
    elif name == "multiclass":
        link = "softmax"
    elif name in ("regression", "regression_l1", "huber", "fair", "quantile", "mape") and "sqrt" not in options:
        link = "identity"
    elif name in ("poisson", "gamma", "tweedie"):
        link = "exp"
    else:
        raise NotCompiledError(f"the objective {facts.objective!r} of LightGBM is not compiled")
    if dump.get("average_output"):
        raise NotCompiledError("a forest of LightGBM is not compiled")
    trees, zeros = lightgbm_trees(dump)
    features = [
        feature.filled(0.0) if place in zeros else feature
        for place, feature in enumerate(first_features(signature.inputs))
    ]
    return _compiled(trees, features, facts, link=link, native_from_rows=None)


def xgboost_trees(learner: Mapping[str, Any], *, iterations: int) -> Trees:
    """The trees of XGBoost's JSON; their sum is the margin.

    Args:
        iterations: rounds of boosting that answer; 0 means all.

    Raises:
        NotCompiledError: a tree asks for categories or has several values in a leaf.
    """
    model = learner["gradient_booster"]["model"]
    groups = model["tree_info"]
    outputs = max(groups, default=0) + 1
    ends = model["iteration_indptr"]
    count = ends[min(iterations, len(ends) - 1)] if iterations else len(groups)
    trees = []
    for tree, group in zip(model["trees"][:count], groups[:count], strict=True):
        if any(tree["split_type"]) or int(tree["tree_param"]["size_leaf_vector"]) > 1:
            raise NotCompiledError("trees of XGBoost with categories or several values in a leaf are not compiled")
        left = np.array(tree["left_children"], np.int64)
        leaf = left == LEAF
        conditions = np.array(tree["split_conditions"], np.float32).astype(np.float64)
        value = np.zeros((len(left), outputs))
        value[leaf, group] = conditions[leaf]
        trees.append(
            Tree(
                feature=np.where(leaf, 0, np.array(tree["split_indices"], np.int64)),
                threshold=np.where(leaf, 0.0, conditions),
                left=left,
                right=np.array(tree["right_children"], np.int64),
                missing_left=(np.array(tree["default_left"]) != 0) & ~leaf,
                value=value,
                cover=np.array(tree["sum_hessian"], np.float64),
            )
        )
    return joined(trees, base=_base(learner, outputs), strict=True, single=True)


def _base(learner: Mapping[str, Any], outputs: int) -> Floats:
    said = msgspec.json.decode(learner["learner_model_param"]["base_score"].replace("E", "e"))
    score = np.array(said if isinstance(said, list) else [said], np.float32)
    name = learner["objective"]["name"]
    if name == "binary:logistic":
        score = -np.log(np.float32(1) / score - np.float32(1))
    elif _XGBOOST_LINKS.get(name) == "exp":
        score = np.log(score)
    return np.broadcast_to(score.astype(np.float64), (outputs,)).copy()


def lightgbm_trees(dump: Mapping[str, Any]) -> tuple[Trees, frozenset[int]]:
    """The trees of a LightGBM model; their sum is the raw score.

    Returns:
        The trees, and the features of which a missing value counts as zero.

    Raises:
        NotCompiledError: a tree asks for categories, or takes zero for missing.
    """
    outputs = int(dump["num_tree_per_iteration"])
    zeros: set[int] = set()
    trees = [
        _lightgbm_tree(one["tree_structure"], output=place % outputs, outputs=outputs, zeros=zeros)
        for place, one in enumerate(dump["tree_info"])
    ]
    return joined(trees, base=np.zeros(outputs)), frozenset(zeros)


def _lightgbm_tree(root: Mapping[str, Any], *, output: int, outputs: int, zeros: set[int]) -> Tree:
    nodes: list[Mapping[str, Any]] = [root]
    left, right = [], []
    for node in nodes:  # grows while it is walked through
        inner = "left_child" in node
        left.append(len(nodes) if inner else LEAF)
        right.append(len(nodes) + 1 if inner else LEAF)
        if inner:
            nodes += [node["left_child"], node["right_child"]]
    feature = np.array([node.get("split_feature", 0) for node in nodes], np.int64)
    for place, node in enumerate(nodes):
        if left[place] == LEAF:
            continue
        if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
            raise NotCompiledError("trees of LightGBM with categories, or that take zero for missing, are not compiled")
        if node["missing_type"] == "None":
            zeros.add(int(feature[place]))
    value = np.zeros((len(nodes), outputs))
    value[:, output] = [node.get("leaf_value", 0.0) for node in nodes]
    return Tree(
        feature=feature,
        threshold=np.array([float(node.get("threshold", 0.0)) for node in nodes]),
        left=np.array(left, np.int64),
        right=np.array(right, np.int64),
        missing_left=np.array([bool(node.get("default_left", False)) for node in nodes]),
        value=value,
        cover=np.array([float(node.get("internal_count", node.get("leaf_count", 0))) for node in nodes]),
    )


def _compiled(
    trees: Trees,
    features: list[Feature],
    facts: XgboostFacts | LightgbmFacts,
    *,
    link: str,
    native_from_rows: int | None,
) -> Compiled:
    graph = Graph(single=trees.single)
    columns = graph.columns(features)
    graph.trees(trees)
    plan = Plan(
        columns=columns,
        task="regressor" if facts.classes is None else "classifier",
        link=link,
        classes=facts.classes,
        threshold=facts.threshold,
        missing=True,
        single=trees.single,
    )
    about = About(
        kind="trees", link=link, chains=chains_of(features, columns), strict=trees.strict, single=trees.single
    )
    return Compiled(
        content=graph.written(plan),
        thresholds=thresholds_of(features, trees),
        native_from_rows=native_from_rows,
        parts=Parts(about=about, trees=trees),
    )
