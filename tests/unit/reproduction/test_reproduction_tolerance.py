"""How far apart two results are."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from everline.reproduction.tolerance import largest_difference


def table(data: dict[str, Any]) -> dict[str, bytes]:
    sink = pa.BufferOutputStream()
    made = pa.table(data)
    with pa.ipc.new_file(sink, made.schema) as writer:
        writer.write_table(made)
    return {"table.arrow": sink.getvalue().to_pybytes()}


def array(values: Any) -> dict[str, bytes]:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values))
    return {"array.npy": buffer.getvalue()}


def value(data: Any) -> dict[str, bytes]:
    return {"value.json": msgspec.json.encode(data)}


@pytest.mark.parametrize(
    ("kind", "before", "after", "expected"),
    [
        ("table", table({"a": [1.0, None]}), table({"a": [1.0, None]}), 0.0),
        ("table", table({"a": [1.0, 2.0]}), table({"a": [1.0, 2.5]}), 0.2),
        ("table", table({"a": [1.0]}), table({"a": [1.0, 1.0]}), None),
        ("table", table({"a": [1.0, None]}), table({"a": [None, 1.0]}), None),
        ("table", table({"a": ["x"]}), table({"a": ["y"]}), None),
        ("table", table({"a": [1]}), table({"a": [1.0]}), None),
        ("array", array([1.0, np.nan]), array([1.0, np.nan]), 0.0),
        ("array", array([1.0, np.inf]), array([1.0, 2.0]), None),
        ("array", array([4.0]), array([5.0]), 0.2),
        ("array", array(["a"]), array(["b"]), None),
        ("json", value({"auc": 0.8, "n": [1]}), value({"auc": 0.8, "n": [1]}), 0.0),
        ("json", value({"auc": 0.8}), value({"auc": 1.0}), pytest.approx(0.2)),
        ("json", value({"auc": 0.8}), value({"auc": 0.8, "x": 1}), None),
        ("json", value(True), value(1), None),
        ("json", value(None), value(None), 0.0),
        ("model", {"m": b"a"}, {"m": b"b"}, None),
    ],
)
def test_largest_difference(kind: str, before: dict[str, bytes], after: dict[str, bytes], expected: Any) -> None:
    assert largest_difference(kind, before, after) == expected
