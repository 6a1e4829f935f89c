"""XGBoost and LightGBM models are packaged without pickle, answer as their frameworks do, and are compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost

from everline.errors import IntegrityError, InvalidInputError
from everline.models.compiling.findings import finding_of
from everline.models.flavors import lightgbm as lightgbm_flavor
from everline.models.flavors import xgboost as xgboost_flavor
from everline.models.package import Package, build_package
from everline.models.signature_inference import infer_signature


def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    made = pd.DataFrame(random.normal(size=(700, 4)), columns=list("abcd"))
    made["d"] = random.integers(0, 20, len(made))
    made.loc[::9, "b"] = np.nan
    return made


def score(made: pd.DataFrame) -> np.ndarray:
    return (made["a"] + made["d"] / 10 + made["b"].fillna(-1)).to_numpy()


def models() -> dict[str, Any]:
    made, of = table(), score(table())
    two, three = of > 0.5, np.digitize(of, [0.0, 1.0])
    return {
        "xgboost two": xgboost.XGBClassifier(n_estimators=12, max_depth=4).fit(made, two),
        "xgboost three": xgboost.XGBClassifier(n_estimators=5, max_depth=3).fit(made, three),
        "xgboost number": xgboost.XGBRegressor(n_estimators=8).fit(made, of),
        "lightgbm two": lightgbm.LGBMClassifier(n_estimators=12, verbose=-1).fit(made, np.where(two, "yes", "no")),
        "lightgbm number": lightgbm.LGBMRegressor(n_estimators=8, verbose=-1).fit(made, of),
    }


MODELS = models()


def package(name: str, folder: Path) -> Package:
    return build_package(MODELS[name], signature=infer_signature(table()), out_dir=folder, flavor=name.split()[0])


@pytest.mark.parametrize("name", list(MODELS))
def test_a_booster_answers_as_its_framework_does_and_compiled_almost_so(name: str, tmp_path: Path) -> None:
    built = package(name, tmp_path / "a")
    predictor, model, rows = built.load(), MODELS[name], table()
    columns = {column: [None if value != value else value for value in rows[column].tolist()] for column in rows}
    native, compiled = predictor.predict(columns, "native"), predictor.predict(columns, "onnx")
    [number] = native.keys() - {"label"}
    own = np.asarray(model.predict(rows) if number == "prediction" else model.predict_proba(rows))
    own = own if own.ndim == 1 else own[:, 1] if own.shape[1] == 2 else own.max(axis=1)
    assert native[number].tolist() == own.astype(float).tolist()
    assert np.abs(compiled[number] - native[number]).max() < (1e-6 if "xgboost" in name else 1e-14)
    if "label" in native:
        assert native["label"].tolist() == compiled["label"].tolist() == model.predict(rows).tolist()
    finding = finding_of(built.manifest.metadata)
    assert finding is not None and finding.compiled
    large = "native" if "xgboost" in name else "onnx"
    assert (predictor.runtime_for(255), predictor.runtime_for(256)) == ("onnx", large)
    assert package(name, tmp_path / "b").digest == built.digest


def test_a_booster_comes_back_from_the_bytes_that_a_step_keeps() -> None:
    rows = table()
    kept = xgboost_flavor.to_files(MODELS["xgboost two"])
    again = xgboost_flavor.from_files(kept)
    assert again.predict_proba(rows).tolist() == MODELS["xgboost two"].predict_proba(rows).tolist()
    assert xgboost_flavor.to_files(again) == kept
    for name in ("lightgbm number", "lightgbm two"):
        text = lightgbm_flavor.to_files(MODELS[name])
        again = lightgbm_flavor.from_files(text)
        assert again.predict(rows).tolist() == MODELS[name].predict(rows).tolist()
        assert lightgbm_flavor.to_files(again) == text


def test_what_has_no_place_in_a_package_is_said(tmp_path: Path) -> None:
    made, of = table(), score(table())
    linear = xgboost.XGBRegressor(booster="gblinear", n_estimators=2).fit(made.fillna(0), of)
    with pytest.raises(InvalidInputError, match="booster gblinear"):
        build_package(linear, signature=infer_signature(made), out_dir=tmp_path / "a", flavor="xgboost")
    with pytest.raises(InvalidInputError, match="fitted on the columns a, b, c, d"):
        build_package(
            MODELS["lightgbm number"], signature=infer_signature(made[list("dcba")]), out_dir=tmp_path / "b",
            flavor="lightgbm",
        )  # fmt: skip
    with pytest.raises(InvalidInputError, match="need to call fit"):
        build_package(xgboost.XGBRegressor(), signature=infer_signature(made), out_dir=tmp_path / "c", flavor="xgboost")


def test_a_file_that_is_no_booster_is_not_loaded(tmp_path: Path) -> None:
    for name, file in (("xgboost number", "model.ubj"), ("lightgbm number", "model.txt")):
        built = package(name, tmp_path / name)
        flavor = xgboost_flavor if name.startswith("xgboost") else lightgbm_flavor
        (built.directory / file).write_bytes(b"{" * 100)
        with pytest.raises(IntegrityError, match=file):
            flavor.load_model(built)
