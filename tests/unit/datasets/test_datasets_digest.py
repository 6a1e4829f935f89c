"""A table's identity covers every column and row, and nothing but content."""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from everline.datasets.arrow import BLOCK_ROWS, canonical_table
from everline.datasets.digest import digest, paths_digest
from everline.errors import InvalidInputError

ROWS = 20_000


def frame(rows: int = ROWS) -> pd.DataFrame:
    """Columns of the kinds that other tools skip: booleans, dates, categories, text."""
    numbers = np.arange(rows)
    return pd.DataFrame({
        "number": numbers.astype("float64"),
        "late": numbers % 3 == 0,
        "day": pd.Timestamp("2013-01-01") + pd.to_timedelta(numbers % 365, unit="D"),
        "carrier": pd.Categorical(np.where(numbers % 2 == 0, "UA", "AA")),
        "tail": pd.Series([f"N{n % 97}" for n in numbers], dtype="str"),
    })  # fmt: skip


def every_type() -> pa.Table:
    return pa.table({
        "int8": pa.array([1, None, 3], pa.int8()),
        "uint64": pa.array([1, None, 2**64 - 1], pa.uint64()),
        "bool": [True, None, False],
        "float16": pa.array([np.float16(1), None, np.float16(2)], pa.float16()),
        "float32": pa.array([1.5, None, 2.5], pa.float32()),
        "float64": [1.0, None, float("nan")],
        "text": ["x", None, "é"],
        "bytes": [b"a", None, b""],
        "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
        "date": [dt.date(2020, 1, 1), None, dt.date(2021, 1, 1)],
        "time": pa.array([dt.time(1), None, dt.time(2)], pa.time64("us")),
        "moment": pa.array([dt.datetime(2020, 1, 1), None, dt.datetime(2021, 1, 1, 1)], pa.timestamp("us")),
        "zoned": pa.array([0, None, 2], pa.timestamp("us", "UTC")),
        "span": pa.array([1, None, 3], pa.duration("s")),
        "money": pa.array([decimal.Decimal("1.5"), None, decimal.Decimal("-2.25")], pa.decimal128(10, 2)),
        "list": pa.array([[1, 2], None, []]),
        "struct": pa.array([{"p": 1, "q": "a"}, None, {"p": None, "q": "b"}]),
        "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
        "pair": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2)),
        "interval": pa.array([(1, 2, 3), None, (4, 5, 6)], pa.month_day_nano_interval()),
    })  # fmt: skip


def flip_boolean(data: pd.DataFrame) -> None:
    data["late"] = ~data["late"]


def flip_one_boolean_after_row_10_000(data: pd.DataFrame) -> None:
    data.loc[15_000, "late"] = not data.loc[15_000, "late"]


def move_all_dates_a_year(data: pd.DataFrame) -> None:
    data["day"] = data["day"] + pd.DateOffset(years=1)


def move_one_date_after_row_10_000(data: pd.DataFrame) -> None:
    data.loc[19_999, "day"] += pd.Timedelta(days=1)


def overwrite_second_half(data: pd.DataFrame) -> None:
    data.loc[10_000:, "number"] = 0.0


def change_one_category(data: pd.DataFrame) -> None:
    data.loc[12_345, "carrier"] = "UA" if data.loc[12_345, "carrier"] == "AA" else "AA"


def swap_two_rows(data: pd.DataFrame) -> None:
    data.iloc[[11_000, 11_001]] = data.iloc[[11_001, 11_000]].to_numpy()


def lose_one_value(data: pd.DataFrame) -> None:
    data.loc[18_000, "tail"] = None


def rename_column(data: pd.DataFrame) -> None:
    data.columns = [name.replace("tail", "tailnum") for name in data.columns]


@pytest.mark.parametrize(
    "change",
    [
        flip_boolean,
        flip_one_boolean_after_row_10_000,
        move_all_dates_a_year,
        move_one_date_after_row_10_000,
        overwrite_second_half,
        change_one_category,
        swap_two_rows,
        lose_one_value,
        rename_column,
    ],
)
def test_any_change_of_content_changes_the_digest(change: Any) -> None:
    before, after = frame(), frame()
    change(after)
    assert digest(before) != digest(after)


def test_a_change_of_type_changes_the_digest() -> None:
    table = pa.table({"n": [1, 2]})
    assert digest(table) != digest(table.cast(pa.schema([("n", pa.int32())])))
    assert digest(table) != digest(table.cast(pa.schema([("n", pa.string())])))


@pytest.mark.parametrize("name", every_type().column_names)
def test_every_type_sees_order_and_nulls(name: str) -> None:
    table = every_type().select([name])
    first, middle, last = table[name].to_pylist()
    kind = table.schema.field(name).type
    others = {
        digest(pa.table({name: pa.array(values, kind)})) for values in ([first, last, middle], [first, None, first])
    }
    assert len(others | {digest(table)}) == 3


