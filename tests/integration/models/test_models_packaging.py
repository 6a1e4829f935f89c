"""A model that MLflow's client logged becomes a package that answers as before, or is refused with a reason."""

from __future__ import annotations

import json
import pickle
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import mlflow.lightgbm
import mlflow.sklearn
import mlflow.xgboost
import numpy as np
import pandas as pd
import pytest
import xgboost
import yaml
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from everline.cli import app as cli
from everline.config import Settings
from everline.errors import ConflictError, EverlineError, IntegrityError, InvalidInputError, NotFoundError
from everline.models.package import open_package
from everline.sdk.client import Client

MLFLOW = "/api/2.0/mlflow"
Log = Callable[..., str]


class Shout:
    """Leaves a file behind when a pickle of it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    random = np.random.default_rng(7)
    table = pd.DataFrame({"distance": random.uniform(80, 4983, 300), "hour": random.integers(5, 24, 300)})
    return table.assign(carrier=random.choice(["AA", "B6", "UA"], 300))


@pytest.fixture(scope="module")
def classifier(flights: pd.DataFrame) -> Pipeline:
    encode = make_column_transformer((OneHotEncoder(), ["carrier"]), remainder="passthrough")  # refuses other carriers
    return make_pipeline(encode, LogisticRegression(max_iter=300)).fit(flights, flights["hour"] > 15)


@pytest.fixture(scope="module")
def saved(flights: pd.DataFrame, classifier: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`table` and `matrix`, as `mlflow.sklearn` writes them."""
    folder = tmp_path_factory.mktemp("saved")
    example = flights.head(5)
    mlflow.sklearn.save_model(classifier, folder / "table", input_example=example, pip_requirements=[])
    matrix = flights[["distance", "hour"]].to_numpy(dtype=float)
    regressor = RandomForestRegressor(5, random_state=0).fit(matrix, matrix[:, 1])
    mlflow.sklearn.save_model(
        regressor,
        folder / "matrix",
        input_example=matrix[:3],
        pip_requirements=[],
        skops_trusted_types=["sklearn.tree._tree.Tree"],
    )
    numbers, late = flights[["distance", "hour"]].astype(float), flights["hour"] > 15
    boosted = xgboost.XGBClassifier(n_estimators=4).fit(numbers, late)
    mlflow.xgboost.save_model(boosted, folder / "xgboost", input_example=numbers.head(5), pip_requirements=[])
    light = lightgbm.LGBMClassifier(n_estimators=4, verbose=-1).fit(numbers, np.where(late, "late", "on time"))
    mlflow.lightgbm.save_model(light, folder / "lightgbm", input_example=numbers.head(5), pip_requirements=[])
    return folder


