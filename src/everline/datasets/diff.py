"""What changed between two versions: files, and columns with their distributions. Equal columns are not read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pyarrow as pa

from everline.datasets import distribution
from everline.datasets.arrow import decode
from everline.datasets.types import Column, ColumnDifference, DatasetFile, TableSummary

ReadColumn = Callable[[str], pa.ChunkedArray]


def compare_columns(
    before: TableSummary, after: TableSummary, *, read_before: ReadColumn, read_after: ReadColumn
) -> tuple[ColumnDifference, ...]:
    """Compare two tables column by column, in the order of the newer one, removed columns last.

    Args:
        read_before, read_after: give a column by name; asked only where digests differ.
    """
    old = {column.name: column for column in before.columns}
    found = []
    for column in after.columns:
        previous = old.pop(column.name, None)
        if previous is None:
            found.append(_one_sided(column, "added"))
        elif previous.type != column.type:
            found.append(_both(previous, column, "retyped"))
        elif previous.digest != column.digest:
            shift = distribution.compare(decode(read_before(column.name)), decode(read_after(column.name)))
            found.append(
                msgspec.structs.replace(
                    _both(previous, column, "changed"),
                    statistic=shift and shift.statistic,
                    distance=shift and shift.distance,
                    distribution=shift,
                )
            )
    found += [_one_sided(column, "removed") for column in old.values()]
    return tuple(found)


def compare_files(
    before: Sequence[DatasetFile], after: Sequence[DatasetFile]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Paths only in the newer, only in the older, and in both with another content."""
    old, new = ({file.path: file.digest for file in side} for side in (before, after))
    added = tuple(sorted(new.keys() - old.keys()))
    removed = tuple(sorted(old.keys() - new.keys()))
    return added, removed, tuple(sorted(path for path in old.keys() & new.keys() if old[path] != new[path]))


def _missing(column: Column) -> float | None:
    return column.nulls / column.rows if column.rows else None


def _one_sided(column: Column, change: str) -> ColumnDifference:
    if change == "added":
        return ColumnDifference(
            name=column.name,
            change=change,
            type_after=column.type,
            missing_after=_missing(column),
            mean_after=column.mean,
        )
    return ColumnDifference(
        name=column.name,
        change=change,
        type_before=column.type,
        missing_before=_missing(column),
        mean_before=column.mean,
    )


def _both(before: Column, after: Column, change: str) -> ColumnDifference:
    return ColumnDifference(
        name=after.name,
        change=change,
        type_before=before.type,
        type_after=after.type,
        missing_before=_missing(before),
        missing_after=_missing(after),
        mean_before=before.mean,
        mean_after=after.mean,
    )
