"""Turn a pandas, polars or pyarrow table into plain columns; types come first, and no column can abort a report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from everline.errors import InvalidInputError
from everline.monitoring.profiles import FloatArray

Kind = Literal["number", "category", "boolean", "time", "none", "other"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column as the tests need it.

    Attributes:
        kind: what its values are; "none" when every row is missing, "other" for lists, structs and the like.
        rows: all rows.
        missing: rows that are null or NaN.
        strays: rows of another type than `kind`, such as a text among numbers.
        numbers: float64 values of kinds number and time, without missing rows and strays; else empty.
        texts: text values of kinds category and boolean, without missing rows and strays; else empty.
    """

    kind: Kind
    rows: int
    missing: int
    strays: int
    numbers: FloatArray
    texts: pa.Array

    @property
    def present(self) -> int:
        """Rows with a value of the column's own kind."""
        return self.rows - self.missing - self.strays


def columns_of(table: Any, *, side: str) -> dict[str, Column]:
    """Return the columns of a pandas, polars or pyarrow table (or of a mapping of lists), by name.

    Args:
        table: the table.
        side: "reference" or "current", for the error.

    Raises:
        InvalidInputError: it is no table, or two of its columns share a name.
    """
    names: list[str] = []
    columns: dict[str, Column] = {}
    for name, values in named_columns(table, side=side):
        names.append(name)
        columns[name] = column_of(values)
    if len(columns) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInputError(
            f"The {side} table has two columns named {twice!r}.", hint="Give every column its own name.", field=twice
        )
    return columns


def column_of(values: Any) -> Column:
    """Return one column from an Arrow array, a pandas series or a list, whatever is in it."""
    array = arrow_of(values)
    return _from_objects(list(values)) if array is None else _from_arrow(array.combine_chunks())


def arrow_of(values: Any) -> pa.ChunkedArray | None:
    """Return a column as Arrow has it, without a copy where it is Arrow; None where its values have several types."""
    if isinstance(values, pa.ChunkedArray):
        return values
    if not isinstance(values, pa.Array):
        try:
            values = pa.array(values, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError, OverflowError, UnicodeError):
            return None
    return values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])


def as_kind(column: Column, kind: Kind) -> Column:
    """Read a column as another kind where that loses nothing (0/1 as a boolean and back); else return it as it is."""
    if column.kind == "boolean" and kind == "number":
        numbers = (pc.equal(column.texts, "true")).to_numpy(zero_copy_only=False).astype(np.float64)
        return Column("number", column.rows, column.missing, column.strays, numbers, _NO_TEXTS)
    if column.kind == "number" and kind == "boolean" and bool(np.isin(column.numbers, (0.0, 1.0)).all()):
        texts = pa.array(np.where(column.numbers == 1.0, "true", "false").tolist(), type=pa.string())
        return Column("boolean", column.rows, column.missing, column.strays, _NO_NUMBERS, texts)
    return column


def blocks_of(table: Any, *, by: str, side: str) -> list[dict[str, Column]]:
    """Cut a table into blocks of rows that share a value of column `by`; return the other columns of each block.

    Blocks come in the order of their first row; rows without a value of `by` are left out.

    Raises:
        InvalidInputError: it is no table, or has no column `by`.
    """
    named = dict(named_columns(table, side=side))
    if by not in named:
        raise InvalidInputError(
            f"The {side} has no column {by!r} to cut it into blocks.", hint=f"It has: {', '.join(named)}.", field=by
        )
    labels = named.pop(by)
    if isinstance(labels, pa.ChunkedArray):
        labels = labels.combine_chunks()
    if not isinstance(labels, pa.Array):
        labels = pa.array(labels, from_pandas=True)
    encoded = labels if pa.types.is_dictionary(labels.type) else labels.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(encoded.dictionary) + 1))
    blocks: list[dict[str, Column]] = [{} for _ in range(len(encoded.dictionary))]
    for name, values in named.items():
        sorted_values = _taken(values, order)
        for position, block in enumerate(blocks):
            block[name] = column_of(sorted_values[int(bounds[position]) : int(bounds[position + 1])])
    return blocks


def pooled(columns: Sequence[Column]) -> Column:
    """Put the blocks of one column together again; its kind is the one that most rows have."""
    present: dict[Kind, int] = {}
    for column in columns:
        present[column.kind] = present.get(column.kind, 0) + (column.present if column.kind != "none" else 0)
    kind: Kind = max(present, key=lambda one: present[one]) if any(present.values()) else "none"
    same = [column for column in columns if column.kind == kind]
    rows, missing = sum(column.rows for column in columns), sum(column.missing for column in columns)
    kept = sum(column.present for column in same)
    numbers = np.concatenate([column.numbers for column in same]) if same else _NO_NUMBERS
    texts = pa.concat_arrays([column.texts for column in same]) if same else _NO_TEXTS
    return Column(kind, rows, missing, rows - missing - kept if kind != "none" else 0, numbers, texts)


