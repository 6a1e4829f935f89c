"""Rows by key agree with the slow way of saying it: two dictionaries."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from everline.datasets.profile import summarise
from everline.datasets.reading import TableColumns
from everline.datasets.row_difference import Side, compare_rows

CELLS = st.tuples(
    st.one_of(st.none(), st.floats(allow_infinity=True, width=16)),
    st.one_of(st.none(), st.sampled_from(["", "a", "b"])),
    st.one_of(st.none(), st.lists(st.sampled_from([0.0, 1.0, math.nan, None]), max_size=2)),
)
ROWS = st.dictionaries(st.tuples(st.integers(0, 5), st.sampled_from("xy")), CELLS, max_size=8)
Rows = dict[tuple[int, str], tuple[Any, ...]]


def _side(word: str, rows: Rows) -> Side:
    kinds = {"n": pa.int64(), "t": pa.string(), "f": pa.float64(), "s": pa.string(), "l": pa.list_(pa.float64())}
    columns = zip(*[(*key, *cells) for key, cells in rows.items()], strict=True) if rows else [[]] * len(kinds)
    # A NaN is a value and not a null.
    arrays = [pa.array(list(c), k, from_pandas=False) for c, k in zip(columns, kinds.values(), strict=True)]
    table = pa.table(dict(zip(kinds, arrays, strict=True)))
    return Side(word=word, table=summarise(TableColumns(table)), read=table.column)


def _same(before: Any, after: Any) -> bool:
    return before == after or repr(before) == repr(after)


@settings(max_examples=40, deadline=None)
@given(ROWS, ROWS, st.booleans())
def test_rows_by_key_are_what_two_dictionaries_say(old: Rows, new: Rows, keep_keys: bool) -> None:
    if keep_keys:  # the same keys in the same order: then fewer columns are read
        new = {key: new.get(key, cells) for key, cells in old.items()}
    found, by_column = compare_rows(_side("older", old), _side("newer", new), ["n", "t"], examples=100)
    both = [key for key in new if key in old]
    moved = {
        name: [key for key in both if not _same(old[key][at], new[key][at])] for at, name in enumerate(("f", "s", "l"))
    }
    changed = [key for key in both if any(key in keys for keys in moved.values())]
    assert (found.added, found.removed) == (len(new.keys() - old.keys()), len(old.keys() - new.keys()))
    assert (found.changed, found.unchanged) == (len(changed), len(both) - len(changed))
    assert by_column == {name: len(keys) for name, keys in moved.items() if keys}
    shown = {
        word: [one.key for one in found.examples if one.change == word] for word in ("added", "removed", "changed")
    }
    assert shown == {
        "added": [key for key in new if key not in old],
        "removed": [key for key in old if key not in new],
        "changed": changed,
    }
    for one in found.examples:
        if one.change == "changed":
            assert {cell.column for cell in one.cells} == {name for name, keys in moved.items() if one.key in keys}
