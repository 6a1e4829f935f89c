"""Tables from files: which files are tables, and their columns one at a time, so that memory holds one column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import pyarrow as pa

from everline.datasets.arrow import type_name
from everline.errors import InvalidInputError
from everline.loader import load

T = TypeVar("T")

COLUMNS_MAX = 10_000
# One block as large as the file, if the reader allows: types are guessed from every row, not from the first megabyte.
_CSV_BLOCK_BYTES_MAX = 2**31 - 1


class Columns(Protocol):
    """A table that gives its columns one at a time."""

    names: list[str]
    rows: int

    def column(self, index: int) -> pa.ChunkedArray:
        """Column `index`, all rows."""


class TableColumns:
    """The columns of a table in memory."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.names = list(table.column_names)
        self.rows = table.num_rows
        check_columns(table.schema)

    def column(self, index: int) -> pa.ChunkedArray:
        return self._table.column(index)


class ParquetColumns:
    """The columns of one or more Parquet files of equal schema, read when asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        opened = [load("pyarrow.parquet").ParquetFile(path, memory_map=True) for path in paths]
        self._files = [(path, file.metadata) for path, file in zip(paths, opened, strict=True)]
        schema = opened[0].schema_arrow
        for path, file in zip(paths, opened, strict=True):
            if not file.schema_arrow.equals(schema):
                raise _other_columns(path, paths[0])
            file.close()
        self.names = list(schema.names)
        self._types = list(schema.types)
        self.rows = sum(metadata.num_rows for _, metadata in self._files)
        check_columns(schema)

    def column(self, index: int) -> pa.ChunkedArray:
        name, chunks = self.names[index], []
        for path, metadata in self._files:
            # A reader of its own: several threads read columns at the same time.
            with load("pyarrow.parquet").ParquetFile(path, metadata=metadata, memory_map=True) as file:
                # A name with a dot may mean a part of another column too: what comes is asked for its name again.
                read = file.read(columns=[name], use_threads=False)
                chunks += read.column(read.column_names.index(name)).chunks
        return pa.chunked_array(chunks, self._types[index])


def open_columns(paths: Sequence[Path], kind: str) -> Columns:
    """Open files of one format and one schema as one table, in the order given.

    Raises:
        InvalidInputError: a file is damaged, or its columns are not those of the first.
    """
    if kind != "parquet":
        return TableColumns(read_table(paths, kind))
    return _reading(paths, lambda: ParquetColumns(paths))


def read_table(paths: Sequence[Path], kind: str) -> pa.Table:
    """Read files of one format and one schema as one table.

    Raises:
        InvalidInputError: a file is damaged, or its columns are not those of the first.
    """
    tables = [_reading([path], partial(_READERS[kind], path)) for path in paths]
    first = tables[0].schema
    for path, table in zip(paths, tables, strict=True):
        if not table.schema.equals(first):
            raise _other_columns(path, paths[0])
    return pa.concat_tables(tables)


def _other_columns(path: Path, first: Path) -> InvalidInputError:
    return InvalidInputError(
        f"The columns of {path.name} are not those of {first.name}.",
        hint="Add files of another schema as a dataset of their own.",
    )


def check_columns(schema: pa.Schema) -> None:
    """Refuse tables that cannot be named or digested: equal column names, too many columns, unknown types."""
    names = schema.names
    if len(names) > COLUMNS_MAX:
        raise InvalidInputError(f"The table has {len(names)} columns; the most is {COLUMNS_MAX}.")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInputError(
            f"Two columns are named {twice!r}.", hint="Rename one of them, then try again.", field=twice
        )
    for field in schema:
        type_name(field.type)


def _read_parquet(path: Path) -> pa.Table:
    table: pa.Table = load("pyarrow.parquet").read_table(path, partitioning=None)
    return table


def _read_arrow(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        if source.read(6) == b"ARROW1":
            return pa.ipc.open_file(source).read_all()
        source.seek(0)
        return pa.ipc.open_stream(source).read_all()


def _read_csv(path: Path, delimiter: str = ",") -> pa.Table:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    data = pa.BufferReader(pa.input_stream(path, compression="gzip").read()) if packed else pa.memory_map(str(path))
    block_bytes = min(_CSV_BLOCK_BYTES_MAX, max(data.size(), 1) + 1)
    csv = load("pyarrow.csv")
    table: pa.Table = csv.read_csv(
        data,
        read_options=csv.ReadOptions(block_size=block_bytes),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        # An unquoted NA or nothing is missing, in text columns too; a quoted "NA" is the text.
        convert_options=csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False),
    )
    return table


def _read_tsv(path: Path) -> pa.Table:
    return _read_csv(path, "\t")


_READERS = {"parquet": _read_parquet, "arrow": _read_arrow, "csv": _read_csv, "tsv": _read_tsv}


def _reading(paths: Sequence[Path], read: Callable[[], T]) -> T:
    try:
        return read()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise InvalidInputError(
            f"{paths[0].name} cannot be read as the table that its name announces: {reason}",
            hint="Check the file, or rename it if it is no table.",
        ) from error
