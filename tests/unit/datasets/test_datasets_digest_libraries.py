"""One table in three libraries has one digest, also where their types are not the same; and what no table can be."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from everline.datasets.digest import digest
from everline.datasets.reading import COLUMNS_MAX
from everline.errors import InvalidInputError

MOMENTS = [dt.datetime(2013, 1, 1, 5), None, dt.datetime(2013, 6, 1, 12, 30)]
NEW_YORK = "America/New_York"
SHAPE = pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))])
SHAPES = [{"a": 1, "b": ["x", None]}, None, {"a": None, "b": []}]


@pytest.mark.parametrize(
    ("arrow", "pandas", "polars"),
    [
        pytest.param(pa.array([1, None, 3], pa.int32()), pd.array([1, None, 3], dtype="Int32"),
                     pl.Series([1, None, 3], dtype=pl.Int32), id="integers that may be missing"),
        pytest.param(pa.array([True, None]), pd.array([True, None], dtype="boolean"), pl.Series([True, None]),
                     id="booleans that may be missing"),
        pytest.param(pa.array([1.5, None]), pd.array([1.5, float("nan")]), pl.Series([1.5, None]), id="numbers"),
        pytest.param(pa.array(["UA", None, ""]), pd.array(["UA", None, ""], dtype="string"),
                     pl.Series(["UA", None, ""]), id="texts"),
        pytest.param(pa.array(["UA", "AA", "UA"]).dictionary_encode(), pd.Categorical(["UA", "AA", "UA"]),
                     pl.Series(["UA", "AA", "UA"], dtype=pl.Categorical), id="categories"),
        pytest.param(pa.array(MOMENTS, pa.timestamp("s")), pd.array(MOMENTS, dtype="datetime64[ns]"),
                     pl.Series(MOMENTS, dtype=pl.Datetime("ms")), id="moments in three units"),
        pytest.param(pa.array(MOMENTS, pa.timestamp("us", "UTC")),
                     pd.Series(MOMENTS).dt.tz_localize("UTC").dt.tz_convert(NEW_YORK),
                     pl.Series(MOMENTS, dtype=pl.Datetime("us", "UTC")).dt.convert_time_zone("Asia/Tokyo"),
                     id="instants in three zones"),
        pytest.param(pa.array([Decimal("1.50"), None], pa.decimal128(38, 2)),
                     pd.array([Decimal("1.50"), None], dtype=pd.ArrowDtype(pa.decimal128(38, 2))),
                     pl.Series([Decimal("1.50"), None], dtype=pl.Decimal(38, 2)), id="decimals"),
        pytest.param(pa.array([[1, 2], None, []], pa.list_(pa.int64())),
                     pd.array([[1, 2], None, []], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
                     pl.Series([[1, 2], None, []], dtype=pl.List(pl.Int64)), id="lists"),
        pytest.param(pa.array(SHAPES, SHAPE), pd.array(SHAPES, dtype=pd.ArrowDtype(SHAPE)),
                     pl.Series(SHAPES, dtype=pl.Struct({"a": pl.Int64, "b": pl.List(pl.String)})), id="structs"),
        pytest.param(pa.array([], pa.int8()), pd.array([], dtype="int8"), pl.Series([], dtype=pl.Int8), id="no rows"),
    ],
)  # fmt: skip
def test_one_column_in_three_libraries_has_one_digest(arrow: pa.Array, pandas: Any, polars: pl.Series) -> None:
    found = {digest(pa.table({"v": arrow})), digest(pd.DataFrame({"v": pandas})), digest(polars.to_frame("v"))}
    assert len(found) == 1


def test_a_missing_integer_is_not_what_pandas_makes_of_it_without_nullable_types() -> None:
    exact = 2**53 + 1
    nullable, floats = pd.DataFrame({"n": pd.array([exact, None], dtype="Int64")}), pd.DataFrame({"n": [exact, None]})
    assert digest(nullable) == digest(pa.table({"n": [exact, None]})) != digest(floats)


def test_a_moment_with_a_zone_is_not_the_same_reading_of_a_clock() -> None:
    utc, local = (pd.DataFrame({"t": pd.Series(MOMENTS).dt.tz_localize(zone)}) for zone in ("UTC", NEW_YORK))
    naive = pd.DataFrame({"t": pd.Series(MOMENTS)})
    assert len({digest(utc), digest(local), digest(naive)}) == 3


def test_moving_a_value_between_neighbours_of_nested_columns_counts() -> None:
    lists = [[[1], [2, 3]], [[1, 2], [3]], [[1, 2, 3], []], [[], [1, 2, 3]]]
    assert len({digest(pa.table({"v": pa.array(value, pa.list_(pa.int64()))})) for value in lists}) == 4
    shape = pa.struct([("a", pa.string()), ("b", pa.string())])
    structs = [[{"a": "x", "b": "yz"}], [{"a": "xy", "b": "z"}], [{"a": None, "b": None}], [None]]
    assert len({digest(pa.table({"v": pa.array(value, shape)})) for value in structs}) == 4


def test_order_and_number_of_columns_and_rows_count() -> None:
    table = pa.table({"a": [1, 2], "b": [1, 2]})
    others = [
        table.select(["b", "a"]), table.select(["a"]), table.slice(0, 1), table.slice(0, 0),
        table.rename_columns(["a", "B"]), table.append_column("c", pa.nulls(2)), pa.table({}),
    ]  # fmt: skip
    assert len({digest(other) for other in [table, *others]}) == 8


def test_equal_column_names_are_refused_in_every_library() -> None:
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    for table in (twice, pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])):
        with pytest.raises(InvalidInputError, match=r"'a'|[Dd]uplicate"):
            digest(table)


def test_a_very_wide_table_is_seen_to_its_last_column_and_a_wider_one_is_refused() -> None:
    one, other = pa.array([1]), pa.array([2])
    names = [f"c{n}" for n in range(COLUMNS_MAX + 1)]
    wide = pa.Table.from_arrays([one] * 2_000, names=names[:2_000])
    assert digest(wide) != digest(wide.set_column(1_999, names[1_999], other))
    with pytest.raises(InvalidInputError, match=f"the most is {COLUMNS_MAX}"):
        digest(pa.Table.from_arrays([one] * len(names), names=names))
