"""Contributions sum to the answer, agree with what boosters say themselves, and come with an error if sampled."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from scipy.special import logit
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from everline.models.compiling.findings import Rows
from everline.models.compiling.sklearn_trees import forest_trees
from everline.models.explaining.tree_shap import TreeShap
from everline.models.package import build_package
from everline.models.predictor import Predictor
from everline.models.signature import check_columns
from everline.models.signature_inference import infer_signature


def flights() -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(5)
    table = pd.DataFrame(random.normal(size=(500, 3)), columns=["a", "b", "c"])
    table["carrier"] = random.choice(["AA", "B6", "DL"], len(table))
    table.loc[::9, "b"] = np.nan
    late = (table["a"] + table["b"].fillna(-1) * table["c"] + (table["carrier"] == "AA") > 0.3).to_numpy()
    return table, late


def explained(predictor: Predictor, table: pd.DataFrame, rows: int = 12) -> tuple[dict[str, Any], dict[str, Any]]:
    columns = {name: [None if v != v else v for v in table[name].tolist()[:rows]] for name in table}
    call = check_columns(predictor.signature, columns)
    return predictor.explain(call), predictor.predict_checked(call)


def sums(found: dict[str, Any]) -> np.ndarray:
    return np.array(found["base"]) + np.sum(list(found["contributions"].values()), axis=0)


def package(model: Any, table: pd.DataFrame, folder: Path, flavor: str = "sklearn") -> Predictor:
    rows = Rows(
        columns={name: [None if v != v else v for v in table[name].tolist()] for name in table}, name="training rows"
    )
    return build_package(model, signature=infer_signature(table), out_dir=folder / "p", flavor=flavor, rows=rows).load()


def test_the_values_of_a_tree_are_those_of_the_definition() -> None:
    """Against all subsets, each weighted by Shapley's formula."""
    random = np.random.default_rng(2)
    table = random.normal(size=(300, 4))
    trees = forest_trees(
        DecisionTreeRegressor(max_depth=4, random_state=0).fit(table, table[:, 0] * table[:, 1] + table[:, 2])
    )

    def expected(node: int, row: np.ndarray, known: tuple[int, ...]) -> float:
        if trees.left[node] < 0:
            return float(trees.value[node, 0])
        sides = (int(trees.left[node]), int(trees.right[node]))
        if trees.feature[node] in known:
            return expected(sides[0 if row[trees.feature[node]] <= trees.threshold[node] else 1], row, known)
        return sum(trees.cover[side] / trees.cover[node] * expected(side, row, known) for side in sides)

    shap = TreeShap(trees)
    for row in table[:4]:
        found = shap.contributions(row.reshape(1, -1), features=4)[0, :, 0]
        for feature in range(4):
            others = [other for other in range(4) if other != feature]
            value = sum(
                math.factorial(size) * math.factorial(3 - size) / math.factorial(4)
                * (expected(0, row, (*subset, feature)) - expected(0, row, subset))
                for size in range(4) for subset in itertools.combinations(others, size)
            )  # fmt: skip
            assert found[feature] == pytest.approx(value, abs=1e-12)
        assert shap.base[0] + found.sum() == pytest.approx(expected(0, row, (0, 1, 2, 3)))


def test_a_pipeline_of_trees_is_explained_exactly_without_its_framework(tmp_path: Path) -> None:
    table, late = flights()
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    codes = ColumnTransformer([("codes", encoder, ["carrier"])], remainder="passthrough")
    model = make_pipeline(codes, HistGradientBoostingClassifier(max_iter=15, categorical_features=[0])).fit(table, late)
    found, answer = explained(package(model, table, tmp_path), table)
    assert (found["method"], found["scale"], found["output"]) == ("trees, path-dependent", "log-odds", "probability")
    assert set(found["contributions"]) == set(table) and found["standard_errors"] is None
    assert sums(found) == pytest.approx(logit(answer["probability"]), abs=1e-9)
    forest = make_pipeline(codes, RandomForestClassifier(10, max_depth=5, random_state=0)).fit(
        table, late.astype(int) + (table["a"] > 1)
    )
    found, answer = explained(package(forest, table, tmp_path / "forest"), table)
    assert found["scale"] == "output" and sums(found) == pytest.approx(answer["probability"], abs=1e-12)


def test_boosters_are_explained_as_they_explain_themselves(tmp_path: Path) -> None:
    table, late = flights()
    numbers = table[["a", "b", "c"]]
    boosted = xgboost.XGBClassifier(n_estimators=20, max_depth=4).fit(numbers, late)
    found, _ = explained(package(boosted, numbers, tmp_path / "x", "xgboost"), numbers)
    own = boosted.get_booster().predict(xgboost.DMatrix(numbers[:12]), pred_contribs=True)
    each = np.array([*found["contributions"].values()]).T
    assert each == pytest.approx(own[:, :-1], abs=2e-5)
    light = lightgbm.LGBMRegressor(n_estimators=20, verbose=-1).fit(numbers, table["a"] * 2)
    found, answer = explained(package(light, numbers, tmp_path / "l", "lightgbm"), numbers)
    own = light.predict(numbers[:12], pred_contrib=True)
    each = np.array([*found["contributions"].values()]).T
    assert each == pytest.approx(own[:, :-1], abs=1e-9)
    assert sums(found) == pytest.approx(answer["prediction"], abs=1e-9)


def test_a_linear_model_is_compared_with_the_mean_of_its_training(tmp_path: Path) -> None:
    table, late = flights()
    table = table.fillna(0.0)
    columns = ColumnTransformer(
        [("codes", OneHotEncoder(), ["carrier"]), ("numbers", StandardScaler(), ["a", "b", "c"])]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(table, late)
    found, answer = explained(package(model, table, tmp_path), table)
    assert (found["method"], found["background"]) == ("linear, interventional", "training rows")
    assert sums(found) == pytest.approx(logit(answer["probability"]), abs=1e-9)
    weight = model[-1].coef_[0, 3]
    assert found["contributions"]["a"] == pytest.approx(
        weight * ((table["a"] - table["a"].mean()) / table["a"].std(ddof=0))[:12]
    )


def test_other_models_are_sampled_the_same_each_time_and_say_how_sure_they_are(tmp_path: Path) -> None:
    table, late = flights()
    numbers = table[["a", "c"]]
    predictor = package(GaussianNB().fit(numbers, late), numbers, tmp_path)
    found, answer = explained(predictor, numbers, rows=3)
    assert found["method"] == "permutations, sampled" and predictor.runtimes == ("native",)
    assert sums(found) == pytest.approx(answer["probability"], abs=1e-9)
    errors = np.array([*found["standard_errors"].values()])
    assert (errors > 0).all() and errors.max() < 0.2
    assert explained(predictor, numbers, rows=3)[0] == found
