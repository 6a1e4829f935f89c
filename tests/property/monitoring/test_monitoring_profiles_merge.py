"""Profiles of pieces add up to the profile of the whole, whatever the pieces."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from everline.monitoring.drift.combination import benjamini_hochberg, compare_numbers
from everline.monitoring.profiles import (
    CategoryAxis,
    NumberAxis,
    merge_categories,
    merge_numbers,
    profile_category,
    profile_number,
)

numbers = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), max_size=60)
texts = st.lists(st.sampled_from(["a", "b", "c", "zz", None]), max_size=60)


@given(numbers, numbers, numbers)
def test_number_profiles_merge_exactly(reference: list[float], first: list[float], second: list[float]) -> None:
    axis = NumberAxis.of(np.asarray(reference, dtype=np.float64))
    a, b = (profile_number(np.asarray(side, dtype=np.float64), axis) for side in (first, second))
    whole = profile_number(np.asarray([*first, *second], dtype=np.float64), axis)
    merged = merge_numbers(a, b)
    assert (merged.cells.tolist(), merged.counts.tolist()) == (whole.cells.tolist(), whole.counts.tolist())
    assert (merged.missing, merged.rows) == (whole.missing, whole.rows) == (whole.missing, len(first) + len(second))


@given(texts, texts)
def test_category_profiles_merge_exactly(first: list[str | None], second: list[str | None]) -> None:
    axis = CategoryAxis(("a", "b"))
    a, b, whole = (profile_category(pa.array(s, pa.string()), axis) for s in (first, second, [*first, *second]))
    merged = merge_categories(a, b)
    assert merged.counts.tolist() == whole.counts.tolist()
    assert merged.unseen == whole.unseen
    assert merged.rows == whole.rows


@given(numbers, numbers)
def test_every_test_answers_with_a_probability(reference: list[float], current: list[float]) -> None:
    axis = NumberAxis.of(np.asarray(reference, dtype=np.float64))
    old, new = (profile_number(np.asarray(side, dtype=np.float64), axis) for side in (reference, current))
    for result in compare_numbers(old, new):
        assert 0.0 <= result.p_value <= 1.0
        assert np.isfinite(result.effect)


@given(st.lists(st.floats(0, 1), max_size=30))
def test_benjamini_hochberg_falls_from_the_smallest_up(p_values: list[float]) -> None:
    fallen = benjamini_hochberg(p_values, q=0.1)
    kept = [p for p, fell in zip(p_values, fallen, strict=True) if not fell]
    gone = [p for p, fell in zip(p_values, fallen, strict=True) if fell]
    assert not gone or not kept or max(gone) < min(kept)
    assert all(p <= 0.1 for p in gone)
