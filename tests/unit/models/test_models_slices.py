"""Comparisons in slices keep their promise together, and McNemar's test is exact."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest

from everline.errors import InvalidInputError
from everline.models import slices
from everline.models.slices import compare_slices
from everline.reproduction.backtests import flips


def test_examples_hold() -> None:
    assert doctest.testmod(slices).failed == 0
    assert doctest.testmod(flips).failed == 0


def test_equal_models_are_told_apart_in_one_of_twenty_studies_at_most() -> None:
    rng = np.random.default_rng(7)
    studies, wrong = 200, 0
    for study in range(studies):
        p = rng.uniform(0.1, 0.9, 2_000)
        y = rng.uniform(size=2_000) < p
        one, two = (np.clip(p + rng.normal(0, 0.1, 2_000), 0.01, 0.99) for _ in range(2))
        found = compare_slices(y, one, two, slices={"group": np.arange(2_000) % 20}, metric="auc", seed=study)
        assert len(found) == 20
        wrong += any(part.verdict != "no difference shown" for part in found)
    # 0.05 x 200 = 10 expected at most; 18 would be beyond three standard deviations.
    assert wrong <= 18


def test_small_slices_and_rows_without_a_value_are_left_out() -> None:
    rng = np.random.default_rng(1)
    y, p = rng.uniform(size=400) < 0.5, np.full(400, 0.5)
    values = ["big"] * 300 + ["small"] * 20 + [None] * 80
    assert [(one.by, one.value, one.n) for one in compare_slices(y, p, p, slices={"size": values})] == [
        ("size", "big", 300)
    ]
    with pytest.raises(InvalidInputError, match="has 3 values for 400 rows"):
        compare_slices(y, p, p, slices={"size": ["a"] * 3})


def test_mcnemar_is_the_binomial_test() -> None:
    exact = 2 * sum(math.comb(20, i) for i in range(6)) / 2**20
    assert flips.mcnemar(5, 15) == pytest.approx(exact)
    assert flips.mcnemar(49_000, 51_000) == pytest.approx(flips.mcnemar(49_001, 51_001), rel=0.01)
