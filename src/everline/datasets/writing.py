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
    """
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


def _has_few_values(column: pa.ChunkedArray) -> bool:
    """Texts of few different values, as far as the first rows tell."""
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_binary(kind)):
        return False
    return bool(pc.count_distinct(column.slice(0, _SAMPLE_ROWS)).as_py() <= _DICTIONARY_VALUES_MAX)
