"""A call is checked against the signature: refused with the field's name, flagged, or answered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from everline.errors import InvalidInputError
from everline.models.signature import (
    ColumnType,
    Field,
    Signature,
    SignatureError,
    check_columns,
    example_columns,
)
from everline.models.signature_inference import infer_signature

EVERY_TYPE = Signature(
    inputs=[
        Field(name="distance", type=ColumnType.DOUBLE, nullable=True, min=80.0, max=4983.0),
        Field(name="temp", type=ColumnType.FLOAT, min=-20.0, max=110.0),
        Field(name="hour", type=ColumnType.INTEGER, min=5.0, max=23.0),
        Field(name="tail", type=ColumnType.LONG, nullable=True),
        Field(name="carrier", type=ColumnType.STRING, categories=["AA", "UA"]),
        Field(name="weekend", type=ColumnType.BOOLEAN),
        Field(name="at", type=ColumnType.DATETIME),
    ]
)
GOOD: dict[str, list[Any]] = {
    "distance": [100, None],
    "temp": [1.5, 2],
    "hour": [5, 6],
    "tail": [None, 7],
    "carrier": ["AA", "UA"],
    "weekend": [True, False],
    "at": ["2013-06-01T05:00:00Z", "2013-06-01T05:00:00+02:00"],
}


def test_a_good_call_becomes_typed_arrays_and_values_that_can_be_written_down() -> None:
    checked = check_columns(EVERY_TYPE, GOOD)
    assert checked.rows == 2
    assert checked.flags == []
    assert [array.dtype.str for array in checked.arrays.values()] == [
        "<f8", "<f4", "<i4", "<f8", "|O", "|b1", "<M8[us]",
    ]  # fmt: skip
    assert np.isnan(checked.arrays["distance"][1])
    assert checked.values["distance"] == [100, None]
    assert checked.values["at"] == [1370062800000000, 1370055600000000]
    again = check_columns(
        EVERY_TYPE, {**checked.values, "at": [datetime.fromtimestamp(v / 1e6, UTC) for v in checked.values["at"]]}
    )
    for name, array in checked.arrays.items():
        assert array.tobytes() == again.arrays[name].tobytes() or array.dtype.kind == "O"


@pytest.mark.parametrize(
    ("column", "values", "problem", "says"),
    [
        ("distance", ["far", 1.0], "type", r"'distance' must be of type double: row 0 holds 'far'"),
        ("distance", [True, 1.0], "type", "row 0 holds True"),
        ("distance", [[1.0], 1.0], "type", "row 0 holds"),
        ("distance", [float("inf"), 1.0], "type", "finite"),
        ("distance", [10**400, 1.0], "type", "finite"),
        ("temp", [1.0, 1e300], "type", "row 1 holds 1e"),
        ("temp", [1.0, None], "null", "may not be null: row 1"),
        ("temp", [float("nan"), 1.0], "nan", "may not be NaN: row 0"),
        ("hour", [5, 6.5], "type", "row 1 holds 6.5"),
        ("hour", [5, 1 << 31], "type", "fit type integer"),
        ("tail", [1 << 63, 1], "type", "fit type long"),
        ("carrier", [3, "AA"], "type", "row 0 holds 3"),
        ("carrier", [None, None], "null", r"row 0 holds None \(and 1 more rows\)"),
        ("weekend", [1, 0], "type", "row 0 holds 1"),
        ("at", ["yesterday", "2013-01-01"], "type", "must be a time: row 0"),
        ("at", [0, 1], "type", "row 0 holds 0"),
        ("hour", [5], "length", "has 1 values where the columns before it have 2"),
    ],
)
def test_a_wrong_value_is_refused_with_field_and_row(column: str, values: list[Any], problem: str, says: str) -> None:
    with pytest.raises(SignatureError, match=says) as caught:
        check_columns(EVERY_TYPE, {**GOOD, column: values})
    assert caught.value.field == column
    assert caught.value.findings[0].problem == problem
    assert caught.value.hint


def test_missing_and_unknown_columns_are_named() -> None:
    call = {name: values for name, values in GOOD.items() if name != "hour"} | {"dep_delay": [1, 2]}
    with pytest.raises(SignatureError, match=r"no input 'dep_delay'.*'hour' is missing") as caught:
        check_columns(EVERY_TYPE, call)
    assert [finding.problem for finding in caught.value.findings] == ["unknown", "missing"]


def test_an_unknown_column_can_be_ignored_and_is_flagged_then() -> None:
    checked = check_columns(EVERY_TYPE, {**GOOD, "dep_delay": [1, 2]}, ignore_unknown=True)
    assert [flag.problem for flag in checked.flags] == ["unknown"]
    assert "dep_delay" not in checked.arrays


def test_what_lies_outside_of_the_training_data_is_flagged_and_answered() -> None:
    checked = check_columns(EVERY_TYPE, {**GOOD, "distance": [100, 7000.5], "carrier": ["AA", "ZZ"]})
    assert [(flag.field, flag.problem, flag.row, flag.count) for flag in checked.flags] == [
        ("distance", "range", 1, 1),
        ("carrier", "category", 1, 1),
    ]


def test_made_up_rows_fit_the_signature_and_never_change() -> None:
    rows = example_columns(EVERY_TYPE, rows=20)
    assert rows == example_columns(EVERY_TYPE, rows=20)
    checked = check_columns(EVERY_TYPE, rows)
    assert checked.rows == 20
    assert checked.flags == []
    assert None in rows["distance"]


@pytest.mark.parametrize("form", ["pandas", "polars", "arrow", "mapping"])
def test_a_signature_is_read_off_any_table(form: str) -> None:
    columns: dict[str, Any] = {
        "distance": np.array([80.0, np.nan, 4983.0]),
        "hour": np.array([5, 6, 7], dtype=np.int64),
        "carrier": ["UA", "AA", "UA"],
        "weekend": [True, False, True],
        "at": [datetime(2013, 1, day, tzinfo=UTC) for day in (1, 2, 3)],
    }
    table = {
        "pandas": pd.DataFrame,
        "polars": pl.DataFrame,
        "arrow": lambda values: pa.table({k: pa.array(v) for k, v in values.items()}),
        "mapping": dict,
    }[form](columns)
    inferred = infer_signature(table)
    assert inferred.inputs == [
        Field(name="distance", type=ColumnType.DOUBLE, nullable=True, min=80.0, max=4983.0),
        Field(name="hour", type=ColumnType.LONG, min=5.0, max=7.0),
        Field(name="carrier", type=ColumnType.STRING, categories=["AA", "UA"]),
        Field(name="weekend", type=ColumnType.BOOLEAN),
        Field(name="at", type=ColumnType.DATETIME),
    ]


def test_nullable_columns_can_be_named_before_a_null_was_seen() -> None:
    inferred = infer_signature({"a": [1.0], "b": [1.0]}, nullable=["b"])
    assert [field.nullable for field in inferred.inputs] == [False, True]
    with pytest.raises(InvalidInputError, match="no column 'c'"):
        infer_signature({"a": [1.0]}, nullable=["c"])


def test_a_column_that_no_signature_can_carry_is_named() -> None:
    with pytest.raises(InvalidInputError, match="Column 'a' has the type list"):
        infer_signature({"a": [[1], [2]]})