_NO_NUMBERS: FloatArray = np.empty(0, dtype=np.float64)
_NO_TEXTS = pa.nulls(0, pa.string())  # pa.array would import pandas here


def named_columns(table: Any, *, side: str) -> list[tuple[str, Any]]:
    """Return the columns of a table by name, as they are.

    Raises:
        InvalidInputError: it is no table.
    """
    if hasattr(table, "to_arrow") and not isinstance(table, pa.Table):
        table = table.to_arrow()
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    if isinstance(table, pa.Table):
        return list(zip(table.column_names, table.columns, strict=True))
    if hasattr(table, "iloc") and hasattr(table, "columns"):
        return [(str(name), table.iloc[:, position]) for position, name in enumerate(table.columns)]
    if isinstance(table, Mapping):
        return [(str(name), values) for name, values in table.items()]
    raise InvalidInputError(
        f"The {side} is a {type(table).__name__}, not a table.",
        hint="Pass a pandas or polars DataFrame or a pyarrow Table.",
        field=side,
    )


def _taken(values: Any, order: npt.NDArray[np.int64]) -> Any:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return values.take(pa.array(order))
    if hasattr(values, "iloc"):
        return values.iloc[order]
    return [values[int(position)] for position in order]


def _from_arrow(array: pa.Array) -> Column:
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    rows = len(array)
    if array.null_count == rows:
        # An empty column of a declared type is still of that type; a column of nulls says nothing about its type.
        return Column("none", rows, rows, 0, _NO_NUMBERS, _NO_TEXTS)
    if pa.types.is_boolean(kind):
        texts = pc.cast(array.drop_null(), pa.string())
        return Column("boolean", rows, array.null_count, 0, _NO_NUMBERS, texts)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _numbers("number", array)
    if pa.types.is_temporal(kind):
        return _times(array)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        texts = pc.cast(array.drop_null(), pa.string())
        return Column("category", rows, array.null_count, 0, _NO_NUMBERS, texts)
    return Column("other", rows, array.null_count, 0, _NO_NUMBERS, _NO_TEXTS)


def _numbers(kind: Kind, array: pa.Array) -> Column:
    rows = len(array)
    floats = pc.cast(array.drop_null(), pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    values: FloatArray = floats[~np.isnan(floats)]
    missing = rows - len(values)
    if len(values) == 0:
        return Column("none", rows, missing, 0, _NO_NUMBERS, _NO_TEXTS)
    return Column(kind, rows, missing, 0, values, _NO_TEXTS)


def _times(array: pa.Array) -> Column:
    kind = array.type
    if (
        pa.types.is_timestamp(kind)
        or pa.types.is_date64(kind)
        or pa.types.is_duration(kind)
        or pa.types.is_time64(kind)
    ):
        return _numbers("time", array.cast(pa.int64(), safe=False) if not pa.types.is_interval(kind) else array)
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return _numbers("time", array.cast(pa.int32()))
    return Column("other", len(array), array.null_count, 0, _NO_NUMBERS, _NO_TEXTS)


def _from_objects(values: list[Any]) -> Column:
    """A column that holds values of several types: the majority is its type, the rest are strays."""
    numbers: list[float] = []
    texts: list[str] = []
    missing = strays = 0
    for value in values:
        if _is_missing(value):
            missing += 1
        elif isinstance(value, bool | str | bytes):
            texts.append(value if isinstance(value, str) else str(value))
        else:
            try:
                numbers.append(float(value))
            except (TypeError, ValueError, OverflowError):
                strays += 1
    rows = len(values)
    if len(numbers) >= len(texts) and numbers:
        array = np.asarray(numbers, dtype=np.float64)
        return Column("number", rows, missing, strays + len(texts), array, _NO_TEXTS)
    if texts:
        kept = [text.encode("utf-8", "replace").decode() for text in texts]
        return Column("category", rows, missing, strays + len(numbers), _NO_NUMBERS, pa.array(kept, type=pa.string()))
    return Column("none" if missing == rows else "other", rows, missing, 0, _NO_NUMBERS, _NO_TEXTS)


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return type(value).__name__ in ("NAType", "NaTType")
