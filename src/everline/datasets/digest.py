"""Identity of data: `digest(table_or_path)`.

A table's digest is that of its canonical manifest: for each column its name, type and the digest of all its rows.
A file's or folder's digest is that of the manifest of its files. A path that is one Parquet or Arrow file is a table:
`digest("a.parquet") == digest(pyarrow.parquet.read_table("a.parquet"))`, whoever wrote the file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from everline.datasets.arrow import column_digest, type_name
from everline.datasets.formats import is_table_file, table_format
from everline.datasets.manifest import files_digest, find, scan, table_manifest
from everline.datasets.reading import Columns, TableColumns, open_columns
from everline.errors import InvalidInputError
from everline.ids import digest_bytes

_THREADS_MAX = 8


def digest(data: Any) -> str:
    """Name data by its content.

    Args:
        data: a pandas, polars or pyarrow table, or the path of a file or folder.

    Returns:
        `sha256:` and 64 hexadecimal digits; for a path the `digest` that `everline data add NAME PATH` gives it.

    Raises:
        InvalidInputError: no table and no path, nothing at the path, or a column without a canonical form.

    Example:
        >>> flights = pa.table({"carrier": ["UA", "AA"], "late": [True, False]})
        >>> digest(flights)[:17], digest(flights) == digest(flights.slice(0))
        ('sha256:b7b6e4894d', True)
    """
    if isinstance(data, str | os.PathLike):
        return paths_digest([data])
    return columns_digest(TableColumns(to_arrow(data)))


def paths_digest(paths: Sequence[str | os.PathLike[str]]) -> str:
    """Name files and folders by their content, as `everline data add NAME PATH…` does."""
    sources = find(paths)
    kind = table_format(list(sources))
    if kind is not None and is_table_file(list(sources)):
        return columns_digest(open_columns(list(sources.values()), kind))
    return files_digest(scan(paths).files)


def table_digest(table: pa.Table) -> str:
    """The logical digest of an Arrow table."""
    return columns_digest(TableColumns(table))


def columns_digest(columns: Columns) -> str:
    """The logical digest of a table that gives its columns one at a time."""

    def row(index: int) -> tuple[str, Any, str]:
        column = columns.column(index)
        return columns.names[index], type_name(column.type), column_digest(column)

    with ThreadPoolExecutor(min(_THREADS_MAX, os.cpu_count() or 1)) as pool:
        return digest_bytes(table_manifest(columns.rows, pool.map(row, range(len(columns.names)))))


def to_arrow(data: Any) -> pa.Table:
    """Make an Arrow table of a pandas, polars or pyarrow table.

    pandas marks a missing number by NaN: it becomes a null. An index other than 0, 1, 2, … becomes a column.

    Raises:
        InvalidInputError: not a table, or a column of mixed types.
    """
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    library = type(data).__module__.partition(".")[0]
    try:
        if library == "pandas" and type(data).__name__ == "DataFrame":
            return pa.Table.from_pandas(data)
        if library == "polars" and type(data).__name__ == "LazyFrame":
            return data.collect().to_arrow()
        if hasattr(data, "__arrow_c_stream__"):
            return pa.table(data)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"This table has no Arrow form: {str(error).splitlines()[0][:300]}",
            hint="Give every column values of one type.",
        ) from error
    raise InvalidInputError(
        f"A {type(data).__name__} is neither a table nor a path.",
        hint="Give a pandas, polars or pyarrow table, or the path of a file or folder.",
    )
