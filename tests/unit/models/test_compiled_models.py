"""A compiled model answers with the bits of the model that it was made of, or the package goes without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from everline.models.compiling.findings import Finding, Rows, finding_of
from everline.models.package import Package, build_package
from everline.models.signature import example_columns
from everline.models.signature_inference import infer_signature

ROWS = 800
CATEGORIES, NUMBERS = ["carrier", "origin"], ["distance", "hour"]


def flights() -> pd.DataFrame:
    random = np.random.default_rng(7)
    table = pd.DataFrame(
        {
            "distance": random.uniform(80, 4983, ROWS),
            "hour": random.integers(5, 24, ROWS),
            "carrier": random.choice(["AA", "B6", "DL", "UA"], ROWS),
            "origin": random.choice(["JFK", "LGA"], ROWS),
        }
    )
    table.loc[::17, "distance"] = np.nan
    table.loc[::19, "carrier"] = None
    return table


def outcomes(table: pd.DataFrame, kind: str) -> Any:
    noisy = (
        table["hour"].to_numpy()
        + 3 * (table["carrier"] == "AA").to_numpy()
        + np.random.default_rng(1).normal(0, 4, ROWS)
    )
    return {
        "two": noisy > 15,
        "three": np.array(["early", "late", "lost"])[noisy.astype(int) % 3],
        "number": np.abs(noisy),
    }[kind]


def codes() -> Any:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    return ColumnTransformer([("codes", encoder, CATEGORIES), ("numbers", "passthrough", NUMBERS)])


def columns() -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return ColumnTransformer(
        [("codes", OneHotEncoder(handle_unknown="ignore"), CATEGORIES), ("numbers", numbers, NUMBERS)]
    )


MODELS: dict[str, tuple[Any, str]] = {
    "histogram boosting with categories": (
        lambda: make_pipeline(codes(), HistGradientBoostingClassifier(max_iter=20, categorical_features=[0, 1])), "two"
    ),
    "histogram boosting of three classes": (
        lambda: make_pipeline(codes(), HistGradientBoostingClassifier(max_iter=8)), "three"
    ),
    "histogram boosting of counts": (
        lambda: make_pipeline(codes(), HistGradientBoostingRegressor(max_iter=8, loss="poisson")), "number"
    ),
    "forest": (lambda: make_pipeline(codes(), RandomForestClassifier(15, random_state=0)), "two"),
    "forest of numbers": (lambda: make_pipeline(codes(), ExtraTreesRegressor(5, random_state=0)), "number"),
    "gradient boosting": (lambda: make_pipeline(columns(), GradientBoostingClassifier(n_estimators=5)), "three"),
    "tree": (lambda: make_pipeline(codes(), DecisionTreeClassifier(random_state=0)), "two"),
    "logistic of three classes": (lambda: make_pipeline(columns(), LogisticRegression(max_iter=500)), "three"),
    "ridge": (lambda: make_pipeline(columns(), Ridge()), "number"),
}  # fmt: skip


def package(name: str, folder: Path, **options: Any) -> tuple[Any, Package]:
    make, kind = MODELS[name]
    table = flights()
    model = make().fit(table, outcomes(table, kind))
    return model, build_package(model, signature=infer_signature(table), out_dir=folder / "p", **options)


def said(built: Package) -> Finding:
    finding = finding_of(built.manifest.metadata)
    assert finding is not None
    return finding


def asked(table: pd.DataFrame) -> dict[str, list[Any]]:
    return {name: [None if value != value else value for value in table[name].tolist()] for name in table}


@pytest.mark.parametrize("name", list(MODELS))
def test_the_compiled_model_answers_what_the_model_itself_says(name: str, tmp_path: Path) -> None:
    model, built = package(name, tmp_path)
    predictor = built.load()
    assert predictor.runtimes == ("onnx", "native") and said(built).compiled, said(built).reason
    table = flights()
    answer = predictor.predict(asked(table))
    [number] = answer.keys() - {"label"}
    expected = model.predict(table) if number == "prediction" else model.predict_proba(table)
    if MODELS[name][1] == "two":
        expected = expected[:, 1]
    elif MODELS[name][1] == "three":
        assert answer["label"].tolist() == model.predict(table).tolist()
        expected = expected.max(axis=1)
    if "logistic" in name or name == "ridge":  # BLAS sums in an order of its own
        assert np.abs(answer[number] - expected).max() < 1e-12
    else:
        assert answer[number].tobytes() == expected.tobytes()
    for batch in (1, 7):
        parts = [
            predictor.predict({column: values[start : start + batch] for column, values in asked(table).items()})
            for start in range(0, 70, batch)
        ]
        assert np.concatenate([part[number] for part in parts]).tobytes() == answer[number][:70].tobytes()


def test_what_nobody_was_fitted_on_is_answered_or_refused_as_by_the_model(tmp_path: Path) -> None:
    _, built = package("forest", tmp_path)
    row: dict[str, list[Any]] = {"distance": [1e300], "hour": [3], "carrier": ["??"], "origin": ["JFK"]}
    answers = [
        built.load().predict(row | {"distance": [900.5]}, runtime)["probability"] for runtime in ("onnx", "native")
    ]
    assert answers[0].tobytes() == answers[1].tobytes()
    table = flights()[["hour", "origin"]]
    model = make_pipeline(
        ColumnTransformer([("codes", OneHotEncoder(), ["origin"])], remainder="passthrough"), LogisticRegression()
    ).fit(table, outcomes(flights(), "two"))
    strict = build_package(model, signature=infer_signature(table), out_dir=tmp_path / "strict")
    assert said(strict).compiled
    for runtime in ("onnx", "native"):
        with pytest.raises(ValueError, match=r"EWR|unknown categories"):
            strict.load().predict({"hour": [7], "origin": ["EWR"]}, runtime)


def test_a_difference_past_the_tolerance_keeps_the_framework_and_says_so(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    table = pd.DataFrame(random.normal(size=(400, 23)), columns=[f"x{i}" for i in range(23)])
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(table, table["x0"] > 0)
    rows = Rows(columns={name: table[name].tolist() for name in table}, name="evaluation rows")
    strict = build_package(
        model, signature=infer_signature(table), out_dir=tmp_path / "strict", rows=rows, tolerance=0.0
    )
    assert strict.load().runtimes == ("native",) and not (strict.directory / "model.onnx").exists()
    assert "numbers differ by up to 1e-" in said(strict).reason
    loose = build_package(model, signature=infer_signature(table), out_dir=tmp_path / "loose", rows=rows)
    parity = said(loose).parity
    assert said(loose).compiled and parity is not None and 0 < parity.difference_max < 1e-14
    assert parity.sample == "evaluation rows and made-up rows" and parity.rows > 500


def test_a_part_that_is_not_compiled_is_named(tmp_path: Path) -> None:
    table = pd.DataFrame(np.random.default_rng(1).normal(size=(100, 4)), columns=list("abcd"))
    model = make_pipeline(PCA(2), LogisticRegression()).fit(table, table["a"] > 0)
    built = build_package(model, signature=infer_signature(table), out_dir=tmp_path / "p")
    assert said(built).reason == "a PCA is not compiled" and built.load().runtimes == ("native",)


def test_a_compiled_model_answers_where_its_framework_is_not_installed(tmp_path: Path) -> None:
    _, built = package("histogram boosting with categories", tmp_path)
    columns = example_columns(built.manifest.signature, rows=3)
    expected = built.load().predict(columns)["probability"].tolist()
    program = f"""
import sys
for name in ("sklearn", "skops", "pandas", "onnx"):
    sys.modules[name] = None
from pathlib import Path
from everline.models.package import open_package
predictor = open_package(Path({str(built.directory)!r})).load()
assert predictor.predict({columns!r})["probability"].tolist() == {expected!r}
try:
    predictor.predict({columns!r}, "native")
except Exception as error:
    print(type(error).__name__, error)
"""
    (tmp_path / "home").mkdir()
    places = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "home")}
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | places
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout.startswith("MissingExtraError"), done.stderr
    assert not list((tmp_path / "home").iterdir()), "the runtime wrote something to report about this machine"


def test_a_model_that_was_changed_after_the_package_was_opened_is_not_loaded(tmp_path: Path) -> None:
    _, built = package("tree", tmp_path)
    predictor = built.load()
    columns = example_columns(built.manifest.signature, rows=3)
    predictor.predict(columns)
    (built.directory / "model.skops").write_bytes(b"other")
    with pytest.raises(Exception, match=r"model\.skops"):
        predictor.predict(columns, "native")
