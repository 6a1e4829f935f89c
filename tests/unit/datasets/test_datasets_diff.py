"""Differences of tables, in numbers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from everline.datasets import distribution
from everline.datasets.diff import compare_columns
from everline.datasets.profile import profile_column, summarise
from everline.datasets.reading import TableColumns


def test_profile_of_numbers_is_exact() -> None:
    values = pa.chunked_array([[1.0, 2.0, None], [float("nan"), 9.0]])
    found = profile_column("x", values)
    assert (found.rows, found.nulls, found.nans) == (5, 1, 1)
    assert (found.minimum, found.maximum, found.mean, found.quantiles[10]) == (1.0, 9.0, 4.0, 2.0)
    assert found.deviation == pytest.approx(np.std([1, 2, 9], ddof=1))


def test_profile_of_text_counts_values_with_ties_in_order() -> None:
    found = profile_column("x", pa.chunked_array([["b", "a", "c", "b", None]]))
    assert [(top.value, top.count) for top in found.top] == [("b", 2), ("a", 1), ("c", 1)]
    assert (found.minimum, found.maximum, found.distinct) == ("a", "c", 3)


@pytest.mark.parametrize("kind", [pa.int64(), pa.float32(), pa.string(), pa.bool_(), pa.date32(), pa.list_(pa.int8())])
def test_profile_of_nothing_is_no_error(kind: pa.DataType) -> None:
    assert profile_column("x", pa.chunked_array([pa.array([], kind)])).rows == 0
    assert profile_column("x", pa.chunked_array([pa.nulls(3, kind)])).nulls == 3


def test_distance_of_numbers_is_that_of_scipy() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.normal(size=500).round(1), rng.normal(0.3, size=400).round(1)
    found = distribution.compare(pa.chunked_array([before]), pa.chunked_array([after]))
    expected = stats.ks_2samp(before, after)
    assert (found.statistic, found.distance) == ("ks", pytest.approx(expected.statistic, abs=1e-12))
    at = next(share for share in found.shares if share.value == found.widest)
    assert abs(at.before - at.after) == pytest.approx(found.distance, abs=1e-12)
    assert (found.shares[-1].before, found.shares[-1].after, len(found.shares)) == (1, 1, found.values)


def test_distributions_of_times_are_given_at_few_moments_with_the_widest_gap_among_them() -> None:
    start = np.datetime64("2013-01-01", "s")
    before, after = (pa.chunked_array([start + np.arange(n) * step]) for n, step in ((4000, 60), (3000, 90)))
    found = distribution.compare(before, after)
    assert len(found.shares) <= 70 < found.values
    assert found.widest in {share.value for share in found.shares}
    assert found.shares[0].value == "2013-01-01T00:00:00"
    days = distribution.compare(*(side.cast(pa.date32()) for side in (before, after)))
    assert (days.values, days.shares[0].value) == (4, "2013-01-01")


def test_distance_of_categories_is_total_variation() -> None:
    before, after = pa.chunked_array([["a", "a", "b", None]]), pa.chunked_array([["a", "c", "c"]])
    found = distribution.compare(before, after)
    assert (found.statistic, found.distance, found.values) == ("tv", pytest.approx(2 / 3), 3)
    assert [(share.value, share.after) for share in found.shares] == [
        ("a", pytest.approx(1 / 3)), ("c", pytest.approx(2 / 3)), ("b", 0),
    ]  # fmt: skip


def test_columns_are_added_removed_retyped_and_changed() -> None:
    before = pa.table({"same": [1, 2], "gone": [1, 2], "kind": [1, 2], "moved": [1.0, 2.0]})
    after = pa.table({"same": [1, 2], "kind": ["1", "2"], "moved": [1.0, None], "new": [True, False]})
    found = compare_columns(
        summarise(TableColumns(before)),
        summarise(TableColumns(after)),
        read_before=before.column,
        read_after=after.column,
    )
    assert [(c.name, c.change) for c in found] == [
        ("kind", "retyped"), ("moved", "changed"), ("new", "added"), ("gone", "removed"),
    ]  # fmt: skip
    assert found[1].missing_after == 0.5


def test_equal_columns_are_not_read() -> None:
    table = pa.table({"a": [1, 2]})
    summary = summarise(TableColumns(table))

    def never(name: str) -> pa.ChunkedArray:
        raise AssertionError(name)

    assert compare_columns(summary, summary, read_before=never, read_after=never) == ()
