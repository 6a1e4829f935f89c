"""The models that every tool serves, trained once on real flights: boosted trees, XGBoost, a logistic regression."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pandas as pd

from everline.canonical import canonical_json
from everline.demo.flight_delay import FEATURES, TARGET, WEATHER, joined
from everline.demo.flights import flights_of, weather
from everline.loader import load
from everline.models.package import MANIFEST_FILE, Package, build_package, open_package
from everline.models.signature_inference import infer_signature

KINDS = ("hgb", "xgboost", "logistic")
ROWS = 1000
_CODED = ("carrier", "origin")
_NUMBERS = tuple(name for name in FEATURES if name not in _CODED)


def flights() -> tuple[pd.DataFrame, np.ndarray]:
    """Flights of January with an outcome, in the order of the schedule."""
    table = joined(flights_of("2013-01"), weather())
    frame = table.to_pandas()
    frame = frame[frame[TARGET].notna()].reset_index(drop=True)
    return frame[list(FEATURES)], frame[TARGET].to_numpy(dtype=bool)


def train(kind: str) -> tuple[Any, pd.DataFrame]:
    """A fitted model and the table that it takes."""
    frame, late = flights()
    if kind == "xgboost":
        coded = frame.assign(**{n: frame[n].astype("category").cat.codes.astype("float64") for n in _CODED})
        coded = coded.astype("float64")
        model = load("xgboost").XGBClassifier(n_estimators=80, max_depth=5, n_jobs=1, random_state=7)
        return model.fit(coded, late), coded
    compose, impute = load("sklearn.compose"), load("sklearn.impute")
    preprocessing, pipeline = load("sklearn.preprocessing"), load("sklearn.pipeline")
    if kind == "hgb":
        codes = preprocessing.OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1
        )
        trees = load("sklearn.ensemble").HistGradientBoostingClassifier(
            max_iter=80, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=200, random_state=7
        )
        columns = compose.ColumnTransformer([("codes", codes, list(_CODED))], remainder="passthrough")
        return pipeline.make_pipeline(columns, trees).fit(frame, late), frame
    one_hot = preprocessing.OneHotEncoder(handle_unknown="ignore")
    numbers = pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler())
    columns = compose.ColumnTransformer([("codes", one_hot, list(_CODED)), ("numbers", numbers, list(_NUMBERS))])
    model = load("sklearn.linear_model").LogisticRegression(max_iter=500)
    return pipeline.make_pipeline(columns, model).fit(frame, late), frame


class Trained:
    """One model on disk, in every form that a tool wants it in.

    Attributes:
        package: Everline's package.
        pickle: the estimator in joblib's form, for tools that load such things.
        rows: `ROWS` real rows as plain objects, null for what is missing.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder / kind
        self.pickle = self.folder / "model.joblib"
        if not (self.folder / "rows.json").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self._write()
        self.package: Package = open_package(self.folder / "package")
        self.rows: list[dict[str, Any]] = json.loads((self.folder / "rows.json").read_text())
        self.numeric = frozenset(name for name in self.rows[0] if name not in _CODED or kind == "xgboost")

    def native(self) -> Trained:
        """The same model packaged without a compiled one."""
        other = Trained.__new__(Trained)
        other.__dict__.update(self.__dict__)
        folder = self.folder / "native"
        if not folder.exists():
            shutil.copytree(self.package.directory, folder)
            (folder / "model.onnx").unlink()
            manifest = self.package.manifest
            metadata = {name: fact for name, fact in manifest.metadata.items() if name != "runtimes"}
            files = [entry for entry in manifest.files if entry.path != "model.onnx"]
            plain = msgspec.structs.replace(manifest, files=files, metadata=metadata)
            (folder / MANIFEST_FILE).write_bytes(canonical_json(msgspec.to_builtins(plain)))
        other.package = open_package(folder)
        return other

    def _write(self) -> None:
        model, frame = train(self.kind)
        self.folder.mkdir(parents=True)
        nullable = [name for name in frame.columns if name in WEATHER]
        build_package(
            model,
            signature=infer_signature(frame, nullable=nullable),
            out_dir=self.folder / "package",
            flavor="xgboost" if self.kind == "xgboost" else "sklearn",
        )
        joblib.dump(model, self.pickle)
        rows = frame.sample(ROWS, random_state=3).to_dict("records")
        rows = [{name: None if value != value else value for name, value in row.items()} for row in rows]
        (self.folder / "rows.json").write_text(json.dumps(rows))
