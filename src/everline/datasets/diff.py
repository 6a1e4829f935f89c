"""What changed between two tables: columns, rows by key, distributions. Columns of equal digest are not read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from everline.datasets import distribution
from everline.datasets.arrow import decode
from everline.datasets.types import Column, ColumnDifference, DatasetFile, RowDifference, TableSummary
from everline.errors import InvalidInputError

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


def compare_rows(before: pa.Table, after: pa.Table, key: Sequence[str]) -> tuple[RowDifference, dict[str, int]]:
    """Match the rows of two tables by key, and count what changed in the columns that both have.

    Returns:
        The counts of rows, and by column name the number of matched rows whose value changed.

    Raises:
        InvalidInputError: a key column is missing on one side, differs in type, or is not unique.
    """
    for table, side in ((before, "older"), (after, "newer")):
        for name in key:
            if name not in table.column_names:
                raise InvalidInputError(f"The {side} version has no column {name!r}.", field="key")
        groups = table.group_by(list(key)).aggregate([([], "count_all")])
        if groups.num_rows != table.num_rows:
            raise InvalidInputError(
                f"The key {', '.join(key)} is not unique in the {side} version: {table.num_rows} rows have "
                f"{groups.num_rows} different keys.",
                hint="Name more key columns.",
                field="key",
            )
    old_index, new_index = _matched(before, after, key)
    different = np.zeros(len(old_index), dtype=bool)
    by_column: dict[str, int] = {}
    for name in after.column_names:
        if name in key or name not in before.column_names or before.column(name).type != after.column(name).type:
            continue
        changed = _cells_differ(before.column(name).take(old_index), after.column(name).take(new_index))
        different |= changed
        if changed.any():
            by_column[name] = int(changed.sum())
    rows = RowDifference(
        key=tuple(key),
        added=after.num_rows - len(new_index),
        removed=before.num_rows - len(old_index),
        changed=int(different.sum()),
        unchanged=int((~different).sum()),
    )
    return rows, by_column


def compare_files(
    before: Sequence[DatasetFile], after: Sequence[DatasetFile]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Paths only in the newer, only in the older, and in both with another content."""
    old, new = ({file.path: file.digest for file in side} for side in (before, after))
    added = tuple(sorted(new.keys() - old.keys()))
    removed = tuple(sorted(old.keys() - new.keys()))
    return added, removed, tuple(sorted(path for path in old.keys() & new.keys() if old[path] != new[path]))


def _matched(before: pa.Table, after: pa.Table, key: Sequence[str]) -> tuple[pa.Array, pa.Array]:
    old = before.select(key).append_column("__old", pa.array(np.arange(before.num_rows)))
    new = after.select(key).append_column("__new", pa.array(np.arange(after.num_rows)))
    try:
        both = old.join(new, keys=list(key), join_type="inner")
    except pa.ArrowException as error:
        raise InvalidInputError(
            f"The rows cannot be matched by {', '.join(key)}: {str(error).splitlines()[0][:200]}", field="key"
        ) from error
    return both.column("__old").combine_chunks(), both.column("__new").combine_chunks()


def _cells_differ(before: Any, after: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if pa.types.is_nested(before.type):
        return np.array([a != b for a, b in zip(before.to_pylist(), after.to_pylist(), strict=True)], dtype=bool)
    before, after = decode(_chunked(before)), decode(_chunked(after))
    one_null = pc.xor(before.is_null(), after.is_null())
    unequal = pc.fill_null(pc.not_equal(before, after), False)
    if pa.types.is_floating(before.type):
        unequal = pc.and_not(unequal, pc.and_(_is_nan(before), _is_nan(after)))
    return np.asarray(pc.or_(one_null, unequal).to_numpy(), dtype=bool)


def _is_nan(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.is_nan(values), False)


def _chunked(values: Any) -> pa.ChunkedArray:
    return values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])


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
