"""Two versions that are tables, compared from their stored files; what cannot differ is neither fetched nor read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import msgspec
import pyarrow as pa

from everline.datasets import diff, inspection, reading
from everline.datasets.formats import table_format
from everline.datasets.row_difference import Side, compare_rows
from everline.datasets.types import ColumnDifference, DatasetVersionDetail, RowDifference, TableSummary
from everline.storage.blobs import BlobStore


class _Files:
    """The columns of a version's files, which are fetched when the first column is asked for."""

    def __init__(self, blobs: BlobStore, detail: DatasetVersionDetail, opened: ExitStack) -> None:
        self._blobs, self._detail, self._opened = blobs, detail, opened
        self._columns: reading.Columns | None = None

    def column(self, name: str) -> pa.ChunkedArray:
        if self._columns is None:
            files = self._detail.files
            paths = self._opened.enter_context(inspection.local_files(self._blobs, files))
            self._columns = reading.open_columns(paths, table_format([file.path for file in files]) or "")
        return self._columns.column(self._columns.names.index(name))


def compare_tables(
    blobs: BlobStore, old: DatasetVersionDetail, new: DatasetVersionDetail, *, key: Sequence[str], examples: int
) -> tuple[tuple[ColumnDifference, ...], RowDifference | None]:
    """Compare the columns of two versions, and their rows if there is a key; both must be tables.

    Raises:
        InvalidInputError: the key does not fit.
    """
    with ExitStack() as opened:
        before, after = (
            Side(word=word, table=_table(detail), read=_Files(blobs, detail, opened).column)
            for word, detail in (("older", old), ("newer", new))
        )
        rows: RowDifference | None = None
        by_column: dict[str, int] = {}
        if key:
            rows, by_column = compare_rows(before, after, key, examples=examples)
        columns = diff.compare_columns(before.table, after.table, read_before=before.read, read_after=after.read)
    if rows is None:
        return columns, None
    counted = [
        msgspec.structs.replace(one, rows_changed=by_column.get(one.name, 0)) if one.change == "changed" else one
        for one in columns
    ]
    return tuple(counted), rows


def _table(detail: DatasetVersionDetail) -> TableSummary:
    assert detail.table is not None
    return detail.table
