"""Rows matched by key: counted, shown, and read no further than needed."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from everline.datasets.profile import summarise
from everline.datasets.reading import TableColumns
from everline.datasets.row_difference import Side, compare_rows
from everline.datasets.types import CellChange, RowDifference
from everline.errors import InvalidInputError

NEW_YEAR = datetime(2013, 1, 1)


def _compare(
    before: pa.Table, after: pa.Table, *key: str, examples: int = 0
) -> tuple[RowDifference, dict[str, int], set[str]]:
    """The difference, the changed rows by column, and the columns that were read."""
    read: set[str] = set()

    def side(word: str, table: pa.Table) -> Side:
        def column(name: str) -> pa.ChunkedArray:
            read.add(name)
            return table.column(name)

        return Side(word=word, table=summarise(TableColumns(table)), read=column)

    rows, by_column = compare_rows(side("older", before), side("newer", after), key, examples=examples)
    return rows, by_column, read


def test_rows_are_counted_and_shown_with_what_changed() -> None:
    before = pa.table({"id": [1, 2, 3, 4], "x": [1.0, float("nan"), None, 4.0], "s": ["a", "b", "c", "d"]})
    after = pa.table({"id": [5, 4, 3, 2], "x": [0.0, 4.5, None, float("nan")], "s": ["n", "d", "C", "b"]})
    rows, by_column, _ = _compare(before, after, "id", examples=5)
    assert (rows.added, rows.removed, rows.changed, rows.unchanged) == (1, 1, 2, 1)
    assert by_column == {"x": 1, "s": 1}
    shown = [(one.change, one.key, [(c.column, c.before, c.after) for c in one.cells]) for one in rows.examples]
    assert shown == [
        ("added", (5,), [("x", None, 0.0), ("s", None, "n")]),
        ("removed", (1,), [("x", 1.0, None), ("s", "a", None)]),
        ("changed", (4,), [("x", 4.0, 4.5)]),
        ("changed", (3,), [("s", "c", "C")]),
    ]


def test_with_the_same_keys_only_columns_of_another_digest_are_read() -> None:
    before = pa.table({"id": [1, 2, 3], "same": ["a", "b", "c"], "moved": [1, 2, 3], "other": [1.0, 2.0, 3.0]})
    after = before.set_column(2, "moved", pa.array([1, 20, 3]))
    rows, by_column, read = _compare(before, after, "id", examples=1)
    assert read == {"id", "moved"}
    assert (rows.changed, rows.unchanged, by_column) == (1, 2, {"moved": 1})
    assert rows.examples[0].cells == (CellChange(column="moved", before=2, after=20),)


def test_rows_that_only_changed_places_are_unchanged() -> None:
    before = pa.table({"id": list(range(1000)), "x": [n % 7 for n in range(1000)]})
    rows, _, _ = _compare(before, before.take(list(range(999, -1, -1))), "id")
    assert (rows.changed, rows.unchanged, rows.added, rows.removed) == (0, 1000, 0, 0)


def test_of_many_changed_rows_the_first_are_shown_whichever_column_changed() -> None:
    before = pa.table({"id": list(range(50)), "a": [0] * 50, "b": [0] * 50})
    after = pa.table({
        "id": list(range(50)),
        "a": [int(n % 2 == 0) for n in range(50)],
        "b": [int(n % 3 == 0) for n in range(50)],
    })  # fmt: skip
    rows, _, _ = _compare(before, after, "id", examples=4)
    assert [(one.key, [c.column for c in one.cells]) for one in rows.examples] == [
        ((0,), ["a", "b"]), ((2,), ["a"]), ((3,), ["b"]), ((4,), ["a"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (pa.array(["a", "b"]).dictionary_encode(), pa.array(["a", "b"], pa.large_string())),
        (pa.array([NEW_YEAR] * 2, pa.timestamp("s")), pa.array([NEW_YEAR] * 2, pa.timestamp("ns"))),
        (pa.array([date(2013, 1, 1), None], pa.date32()), pa.array([date(2013, 1, 1), None], pa.date64())),
        (pa.array([Decimal("1.50")] * 2, pa.decimal128(9, 2)), pa.array([Decimal("1.50")] * 2, pa.decimal256(9, 2))),
        (pa.array([[1], None], pa.list_(pa.int8())), pa.array([[1], None], pa.large_list(pa.int8()))),
    ],
)  # fmt: skip
def test_what_is_written_in_another_way_is_no_change(before: pa.Array, after: pa.Array) -> None:
    old = pa.table({"id": [1, 2], "v": before, "n": [1, 2]})
    new = pa.table({"id": [2, 1], "v": after.take(pa.array([1, 0])), "n": [2, 3]})
    rows, by_column, _ = _compare(old, new, "id")
    assert (rows.changed, by_column) == (1, {"n": 1})
    if not pa.types.is_nested(before.type) and not before.null_count:
        assert _compare(old.slice(0, 1), new.slice(1, 1), "v")[0].added == 0


def test_times_of_which_only_some_need_nanoseconds_are_compared_nevertheless() -> None:
    whole, fine = (pa.array([1_000_000_000, nanos], pa.timestamp("ns")) for nanos in (2_000_000_000, 2_000_000_001))
    before, after = pa.table({"id": [1, 2], "t": whole}), pa.table({"id": [1, 2], "t": fine}).take([1, 0])
    rows, by_column, _ = _compare(before, after, "id")
    assert (rows.changed, by_column) == (1, {"t": 1})


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_lists_of_moments_that_python_does_not_know_are_compared_and_shown(unit: str) -> None:
    far, kind = 2**62 + 1, pa.list_(pa.timestamp(unit))
    old, new = (pa.table({"id": [1, 2, 3], "v": pa.array([[far], [1], [end]], kind)}) for end in (far, far + 1))
    rows, by_column, _ = _compare(old, new.take([2, 1, 0]), "id", examples=3)
    assert (rows.unchanged, by_column) == (2, {"v": 1})
    [shown] = rows.examples[0].cells
    assert isinstance(shown.before, str)
    assert shown.before != shown.after


@pytest.mark.parametrize(
    ("before", "after", "key", "said"),
    [
        ({"id": [1, 1], "x": [1, 2]}, None, ["id"], r"not unique in the older version.*\(1\) occurs 2 times"),
        ({"id": [1, None], "x": [1, 2]}, None, ["id"], "'id' has 1 missing values in the older version"),
        ({"id": [1, 2]}, {"id": ["1", "2"]}, ["id"], "'id' is int64 in the older version and string in the newer"),
        ({"id": [1, 2]}, {"id": [1, 2]}, ["nope"], "older version has no column 'nope'"),
        ({"id": [1, 2]}, {"other": [1, 2]}, ["id"], "newer version has no column 'id'"),
        ({"id": [[1], [2]]}, None, ["id"], "lists or structs"),
        ({"id": [1, 2]}, None, ["id", "id"], "twice in the key"),
    ],
)
def test_what_cannot_be_a_key_is_refused_and_says_why(
    before: dict[str, Any], after: dict[str, Any] | None, key: list[str], said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        _compare(pa.table(before), pa.table(after or before), *key)


def test_who_names_no_common_column_is_told_which_there_are() -> None:
    with pytest.raises(InvalidInputError) as refused:
        _compare(pa.table({"a": [1]}), pa.table({"b": [1]}), "a")
    assert refused.value.hint == "The versions have no column in common."
    with pytest.raises(InvalidInputError) as refused:
        _compare(pa.table({"a": [1], "c": [1]}), pa.table({"b": [1], "c": [1]}), "a")
    assert refused.value.hint == "Both versions have: c."


def test_columns_may_be_named_as_we_name_things_inside() -> None:
    before = pa.table({"old": [1, 2], "new": [1, 2], "key0": ["a", "b"], "count_all": [1, 1]})
    after = pa.table({"old": [2, 3], "new": [2, 3], "key0": ["B", "c"], "count_all": [1, 1]})
    rows, by_column, _ = _compare(before, after, "old", "new")
    assert (rows.added, rows.removed, by_column) == (1, 1, {"key0": 1})
    assert _compare(before, after, "old", "key0")[0].unchanged == 0
    twice = pa.table({"count_all": [1, 1, 2], "x": [1, 2, 3]})
    with pytest.raises(InvalidInputError, match=r"\(1\) occurs 2 times"):
        _compare(twice, twice, "count_all")


def test_empty_tables_are_compared_too() -> None:
    empty, full = (
        pa.table({"id": pa.array([], pa.int64()), "x": pa.array([], pa.int64())}),
        pa.table({"id": [1], "x": [2]}),
    )
    assert _compare(empty, full, "id", examples=1)[0].examples[0].cells == (
        CellChange(column="x", before=None, after=2),
    )
    assert _compare(empty, empty, "id")[0].unchanged == 0
