"""Profiles: cells keep the order of values, odd values have their place, merging is exact."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from everline.errors import InvalidInputError
from everline.monitoring import profiles
from everline.monitoring.profiles import (
    CategoryAxis,
    NumberAxis,
    merge_categories,
    merge_numbers,
    profile_category,
    profile_number,
)


def test_cells_are_ordered_as_their_values_and_give_them_back_within_one_per_cent() -> None:
    values = np.sort(np.concatenate([np.random.default_rng(1).normal(5, 2, 500), [-1e30, 1e30, 5.0]]))
    axis = NumberAxis.of(values)
    cells = axis.cells(values).astype(np.int64)
    assert (np.diff(cells) >= 0).all()
    assert np.allclose(axis.values(cells) - axis.median, values - axis.median, rtol=0.01, atol=1e-9)


def test_infinities_nan_and_values_beyond_float32_have_their_places() -> None:
    profile = profile_number(np.array([np.inf, -np.inf, np.nan, 1e308, 0.0, -0.0]), NumberAxis(0.0, 1.0), missing=2)
    assert (profile.rows, profile.present, profile.missing, profile.infinite) == (8, 5, 3, 2)
    assert profile.counts.max() == 2  # 0.0 and -0.0 are one value


@pytest.mark.parametrize("values", [[], [3.0], [3.0, 3.0], [np.nan], [np.inf], [0.0, 0.0, 0.0, 1.0]])
def test_every_reference_has_an_axis(values: list[float]) -> None:
    axis = NumberAxis.of(np.asarray(values, dtype=np.float64))
    assert axis.scale > 0
    assert np.isfinite([axis.median, axis.scale]).all()


def test_profiles_of_different_references_do_not_add() -> None:
    one, other = (profile_number(np.array([1.0]), NumberAxis(0.0, scale)) for scale in (1.0, 2.0))
    with pytest.raises(InvalidInputError, match="different references"):
        merge_numbers(one, other)
    a, b = (profile_category(pa.array(["x"]), CategoryAxis(known)) for known in (("x",), ("y",)))
    with pytest.raises(InvalidInputError, match="different references"):
        merge_categories(a, b)


def test_unknown_values_are_bounded_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "UNSEEN_VALUES_MAX", 3)
    axis = CategoryAxis(("known",))
    profile = profile_category(pa.array([f"v{n}" for n in range(10)] + ["known", None]), axis)
    assert len(profile.unseen) == 3
    assert (profile.unseen_rows, profile.present, profile.missing) == (10, 11, 1)
    assert merge_categories(profile, profile).unseen_rows == 20
