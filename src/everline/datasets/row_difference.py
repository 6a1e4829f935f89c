"""Rows of two tables matched by key: how many came, went and changed, in which columns, with examples.

Only what can differ is read. Key columns are read; if their digests are equal on both sides, every row stands where it
stood, nothing is joined, and of the other columns only those with another digest are read, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from everline.datasets.arrow import canonical_table
from everline.datasets.profile import as_json, cell
from everline.datasets.types import CellChange, Column, RowDifference, RowExample, TableSummary
from everline.errors import InvalidInputError

EXAMPLES_MAX = 100
EXAMPLE_CELLS_MAX = 50
"""Columns that are shown of a row which is on one side only."""
_COLUMNS_NAMED_MAX = 20
ReadColumn = Callable[[str], pa.ChunkedArray]
_Places = np.ndarray[Any, np.dtype[np.int64]]


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One version's table: what is known of its columns, and how to read one."""

    word: str
    table: TableSummary
    read: ReadColumn

    def columns(self) -> dict[str, Column]:
        """Its columns by name."""
        return {column.name: column for column in self.table.columns}

    def values(self, name: str) -> pa.Array:
        """A column in canonical form, as one chunk."""
        return canonical_table(pa.table({name: self.read(name)})).column(0).combine_chunks()


class _Matched(msgspec.Struct, frozen=True, kw_only=True):
    """Places of rows: of pairs with the same key, ordered as in the newer version; and of those without one.

    `in_place` says that the pairs are all rows in their order, so that columns of equal digest are equal.
    """

    old: _Places
    new: _Places
    removed: _Places
    added: _Places
    in_place: bool


def compare_rows(
    before: Side, after: Side, key: Sequence[str], *, examples: int = 0
) -> tuple[RowDifference, dict[str, int]]:
    """Match the rows of two tables by key, and compare the columns that both have with the same type.

    Args:
        examples: rows to show of each kind, 0 to 100.

    Returns:
        The counts of rows with examples, and by column name the number of matched rows whose value changed.

    Raises:
        InvalidInputError: a key column is missing on one side, differs in type, has missing values, or the key is not
            unique.
    """
    _check_key(before, after, key)
    old_columns, new_columns = before.columns(), after.columns()
    if all(old_columns[name].digest == new_columns[name].digest for name in key):
        old_keys = new_keys = pa.table({name: before.values(name) for name in key})
        _check_identifies(before, old_keys)
        matched = _in_place(old_keys)
    else:
        old_keys, new_keys = _unified({name: (before.values(name), after.values(name)) for name in key})
        for side, keys in ((before, old_keys), (after, new_keys)):
            _check_identifies(side, keys)
        matched = _joined(old_keys, new_keys)
    shown = min(examples, EXAMPLES_MAX)
    added, removed = matched.added[:shown], matched.removed[:shown]
    different = np.zeros(len(matched.old), dtype=bool)
    by_column: dict[str, int] = {}
    cells: dict[tuple[str, int], list[CellChange]] = {}
    one_sided = 0
    for name, new in new_columns.items():
        old = old_columns.get(name)
        if name in key or old is None or old.type != new.type:
            continue
        if matched.in_place and old.digest == new.digest:
            continue
        old_values, new_values = _alike(before.values(name), after.values(name))
        changed = _cells_differ(old_values.take(pa.array(matched.old)), new_values.take(pa.array(matched.new)))
        places = np.flatnonzero(changed)
        if len(places):
            by_column[name] = len(places)
            different |= changed
        # The first changed rows of all columns are among the first changed rows of each.
        for place in places[:shown].tolist():
            change = _change(name, old_values[int(matched.old[place])], new_values[int(matched.new[place])])
            cells.setdefault(("changed", place), []).append(change)
        if one_sided < EXAMPLE_CELLS_MAX:
            one_sided += 1
            for place in added.tolist():
                cells.setdefault(("added", place), []).append(_change(name, None, new_values[place]))
            for place in removed.tolist():
                cells.setdefault(("removed", place), []).append(_change(name, old_values[place], None))
    first = np.flatnonzero(different)[:shown]
    kinds = (
        ("added", added, new_keys, added),
        ("removed", removed, old_keys, removed),
        ("changed", first, new_keys, matched.new[first]),
    )
    rows = RowDifference(
        key=tuple(key),
        added=len(matched.added),
        removed=len(matched.removed),
        changed=int(different.sum()),
        unchanged=int((~different).sum()),
        examples=tuple(
            RowExample(
                change=word,
                key=tuple(as_json(cell(keys.column(name)[int(at)])) for name in key),
                cells=tuple(cells.get((word, int(place)), ())),
            )
            for word, places, keys, where in kinds
            for place, at in zip(places, where, strict=True)
        ),
    )
    return rows, by_column


