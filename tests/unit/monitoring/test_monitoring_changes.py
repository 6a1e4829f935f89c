"""Diagnosis of one feature: what kind of change, since when, and putting it back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from everline.monitoring.diagnosis.change_point import change_point
from everline.monitoring.diagnosis.changes import UNITS, classify_change, distribution_of
from everline.monitoring.diagnosis.restoration import restore_feature
from everline.monitoring.drift.columns import Column, column_of

RNG = np.random.default_rng(21)
ROUTES = np.round(RNG.gamma(3, 350, 80)) + 90


def column(values: Any) -> Column:
    return column_of(pa.array(values, from_pandas=True))


MILES = column(RNG.choice(ROUTES, 20_000))
TODAY = RNG.choice(ROUTES, 900)
CARRIERS = column(RNG.choice(["UA", "B6", "EV"], 5_000, p=[0.5, 0.3, 0.2]).tolist())


@pytest.mark.parametrize("unit", [one for one in UNITS if one.factor > 0], ids=lambda unit: unit.name)
def test_every_known_change_of_unit_is_recognised(unit: Any) -> None:
    change = classify_change(MILES, column(TODAY * unit.factor + unit.offset))
    assert (change.kind, change.broken) == ("unit", True)
    assert change.factor == pytest.approx(unit.factor, rel=0.02)


def test_kilometres_are_named() -> None:
    change = classify_change(MILES, column(TODAY * 1.609344))
    assert change.looks_like == "miles → kilometres"
    assert "× 1.609" in change.text


@pytest.mark.parametrize(
    ("values", "kind", "broken"),
    [
        (np.where(RNG.random(900) < 0.2, np.nan, TODAY), "missing", True),
        ([None] * 900, "missing", True),
        ([str(value) for value in TODAY], "type", True),
        (np.full(900, 733.0), "frozen", True),
        (np.where(RNG.random(900) < 0.02, -999.0, TODAY), "sentinel", True),
        (np.where(RNG.random(900) < 0.02, -1.0, TODAY), "sentinel", True),
        (TODAY + 300, "shift", False),
        (RNG.choice(ROUTES, 900), "shape", False),
    ],
    ids=["nulls", "all null", "text", "frozen", "-999", "-1", "shift", "nothing much"],
)
def test_changes_of_a_number_are_told_apart(values: Any, kind: str, broken: bool) -> None:
    change = classify_change(MILES, column(values))
    assert (change.kind, change.broken) == (kind, broken)


def test_warmer_days_are_a_shift_and_neither_a_sentinel_nor_a_unit() -> None:
    """Rows of an hour share their weather, so one value beyond the reference's range repeats without being broken."""
    hours = np.round(RNG.normal(70, 6, 20), 2)
    warm = np.repeat(hours, 45)
    winter = column(np.repeat(np.round(RNG.normal(38, 10, 1_800), 2), 45))
    change = classify_change(winter, column(warm), repeat=0.05)
    assert (change.kind, change.broken) == ("shift", False)
    rain = np.where(np.arange(900) < 45, 1.2, 0.0)
    dry = column(np.where(np.arange(20_000) % 400 < 5, 0.3, 0.0))
    assert not classify_change(dry, column(rain), repeat=0.3).broken


def test_a_weekday_is_not_frozen_because_it_is_the_same_all_day() -> None:
    weekdays = column(np.repeat(np.arange(7.0), 300))
    assert classify_change(weekdays, column(np.full(300, 3.0)), repeat=1.0).kind != "frozen"
    assert classify_change(weekdays, column(np.full(300, 3.0)), repeat=0.01).kind == "frozen"


def test_changes_of_a_category_are_told_apart() -> None:
    assert classify_change(CARRIERS, column(["UA", "B6", "XX"] * 100)).kind == "new_category"
    assert classify_change(CARRIERS, column(["UA"] * 300)).kind == "frozen"
    shares = classify_change(CARRIERS, column(["UA", "EV"] * 200))
    assert (shares.kind, shares.broken) == ("shape", False)


def test_a_picture_of_then_and_now_adds_up() -> None:
    for then, now in ((MILES, column(TODAY * 1.6)), (CARRIERS, column(["UA", "XX"] * 50))):
        drawn = distribution_of("x", then, now)
        assert drawn is not None
        assert sum(drawn.reference) == pytest.approx(1)
        assert sum(drawn.current) == pytest.approx(1)
        assert len(drawn.labels) == len(drawn.reference) == len(drawn.current)
    assert distribution_of("x", MILES, column(["text"])) is None


def test_a_jump_is_dated_and_a_slow_movement_is_called_gradual() -> None:
    rng = np.random.default_rng(3)
    jump = np.concatenate([rng.normal(0, 1, 20), rng.normal(8, 1, 5)])
    found = change_point(jump)
    assert (found.index, found.gradual) == (20, False)
    slow = np.concatenate([rng.normal(0, 0.5, 10), np.arange(15) * 0.8 + rng.normal(0, 0.5, 15)])
    assert change_point(slow).gradual
    assert change_point([1.0]).index == 0


def test_a_restored_number_has_the_references_distribution_and_keeps_its_order() -> None:
    restored = restore_feature((TODAY * 1.609344).tolist(), MILES)
    assert np.abs(np.quantile(restored, [0.1, 0.5, 0.9]) - np.quantile(MILES.numbers, [0.1, 0.5, 0.9])).max() < 60
    assert np.corrcoef(restored, TODAY)[0, 1] > 0.95


def test_restoring_fills_the_surplus_of_nulls_and_keeps_whole_numbers_whole() -> None:
    holes = restore_feature([None] * 50 + [3.0] * 50, MILES)
    assert None not in holes
    usual = Column("number", 100, 50, 0, np.ones(50), pa.array([], pa.string()))
    assert restore_feature([None] * 50 + [3.0] * 50, usual).count(None) == 50
    hours = column([5, 6, 7, 8])
    assert all(type(value) is int for value in restore_feature([11, 12], hours))
    drawn = restore_feature(["XX"] * 100, CARRIERS)
    assert set(drawn) <= {"UA", "B6", "EV"}