@pytest.mark.parametrize(
    "again",
    [
        lambda table: pa.concat_tables([table.slice(0, 1), table.slice(1, 2)]),
        lambda table: pa.concat_tables([table, table]).slice(3),
        lambda table: pa.concat_tables([table, table]).combine_chunks().slice(3),
        lambda table: table.replace_schema_metadata({"written": "by another"}),
        lambda table: table.set_column(6, "text", table["text"].cast(pa.large_string())),
        lambda table: table.set_column(6, "text", table["text"].cast(pa.string_view())),
        lambda table: table.set_column(6, "text", table["text"].dictionary_encode()),
        lambda table: table.set_column(11, "moment", table["moment"].cast(pa.timestamp("ns"))),
        lambda table: table.set_column(11, "moment", table["moment"].cast(pa.timestamp("s"))),
        lambda table: table.set_column(12, "zoned", table["zoned"].cast(pa.timestamp("us", "America/New_York"))),
        canonical_table,
    ],
)
def test_the_way_of_writing_is_no_content(again: Any) -> None:
    table = every_type()
    assert digest(again(table)) == digest(table)


@pytest.mark.parametrize("make", [pa.timestamp, pa.duration])
@pytest.mark.parametrize(("seconds", "unit"), [(2**62, "s"), (2**50, "ms"), (2**40, "us")])
def test_times_far_away_are_read_in_a_unit_that_holds_them(make: Any, seconds: int, unit: str) -> None:
    table = pa.table({"t": pa.array([seconds, None, 0], make("s"))})
    read = canonical_table(table)
    assert (read["t"].type.unit, digest(read)) == (unit, digest(table))
    if unit != "s":
        assert canonical_table(table.cast(pa.schema([("t", make("ms"))]))).equals(read)


def test_garbage_under_nulls_is_no_content() -> None:
    clean = pa.array([1.0, None, 3.0])
    dirty = pa.Array.from_buffers(pa.float64(), 3, [clean.buffers()[0], pa.py_buffer(np.array([1.0, 7.0, 3.0]))])
    assert digest(pa.table({"a": dirty})) == digest(pa.table({"a": clean}))


def test_nan_has_one_form_and_is_not_null() -> None:
    quiet, other = np.array([0x7FF8000000000000, 0xFFF8000000000001], dtype="u8").view("f8")
    assert digest(pa.table({"a": pa.array([quiet], from_pandas=False)})) == digest(
        pa.table({"a": pa.array([other], from_pandas=False)})
    )
    assert digest(pa.table({"a": pa.array([quiet], from_pandas=False)})) != digest(
        pa.table({"a": pa.nulls(1, pa.float64())})
    )
    assert digest(pa.table({"a": [0.0]})) != digest(pa.table({"a": [-0.0]}))


def test_pandas_polars_and_arrow_of_one_table_agree() -> None:
    data = frame(100)
    assert digest(data) == digest(pl.from_pandas(data)) == digest(pa.Table.from_pandas(data))
    assert digest(pl.from_pandas(data).lazy()) == digest(data)


def test_rows_beyond_one_block_count() -> None:
    values = np.zeros(2 * BLOCK_ROWS + 10)
    before = digest(pa.table({"a": values}))
    for row in (BLOCK_ROWS - 1, BLOCK_ROWS, len(values) - 1):
        changed = values.copy()
        changed[row] = 1
        assert digest(pa.table({"a": changed})) != before


def test_the_same_table_of_another_writer_is_the_same(tmp_path: Path) -> None:
    table = canonical_table(pa.Table.from_pandas(frame()))
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    pq.write_table(table, tmp_path / "b.parquet", compression="gzip", row_group_size=999, use_dictionary=False)
    pl.from_arrow(table).write_parquet(tmp_path / "c.parquet")
    pyarrow.feather.write_feather(table, tmp_path / "d.feather")
    found = {digest(tmp_path / name) for name in ("a.parquet", "b.parquet", "c.parquet", "d.feather")}
    assert found == {digest(table)}


def test_a_file_that_is_no_self_describing_table_is_named_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n\n1\n")
    before = digest(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("n\n1.0\n")
    assert digest(tmp_path / "a.csv") != before
    assert digest(str(tmp_path)) == digest(tmp_path / "a.csv") == paths_digest([tmp_path])


@pytest.mark.parametrize("data", [3, None, {"a": [1]}, [1, 2]])
def test_what_is_no_table_and_no_path_is_refused(data: Any) -> None:
    with pytest.raises(InvalidInputError, match="neither a table nor a path"):
        digest(data)


def test_bad_tables_are_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="column a"):
        digest(pd.DataFrame({"a": [1, "x"]}))
    with pytest.raises(InvalidInputError, match="Two columns are named 'a'"):
        digest(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]))
    with pytest.raises(InvalidInputError, match="no canonical form"):
        digest(pa.table({"u": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])}))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InvalidInputError, match=r"broken\.parquet cannot be read"):
        digest(tmp_path / "broken.parquet")
    with pytest.raises(InvalidInputError, match="no file or folder"):
        digest(tmp_path / "nothing.parquet")


def test_an_empty_table_has_an_identity() -> None:
    empty = pa.table({"a": pa.array([], pa.string())})
    assert digest(empty) == digest(empty) != digest(pa.table({"a": pa.array([], pa.int64())}))
