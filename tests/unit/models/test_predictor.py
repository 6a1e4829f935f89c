"""Which runtime of a package answers is said by the number of rows, and a runtime that it does not have is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everline.errors import InvalidInputError
from everline.models.package import FileEntry, Manifest, Package
from everline.models.predictor import Predictor
from everline.models.signature import Array, ColumnType, Field, OutputField, Signature, check_columns

SIGNATURE = Signature(
    inputs=[Field(name="x", type=ColumnType.DOUBLE)], outputs=[OutputField(name="prediction", type=ColumnType.DOUBLE)]
)


class Adds:
    """Answers with its input and a constant, so that an answer tells who gave it."""

    rows_alone = False

    def __init__(self, constant: float) -> None:
        self.constant = constant

    def predict(self, arrays: Mapping[str, Array], *, rows: int) -> dict[str, Array]:
        return {"prediction": arrays["x"] + self.constant}


@pytest.fixture
def package(tmp_path: Path) -> Package:
    files: list[FileEntry] = []
    manifest = Manifest(flavor="sklearn", signature=SIGNATURE, files=files)
    return Package(digest="sha256:0", manifest=manifest, manifest_bytes=b"", directory=tmp_path)


def test_the_rows_of_a_request_choose_the_runtime_and_a_replay_names_it(package: Package) -> None:
    loaded: list[str] = []

    def loads(name: str, constant: float) -> Any:
        return lambda: loaded.append(name) or Adds(constant)

    predictor = Predictor(package, {"onnx": loads("onnx", 1.0), "native": loads("native", 2.0)}, native_from_rows=3)
    assert predictor.predict({"x": [0.0, 0.0]})["prediction"].tolist() == [1.0, 1.0]
    assert loaded == ["onnx"]  # what is not needed is not loaded
    assert [predictor.runtime_for(rows) for rows in (1, 2, 3, 1000)] == ["onnx", "onnx", "native", "native"]
    assert predictor.predict({"x": [0.0] * 3})["prediction"].tolist() == [2.0] * 3
    assert predictor.predict({"x": [0.0]}, "native")["prediction"].tolist() == [2.0]
    assert loaded == ["onnx", "native"]
    with pytest.raises(InvalidInputError, match="has no runtime 'gpu'"):
        predictor.predict_checked(check_columns(SIGNATURE, {"x": [0.0]}), "gpu")


def test_a_call_costs_a_part_of_its_own_and_a_part_for_each_row(package: Package) -> None:
    predictor = Predictor(package, {"native": lambda: Adds(0.0)})
    assert predictor.runtimes == ("native",) and predictor.runtime_for(10_000) == "native"
    [(fixed, per_row)] = predictor.cost_us.values()
    assert 0 <= fixed < np.inf and 0 <= per_row < np.inf