def _check_key(before: Side, after: Side, key: Sequence[str]) -> None:
    if len(set(key)) != len(key):
        raise InvalidInputError("A column stands twice in the key.", hint="Name each column once.", field="key")
    for side in (before, after):
        columns = side.columns()
        for name in key:
            if name not in columns:
                both = [column for column in before.columns() if column in after.columns()]
                some = ", ".join(both[:_COLUMNS_NAMED_MAX]) + (", …" if len(both) > _COLUMNS_NAMED_MAX else "")
                raise InvalidInputError(
                    f"The {side.word} version has no column {name!r}.",
                    hint=f"Both versions have: {some}." if both else "The versions have no column in common.",
                    field="key",
                )
            if not isinstance(columns[name].type, str):
                raise InvalidInputError(
                    f"The column {name!r} holds lists or structs, so it cannot be part of a key.",
                    hint="Name columns of plain values.",
                    field="key",
                )
    for name in key:
        old, new = before.columns()[name].type, after.columns()[name].type
        if old != new:
            raise InvalidInputError(
                f"The key column {name!r} is {old} in the older version and {new} in the newer, so rows cannot be "
                "matched by it.",
                hint="Name columns that kept their type, or convert one version.",
                field="key",
            )


def _check_identifies(side: Side, keys: pa.Table) -> None:
    for name in keys.column_names:
        missing = keys.column(name).null_count
        if missing:
            raise InvalidInputError(
                f"The key column {name!r} has {missing} missing values in the {side.word} version.",
                hint="Name columns that always have a value.",
                field="key",
            )
    # A column may have any name, also that of the count.
    plain = keys.rename_columns([f"key{at}" for at in range(keys.num_columns)])
    groups = plain.group_by(plain.column_names).aggregate([([], "count_all")])
    if groups.num_rows != keys.num_rows:
        twice = groups.filter(pc.greater(groups.column("count_all"), 1)).slice(0, 1)
        values = ", ".join(str(as_json(cell(twice.column(name)[0]))) for name in plain.column_names)
        raise InvalidInputError(
            f"The key {', '.join(keys.column_names)} is not unique in the {side.word} version: {keys.num_rows} rows "
            f"have {groups.num_rows} different keys; ({values}) occurs {twice.column('count_all')[0].as_py()} times.",
            hint="Name more key columns.",
            field="key",
        )


def _unified(keys: Mapping[str, tuple[pa.Array, pa.Array]]) -> tuple[pa.Table, pa.Table]:
    alike = {name: _alike(*pair) for name, pair in keys.items()}
    before, after = (pa.table({name: pair[side] for name, pair in alike.items()}) for side in (0, 1))
    return before, after


def _alike(before: pa.Array, after: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Two columns of one canonical type in one Arrow type: written with another unit or width they are the same."""
    if before.type == after.type:
        return before, after
    units = ("s", "ms", "us", "ns")
    if hasattr(before.type, "unit") and units.index(before.type.unit) > units.index(after.type.unit):
        return before, after.cast(before.type)
    try:
        return before.cast(after.type), after
    except pa.ArrowException:
        return before, after.cast(before.type)


def _in_place(keys: pa.Table) -> _Matched:
    every, none = np.arange(keys.num_rows), np.empty(0, dtype=np.int64)
    return _Matched(old=every, new=every, removed=none, added=none, in_place=True)


def _joined(old_keys: pa.Table, new_keys: pa.Table) -> _Matched:
    names = [f"key{at}" for at in range(old_keys.num_columns)]  # not "old" nor "new"
    old = old_keys.rename_columns(names).append_column("old", pa.array(np.arange(old_keys.num_rows)))
    new = new_keys.rename_columns(names).append_column("new", pa.array(np.arange(new_keys.num_rows)))
    try:
        both = old.join(new, keys=names, join_type="inner").select(["old", "new"]).sort_by("new")
    except pa.ArrowException as error:
        raise InvalidInputError(
            f"The rows cannot be matched by {', '.join(old_keys.column_names)}: {str(error).splitlines()[0][:200]}",
            field="key",
        ) from error
    places = {name: both.column(name).to_numpy() for name in ("old", "new")}
    lonely = {
        name: np.setdiff1d(np.arange(table.num_rows), places[name], assume_unique=True)
        for name, table in (("old", old), ("new", new))
    }
    return _Matched(old=places["old"], new=places["new"], removed=lonely["old"], added=lonely["new"], in_place=False)


def _cells_differ(before: pa.Array, after: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if pa.types.is_nested(before.type) or pa.types.is_null(before.type):
        pairs = ((cell(old), cell(new)) for old, new in zip(before, after, strict=True))
        # A NaN is not equal to itself, but it is written alike.
        return np.array([old != new and repr(old) != repr(new) for old, new in pairs], dtype=bool)
    one_null = pc.xor(before.is_null(), after.is_null())
    unequal = pc.fill_null(pc.not_equal(before, after), False)
    if pa.types.is_floating(before.type):
        both_nan = pc.and_(pc.fill_null(pc.is_nan(before), False), pc.fill_null(pc.is_nan(after), False))
        unequal = pc.and_not(unequal, both_nan)
    return np.asarray(pc.or_(one_null, unequal).to_numpy(zero_copy_only=False), dtype=bool)


def _change(name: str, before: pa.Scalar | None, after: pa.Scalar | None) -> CellChange:
    old, new = (None if value is None else as_json(cell(value)) for value in (before, after))
    return CellChange(column=name, before=old, after=new)
