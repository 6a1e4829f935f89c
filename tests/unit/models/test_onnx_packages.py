"""An ONNX model that somebody exported is packaged as it is, and answers columns by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from everline.errors import InvalidInputError
from everline.models.package import build_package
from everline.models.signature import ColumnType, Field, Signature

WEIGHTS = np.array([[1.0, -1.0], [0.5, 2.0]], np.float32)
SIGNATURE = Signature(
    inputs=[
        Field(name="a", type=ColumnType.DOUBLE, min=0, max=1),
        Field(name="b", type=ColumnType.DOUBLE, min=0, max=1),
    ]
)


def network(*, columns: int = 2, external: bool = False) -> onnx.ModelProto:
    """scores = X W, and the sum of each row."""
    weights = numpy_helper.from_array(np.resize(WEIGHTS, (columns, 2)), "W")
    if external:
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value="/etc/hostname")
        weights.ClearField("raw_data")
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["scores"]),
        helper.make_node("ReduceSum", ["X", "axes"], ["total"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["rows", columns])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 2]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, ["rows"]),
        ],
        [weights, numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_network_answers_columns_by_name(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "network.onnx")
    built = build_package(tmp_path / "network.onnx", flavor="onnx", signature=SIGNATURE, out_dir=tmp_path / "p")
    assert [one.name for one in built.manifest.signature.outputs] == ["scores_0", "scores_1", "total"]
    predictor = built.load()
    answer = predictor.predict({"a": [1.0, 0.25], "b": [2.0, 0.5]})
    expected = np.array([[1.0, 2.0], [0.25, 0.5]], np.float32) @ WEIGHTS
    assert answer["scores_1"].tolist() == expected[:, 1].tolist() and answer["total"].tolist() == [3.0, 0.75]
    assert predictor.runtimes == ("native",)
    again = build_package(network(), flavor="onnx", signature=SIGNATURE, out_dir=tmp_path / "again")
    assert again.digest == built.digest


def test_what_is_no_table_or_no_single_file_is_refused(tmp_path: Path) -> None:
    for model, why in (
        (network(external=True), "weights in other files"),
        (network(columns=3), "fitted on 3 columns, but the signature has 2"),
        (b"no model", "no ONNX model"),
    ):
        with pytest.raises(InvalidInputError, match=why):
            build_package(model, flavor="onnx", signature=SIGNATURE, out_dir=tmp_path / why)