@pytest.fixture
def log(client: Client, saved: Path, tmp_path: Path) -> Log:
    """Uploads a saved model as a run's artifacts and registers it as an MLflow client does; returns the model."""

    def ask(path: str, **body: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        return client.send("POST", MLFLOW + path, content=json.dumps(body).encode(), headers=headers).json()

    def logged(
        kind: str, change: Callable[[Path, dict[str, Any]], None] | None = None, *, skip: str = "", source: str = ""
    ) -> str:
        folder = tmp_path / secrets.token_hex(4)
        shutil.copytree(saved / kind, folder)
        if change is not None:
            described = yaml.safe_load((folder / "MLmodel").read_text())
            change(folder, described)
            (folder / "MLmodel").write_text(yaml.safe_dump(described))
        run = ask("/runs/create", experiment_id="0")["run"]["info"]
        place = run["artifact_uri"] + "/model"
        for file in folder.iterdir():
            if file.name != skip:
                target = f"/api/2.0/mlflow-artifacts/artifacts/{place.removeprefix('mlflow-artifacts:/')}/{file.name}"
                client.send("PUT", target, content=file.read_bytes())
        name = f"m-{secrets.token_hex(4)}"
        ask("/registered-models/create", name=name)
        ask("/model-versions/create", name=name, source=source or place, run_id=run["run_id"])
        return name

    return logged


def as_pickle(model: Any) -> Callable[[Path, dict[str, Any]], None]:
    def change(folder: Path, described: dict[str, Any]) -> None:
        (folder / "model.pkl").write_bytes(pickle.dumps(model))
        described["flavors"]["sklearn"] |= {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"}

    return change


def test_a_logged_model_becomes_a_version_with_a_package_that_answers_the_same(
    client: Client,
    settings: Settings,
    log: Log,
    classifier: Pipeline,
    flights: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = log("table")
    assert cli.run(["models", "package", name, "1", "--home", str(settings.home)]) == 0
    assert cli.run(["models", "show", name, "2", "--home", str(settings.home)]) == 0
    assert "runtimes" in (shown := capsys.readouterr().out) and "onnx: it answers" in shown
    assert "| answered by | onnx: it answers" in client.models.card(name, 2).text
    logged, made = client.models.get(name, 1), client.models.get(name, 2)
    assert logged.package is None and made.package is not None
    assert made.run == logged.run and made.tags == {"everline.packaged_from": f"models:/{name}/1"}
    assert client.models.verify(name, 2).verified
    package = open_package(client.models.export(name, 2, directory=tmp_path / "out"), digest=made.package)
    inputs = package.manifest.signature.inputs
    assert [(field.name, str(field.type)) for field in inputs] == [
        ("distance", "double"),
        ("hour", "long"),
        ("carrier", "string"),
    ]
    assert all(field.min is None and field.categories is None for field in inputs), "an example is not the training"
    answer = package.load().predict({column: flights[column].tolist() for column in flights})
    assert answer["label"].tolist() == classifier.predict(flights).tolist()
    one_by_one = [classifier.predict_proba(flights.iloc[[row]])[0, 1] for row in range(20)]
    assert answer["probability"][:20].tolist() == one_by_one


@pytest.mark.parametrize("framework", ["xgboost", "lightgbm"])
def test_boosters_that_were_logged_are_packaged_by_their_own_flavor(
    client: Client, log: Log, flights: pd.DataFrame, framework: str, tmp_path: Path
) -> None:
    name = log(framework)
    made = client.models.package(name)
    package = open_package(client.models.export(name, made.version, directory=tmp_path / "out"), digest=made.package)
    assert package.manifest.flavor == framework and package.load().runtimes == ("onnx", "native")
    answer = package.load().predict({column: flights[column].astype(float).tolist() for column in ("distance", "hour")})
    late = (flights["hour"] > 15).tolist()
    assert answer["label"].tolist() == (
        late if framework == "xgboost" else ["late" if one else "on time" for one in late]
    )


def test_a_matrix_has_columns_and_another_model_can_take_the_package(client: Client, log: Log) -> None:
    name = log("matrix")
    made = client.models.package(name, into=f"{name}-served")
    assert (made.model, made.version) == (f"{name}-served", 1)
    assert made.model_signature is not None
    assert [field["name"] for field in made.model_signature["inputs"]] == ["x0", "x1"]


def test_without_a_signature_the_example_says_what_the_inputs_are(client: Client, log: Log) -> None:
    def forget(folder: Path, described: dict[str, Any]) -> None:
        del described["signature"]

    made = client.models.package(log("table", forget))
    assert made.model_signature is not None
    assert [field["type"] for field in made.model_signature["inputs"]] == ["double", "long", "string"]


def test_where_both_classes_are_equally_probable_the_label_is_that_of_predict(client: Client, log: Log) -> None:
    tie = DecisionTreeClassifier().fit([[0.0, 0.0], [0.0, 0.0]], [False, True])
    name = log("matrix", as_pickle(tie))
    client.models.package(name, trust_pickle=True)  # refused, if its example were answered otherwise


def test_a_pickle_is_not_loaded_unless_the_caller_trusts_it(
    client: Client, log: Log, classifier: Pipeline, tmp_path: Path
) -> None:
    mark = tmp_path / "loaded"
    name = log("table", as_pickle(Shout(mark)))
    with pytest.raises(InvalidInputError, match="is kept as a cloudpickle") as refused:
        client.models.package(name)
    assert 'serialization_format="skops"' in refused.value.hint and "--trust-pickle" in refused.value.hint
    assert not mark.exists()
    name = log("table", as_pickle(classifier))
    made = client.models.package(name, trust_pickle=True)
    assert not any(file["path"].endswith(".pkl") for file in client.models.manifest(name, made.version)["files"])


def test_a_version_is_packaged_once(client: Client, log: Log) -> None:
    name = log("matrix")
    made = client.models.package(name, 1)
    with pytest.raises(ConflictError, match=f"was packaged before: it is {name} 2"):
        client.models.package(name, 1)
    with pytest.raises(ConflictError, match="has a package already"):
        client.models.package(name, made.version)


def _foreign(folder: Path, described: dict[str, Any]) -> None:
    described["flavors"]["prophet"] = described["flavors"].pop("sklearn")


def _unknown(folder: Path, described: dict[str, Any]) -> None:
    del described["signature"], described["saved_input_example_info"]


def _image(folder: Path, described: dict[str, Any]) -> None:
    spec = {"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, 28, 28]}}
    described["signature"]["inputs"] = json.dumps([spec])


def _unlike(folder: Path, described: dict[str, Any]) -> None:
    (folder / "input_example.json").write_text('{"columns": ["distance"], "data": [[1.0]]}')


def _broken(folder: Path, described: dict[str, Any]) -> None:
    (folder / "model.skops").write_bytes(b"PK")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (_foreign, InvalidInputError, "flavor prophet, which is not packaged from here"),
        (_unknown, InvalidInputError, "without a signature and without an input example"),
        (_image, InvalidInputError, "tensor of shape .*28"),
        (_unlike, InvalidInputError, "input example of .* does not fit its signature: The input 'hour' is missing"),
        (_broken, IntegrityError, "model.skops cannot be read"),
    ],
)
def test_what_cannot_be_packaged_is_refused_and_nothing_is_registered(
    client: Client, log: Log, change: Any, error: type[EverlineError], says: str
) -> None:
    name = log("table", change)
    with pytest.raises(error, match=says):
        client.models.package(name)
    assert [version.version for version in client.models.versions(name)] == [1]


def test_what_is_not_there_is_named(client: Client, log: Log) -> None:
    name = log("table", skip="MLmodel")
    with pytest.raises(NotFoundError, match=f"{name} 1 has no file MLmodel"):
        client.models.package(name)
    name = log("table", source="s3://bucket/model")
    with pytest.raises(InvalidInputError, match="kept at s3://bucket/model, not by this server"):
        client.models.package(name)
