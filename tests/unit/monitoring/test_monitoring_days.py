"""Rows that share their day: blocks, evidence over windows, quality of a window."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from everline.errors import InvalidInputError
from everline.monitoring.drift.columns import Column, column_of
from everline.monitoring.drift.combination import benjamini_hochberg
from everline.monitoring.windows.blocks import BlockReference, judge_window, prepare_blocks
from everline.monitoring.windows.quality import baseline_from_json, baseline_to_json, judge_quality, prepare_quality
from everline.monitoring.windows.sequence import Evidence, accumulate, alarm_delay, e_value, threshold


def day(rng: np.random.Generator, rows: int = 300) -> dict[str, Column]:
    """A day's weather is common to its rows; distances come from a lattice of routes; a sensor is sometimes off."""
    weather = rng.normal()
    off = rng.random() < 0.1
    return {
        "temp": column_of(pa.array(weather + 0.3 * rng.normal(size=rows))),
        "distance": column_of(pa.array(rng.choice([229.0, 569.0, 733.0, 1389.0, 2475.0], rows))),
        "gust": column_of(pa.array(np.where(rng.random(rows) < (0.6 if off else 0.1), np.nan, rng.normal(size=rows)))),
        "carrier": column_of(pa.array(rng.choice(["UA", "B6", "EV"], rows, p=[0.5, 0.3, 0.2]).tolist())),
    }


@pytest.fixture(scope="module")
def reference() -> BlockReference:
    rng = np.random.default_rng(11)
    return prepare_blocks([day(rng) for _ in range(80)])


def drifted(reference: BlockReference, window: dict[str, Column]) -> set[str]:
    judged = judge_window(reference, window)
    fallen = benjamini_hochberg([one.loudest.p_value for one in judged.values()])
    return {name for name, fell in zip(judged, fallen, strict=True) if fell}


def test_ordinary_days_alarm_in_at_most_three_per_cent() -> None:
    """Over references as well as days: one reference may happen to be calmer than the truth."""
    rng = np.random.default_rng(12)
    alarms = 0
    for _ in range(10):
        own = prepare_blocks([day(rng) for _ in range(80)])
        alarms += sum(bool(drifted(own, day(rng))) for _ in range(40))
    assert alarms <= 12


def test_a_fault_larger_than_the_days_movement_is_named(reference: BlockReference) -> None:
    rng = np.random.default_rng(13)
    miles = day(rng)
    values = miles["distance"].numbers * 1.609344
    assert "distance" in drifted(reference, {**miles, "distance": column_of(pa.array(values))})
    assert "carrier" in drifted(reference, {**miles, "carrier": column_of(pa.array(["UA"] * 250 + ["XX"] * 50))})
    frozen = column_of(pa.array([733.0] * 300))
    assert "distance" in drifted(reference, {**miles, "distance": frozen})


def test_windows_with_hardly_any_rows_are_left_out(reference: BlockReference) -> None:
    assert judge_window(reference, day(np.random.default_rng(1), rows=5)) == {}
    assert judge_window(reference, {}) == {}


def test_too_few_blocks_are_refused() -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(InvalidInputError, match="7 blocks"):
        prepare_blocks([day(rng) for _ in range(7)])


def test_e_values_are_fair_bets() -> None:
    p_values = (np.arange(200_000) + 0.5) / 200_000
    assert np.mean([e_value(float(p)) for p in p_values]) <= 1.0


def test_the_mean_time_to_a_false_alarm_is_at_least_the_promise() -> None:
    """10 streams at a promise of 20 windows; runs are cut at 400 windows, which only lowers the mean."""
    rng = np.random.default_rng(14)
    level = threshold(20, streams=10)
    delays = []
    for _ in range(60):
        times = [alarm_delay(rng.random(400), level=level) or 400 for _ in range(10)]
        delays.append(min(times))
    assert np.mean(delays) >= 20


def test_small_evidence_adds_up_to_an_alarm_and_says_when_it_began() -> None:
    quiet, drift = [0.6, 0.9, 0.4, 0.7], [0.02] * 12
    assert alarm_delay([*quiet, *drift], level=1000) in range(9, 16)
    state = Evidence()
    for p in (*quiet, *drift[:4]):
        state = accumulate(state, e_value(p))
    assert state.windows == 4


def answers(rng: np.random.Generator, rows: int, skill: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    signal = rng.normal(size=rows)
    probability = 1 / (1 + np.exp(-skill * signal))
    return probability, (rng.random(rows) < 1 / (1 + np.exp(-1.5 * signal))).astype(float)


def test_a_fall_of_quality_is_found_and_a_rise_is_not() -> None:
    rng = np.random.default_rng(15)
    baseline = prepare_quality([answers(rng, 400) for _ in range(30)])
    assert min(one.p_value for one in judge_quality(baseline, *answers(rng, 400)).values()) > 0.001
    worse = judge_quality(baseline, *answers(rng, 400, skill=-1.0))
    assert worse["log_loss"].p_value < 1e-6
    assert worse["auc"].p_value < 1e-6
    probability, outcome = answers(rng, 400)
    better = judge_quality(baseline, np.where(outcome > 0.5, 0.99, 0.01), outcome)
    assert better["log_loss"].p_value > 0.5
    assert better["auc"].p_value > 0.5


def test_quality_of_too_few_outcomes_is_not_judged_and_of_one_class_has_no_area() -> None:
    rng = np.random.default_rng(16)
    baseline = prepare_quality([answers(rng, 400) for _ in range(10)])
    assert judge_quality(baseline, *answers(rng, 10)) == {}
    assert "auc" not in judge_quality(baseline, np.full(100, 0.5), np.zeros(100))
    with pytest.raises(InvalidInputError, match="blocks of at least"):
        prepare_quality([answers(rng, 400) for _ in range(3)])


def test_a_baseline_is_kept_as_plain_values_without_loss() -> None:
    rng = np.random.default_rng(17)
    baseline = prepare_quality([answers(rng, 200) for _ in range(9)])
    assert baseline_from_json(baseline_to_json(baseline)) == baseline
