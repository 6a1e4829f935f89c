"""Tables written as Parquet so that a changed copy shares most pages with the one before.

Pages end where their content says and not after so many rows, so that rows that are inserted or removed move the pages
with them. That holds within a row group only, so there is one; and not beside a dictionary, whose numbers
depend on everything before, so that only columns of few different values have one.

Source: arrow.apache.org, "Content-defined chunking" of the Parquet writer.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from everline.errors import InvalidInputError
from everline.loader import load

_GROUP_ROWS_MAX = 64 << 20
_CHUNK_BYTES_MIN = 64 << 10
_CHUNK_BYTES_MAX = 256 << 10
_DICTIONARY_VALUES_MAX = 1_000
_SAMPLE_ROWS = 100_000


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet; equal tables make equal files with the same version of Arrow.

    Args:
        table: as `canonical_table` gives it: one chunk a column.

    Raises:
        InvalidInputError: a column has moments that Parquet cannot hold.
    """
    _refuse_far_moments(table)
    load("pyarrow.parquet").write_table(
        table,
        path,
        compression="zstd",
        row_group_size=_GROUP_ROWS_MAX,
        use_dictionary=[name for name in table.column_names if _has_few_values(table.column(name))],
        use_content_defined_chunking={"min_chunk_size": _CHUNK_BYTES_MIN, "max_chunk_size": _CHUNK_BYTES_MAX},
        data_page_size=1 << 30,  # pages end nowhere else
        max_rows_per_page=_GROUP_ROWS_MAX,
    )


def _refuse_far_moments(table: pa.Table) -> None:
    """Parquet counts milliseconds or finer. Where these overflow, Arrow's writer ends the whole process."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        finer = _in_milliseconds(column.type)
        if finer == column.type:
            continue
        try:
            column.cast(finer)
        except pa.ArrowInvalid:
            raise InvalidInputError(
                f"The column {name!r} has moments more than 292 million years away, which Parquet cannot hold.",
                hint="Replace them by missing values, or keep the numbers of seconds.",
                field=name,
            ) from None


def _in_milliseconds(kind: pa.DataType) -> pa.DataType:
    """The type with milliseconds for the seconds of its timestamps, at any depth."""
    types = pa.types
    if types.is_timestamp(kind):
        return pa.timestamp("ms", kind.tz) if kind.unit == "s" else kind
    if types.is_struct(kind):
        return pa.struct([field.with_type(_in_milliseconds(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(_in_milliseconds(kind.key_type), _in_milliseconds(kind.item_type))
    for matches, make in ((types.is_list, pa.list_), (types.is_large_list, pa.large_list)):
        if matches(kind):
            return make(kind.value_field.with_type(_in_milliseconds(kind.value_type)))
    if types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_in_milliseconds(kind.value_type)), kind.list_size)
    return kind


def _has_few_values(column: pa.ChunkedArray) -> bool:
    """Texts of few different values, as far as the first rows tell."""
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_binary(kind)):
        return False
    return bool(pc.count_distinct(column.slice(0, _SAMPLE_ROWS)).as_py() <= _DICTIONARY_VALUES_MAX)
