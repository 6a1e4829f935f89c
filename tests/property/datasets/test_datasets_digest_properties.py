"""However a table is cut, encoded or padded, its digest stays; whichever cell changes, it does not."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from everline.datasets.digest import digest

cells = {
    "number": st.one_of(st.none(), st.floats(width=64)),
    "count": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    "text": st.one_of(st.none(), st.text(max_size=5)),
    "flag": st.one_of(st.none(), st.booleans()),
    "tags": st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text(max_size=2)), max_size=3)),
}
kinds = {
    "number": pa.float64(),
    "count": pa.int64(),
    "text": pa.string(),
    "flag": pa.bool_(),
    "tags": pa.list_(pa.string()),
}
rows = st.lists(st.fixed_dictionaries(cells), min_size=1, max_size=20)


def table_of(values: list[dict[str, object]]) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in values], kind) for name, kind in kinds.items()})


@settings(max_examples=60, deadline=None)
@given(rows, st.data())
def test_cuts_and_slices_do_not_count(values: list[dict[str, object]], data: st.DataObject) -> None:
    table = table_of(values)
    cut = data.draw(st.integers(0, len(values)))
    padded = pa.concat_tables([table, table, table]).combine_chunks().slice(len(values), len(values))
    assert digest(pa.concat_tables([table.slice(0, cut), table.slice(cut)])) == digest(table) == digest(padded)


@settings(max_examples=60, deadline=None)
@given(rows, st.data())
def test_every_changed_cell_counts(values: list[dict[str, object]], data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(values) - 1))
    name = data.draw(st.sampled_from(sorted(cells)))
    other = data.draw(cells[name].filter(lambda value: repr(value) != repr(values[row][name])))
    changed = [dict(item) for item in values]
    changed[row][name] = other
    assert digest(table_of(changed)) != digest(table_of(values))
