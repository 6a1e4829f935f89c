"""A package is whole, checked, without pickle, and answers with the same bits as the model it was built from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from everline.canonical import canonical_json
from everline.errors import IntegrityError, InvalidInputError
from everline.governance.signing import SigningKey
from everline.ids import digest_bytes
from everline.models.package import Package, build_package, fetch_package, open_package, parse_manifest, store_package
from everline.models.signature import example_columns
from everline.models.signature_inference import infer_signature
from everline.models.signing import sign_package, verify_package_signature


def flights(rows: int = 600) -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(7)
    table = pd.DataFrame(
        {
            "distance": random.uniform(80, 4983, rows),
            "hour": random.integers(5, 24, rows),
            "carrier": random.choice(["AA", "B6", "UA"], rows),
        }
    )
    table.loc[::17, "distance"] = np.nan
    late = table["hour"].to_numpy() + random.normal(0, 4, rows) > 15
    return table, late


def gradient_boosting(table: pd.DataFrame, late: np.ndarray) -> Any:
    encode = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["carrier"]), remainder="passthrough"
    )
    return make_pipeline(encode, HistGradientBoostingClassifier(max_iter=20, random_state=0)).fit(table, late)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Package:
    table, late = flights()
    return build_package(
        gradient_boosting(table, late),
        signature=infer_signature(table),
        out_dir=tmp_path_factory.mktemp("package") / "p",
        metadata={"purpose": "test"},
        created_from={"run": "0" * 32, "data": []},
    )


def test_a_package_names_its_files_its_types_and_its_origin(built: Package) -> None:
    paths = [entry.path for entry in built.manifest.files]
    assert paths == [
        "MLmodel",
        "explanation.npz",
        "input_example.json",
        "model.onnx",
        "model.skops",
        "requirements.txt",
    ]
    assert built.digest == digest_bytes((built.directory / "everline.json").read_bytes())
    assert [(field.name, str(field.type), field.nullable) for field in built.manifest.signature.inputs] == [
        ("distance", "double", True),
        ("hour", "long", False),
        ("carrier", "string", False),
    ]
    assert [(f.name, str(f.type)) for f in built.manifest.signature.outputs] == [
        ("probability", "double"),
        ("label", "boolean"),
    ]
    assert "scikit-learn==" in (built.directory / "requirements.txt").read_text()
    assert built.manifest.created_from["run"] == "0" * 32


def test_the_package_answers_with_the_bits_of_the_model_in_a_batch_of_any_size(built: Package) -> None:
    table, late = flights()
    expected = gradient_boosting(table, late).predict_proba(table)[:, 1]
    predictor = built.load()
    columns = {name: [None if v != v else v for v in table[name].tolist()] for name in table}
    whole = predictor.predict(columns)
    assert whole["probability"].tobytes() == expected.tobytes()
    for batch in (1, 3, 20):
        parts = [
            predictor.predict({name: values[start : start + batch] for name, values in columns.items()})
            for start in range(0, 60, batch)
        ]
        joined = np.concatenate([part["probability"] for part in parts])
        assert joined.tobytes() == expected[:60].tobytes()


def test_a_linear_model_is_replayed_bit_for_bit_although_blas_is_not(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    table = pd.DataFrame(random.normal(size=(400, 23)), columns=[f"x{i}" for i in range(23)])
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(table, table["x0"] > 0)
    predictor = build_package(model, signature=infer_signature(table), out_dir=tmp_path / "p").load()
    columns = {name: table[name].tolist() for name in table}
    whole = predictor.predict(columns)["probability"]
    for row in range(50):
        one = predictor.predict({name: values[row : row + 1] for name, values in columns.items()})["probability"]
        assert one.tobytes() == whole[row : row + 1].tobytes()


def test_the_same_training_gives_the_same_package_digest(built: Package, tmp_path: Path) -> None:
    table, late = flights()
    again = build_package(
        gradient_boosting(table, late),
        signature=infer_signature(table),
        out_dir=tmp_path / "p",
        metadata={"purpose": "test"},
        created_from={"run": "0" * 32, "data": []},
    )
    assert again.digest == built.digest


def test_a_regressor_on_a_plain_matrix_answers_predictions(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    matrix = random.normal(size=(200, 2))
    model = HistGradientBoostingRegressor(max_iter=5).fit(matrix, matrix[:, 0])
    signature = infer_signature({"a": matrix[:, 0], "b": matrix[:, 1]})
    package = build_package(model, signature=signature, out_dir=tmp_path / "p")
    answer = package.load().predict({"a": matrix[:, 0], "b": matrix[:, 1]})
    assert answer["prediction"].tobytes() == model.predict(matrix).tobytes()


def test_the_threshold_decides_the_label(tmp_path: Path) -> None:
    table, late = flights()
    package = build_package(
        gradient_boosting(table, late),
        signature=infer_signature(table),
        out_dir=tmp_path / "p",
        metadata={"threshold": 0.2},
    )
    answer = package.load().predict(example_columns(package.manifest.signature, rows=40))
    assert (answer["label"] == (answer["probability"] >= 0.2)).all()
    assert (answer["label"] != (answer["probability"] >= 0.5)).any()


def test_mlflow_reads_the_model_description(built: Package) -> None:
    from mlflow.models import Model

    described = Model.load(str(built.directory))
    assert described.signature.inputs.input_names() == ["distance", "hour", "carrier"]
    assert described.flavors["sklearn"]["serialization_format"] == "skops"


def test_mlflow_loads_the_model_and_it_answers_the_same(built: Package) -> None:
    import mlflow.sklearn

    table, _ = flights(20)
    columns = {name: [None if v != v else v for v in table[name].tolist()] for name in table}
    theirs = mlflow.sklearn.load_model(str(built.directory)).predict_proba(table)[:, 1]
    assert theirs.tobytes() == built.load().predict(columns)["probability"].tobytes()


class Custom(BaseEstimator, TransformerMixin):
    def fit(self, table: Any, target: Any = None) -> Custom:
        return self

    def transform(self, table: Any) -> Any:
        return table


def test_a_model_with_code_of_its_own_is_refused_by_the_builder(tmp_path: Path) -> None:
    table, late = flights()
    model = make_pipeline(Custom(), gradient_boosting(table, late)).fit(table, late)
    with pytest.raises(InvalidInputError, match=r"not trusted.*Custom"):
        build_package(model, signature=infer_signature(table), out_dir=tmp_path / "p")


def test_a_package_with_a_foreign_type_is_not_loaded(built: Package, tmp_path: Path) -> None:
    import skops.io

    directory = tmp_path / "p"
    shutil.copytree(built.directory, directory)
    (directory / "model.skops").write_bytes(skops.io.dumps(make_pipeline(Custom())))
    rewrite_manifest(directory)
    predictor = open_package(directory).load()
    with pytest.raises(IntegrityError, match="Custom"):
        predictor.predict(example_columns(built.manifest.signature), "native")


@pytest.mark.parametrize("name", ["MLmodel", "model.skops", "requirements.txt", "input_example.json", "everline.json"])
def test_one_changed_byte_in_any_file_is_found(built: Package, tmp_path: Path, name: str) -> None:
    directory = tmp_path / "p"
    shutil.copytree(built.directory, directory)
    data = bytearray((directory / name).read_bytes())
    data[len(data) // 2] ^= 1
    (directory / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=name if name != "everline.json" else "manifest"):
        open_package(directory, digest=built.digest)


def test_extra_missing_and_linked_files_are_found(built: Package, tmp_path: Path) -> None:
    directory = tmp_path / "p"
    shutil.copytree(built.directory, directory)
    (directory / "code.py").write_text("print('hello')")
    with pytest.raises(IntegrityError, match="does not list: 'code.py'"):
        open_package(directory)
    (directory / "code.py").unlink()
    (directory / "MLmodel").rename(tmp_path / "MLmodel")
    with pytest.raises(IntegrityError, match="'MLmodel' is missing"):
        open_package(directory)
    (directory / "MLmodel").symlink_to(tmp_path / "MLmodel")
    with pytest.raises(IntegrityError, match="is a link"):
        open_package(directory)


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../b", "a//b", "./a", "", "everline.json", "a\\b"])
def test_a_manifest_with_a_path_trick_is_refused(built: Package, path: str) -> None:
    manifest = msgspec.json.decode(built.manifest_bytes)
    manifest["files"][0]["path"] = path
    with pytest.raises(IntegrityError, match="not allowed"):
        parse_manifest(canonical_json(manifest))


def test_a_package_travels_through_blobs_and_a_wrong_blob_never_becomes_a_package(
    built: Package, tmp_path: Path
) -> None:
    blobs: dict[str, bytes] = {}

    def put(data: bytes) -> None:
        blobs[digest_bytes(data)] = data

    def download(digest: str, path: Path) -> None:
        path.write_bytes(blobs[digest])

    assert store_package(built, put_bytes=put, put_file=lambda path: put(path.read_bytes())) == built.digest
    assert fetch_package(built.digest, download=download, out_dir=tmp_path / "ok").digest == built.digest
    model = next(entry for entry in built.manifest.files if entry.path == "model.skops")
    blobs[model.digest] = blobs[model.digest][:-1] + b"\x07"
    with pytest.raises(IntegrityError, match=r"model\.skops"):
        fetch_package(built.digest, download=download, out_dir=tmp_path / "bad")
    assert list(tmp_path.iterdir()) == [tmp_path / "ok"]


def test_a_package_signature_holds_for_that_package_and_key_only(built: Package, tmp_path: Path) -> None:
    key = SigningKey.generate()
    envelope = sign_package(built, key, name="flight-delay/1")
    verify_package_signature(built.manifest_bytes, envelope, key.verify_key)
    with pytest.raises(IntegrityError, match="not signed by a trusted key"):
        verify_package_signature(built.manifest_bytes, envelope, SigningKey.generate().verify_key)
    other = msgspec.json.decode(built.manifest_bytes)
    other["metadata"]["purpose"] = "other"
    with pytest.raises(IntegrityError, match=r"another package: everline\.json differs"):
        verify_package_signature(canonical_json(other), envelope, key.verify_key)


def test_an_unfitted_model_and_a_wrong_signature_are_named(tmp_path: Path) -> None:
    table, late = flights()
    with pytest.raises(InvalidInputError, match="fitted"):
        build_package(HistGradientBoostingClassifier(), signature=infer_signature(table), out_dir=tmp_path / "a")
    with pytest.raises(InvalidInputError, match="was fitted on the columns"):
        build_package(
            gradient_boosting(table, late), signature=infer_signature(table[["hour"]]), out_dir=tmp_path / "b"
        )


def rewrite_manifest(directory: Path) -> None:
    """Make the directory consistent again, as an attacker who can write files would."""
    manifest = json.loads((directory / "everline.json").read_text())
    for entry in manifest["files"]:
        data = (directory / entry["path"]).read_bytes()
        entry |= {"digest": digest_bytes(data), "bytes": len(data)}
    (directory / "everline.json").write_bytes(canonical_json(manifest))
