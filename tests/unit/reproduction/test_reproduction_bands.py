"""Bands of repeats: their numbers, how often they are right, and what they do to a verdict."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from scipy import stats

from everline.reproduction.bands import bands, numbers, prediction_band, with_bands
from everline.reproduction.types import Cause, FirstDifference, LevelCheck, Reproduction, Verdict


def test_a_band_is_the_prediction_interval_of_the_textbook() -> None:
    values = np.array([10.1, 9.8, 10.4, 10.0])
    low, high = prediction_band(list(values), level=0.9)
    t = stats.t.ppf(0.95, df=3)
    half = t * values.std(ddof=1) * math.sqrt(1 + 1 / 4)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_a_run_that_is_equal_has_all_its_numbers_inside_as_often_as_promised() -> None:
    rng = np.random.default_rng(11)
    trials, metrics = 400, 3
    right = 0
    for _ in range(trials):
        draws = rng.normal(0.8, 0.01, size=(6, metrics))
        named = [{f"m{i}": float(value) for i, value in enumerate(row)} for row in draws]
        right += all(band.inside for band in bands(named[0], named[1:]))
    # Bonferroni promises 95 % at least; independent metrics are near it: 380 ± 2.6 · 4.4 of 400.
    assert right / trials >= 0.92


def test_what_no_repeat_shows_is_outside() -> None:
    repeats = [{"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.5}, {"a": 1.0, "b": 3.0}]
    found = {one.name: one for one in bands({"a": 1.0, "b": 2.6, "c": 1.0}, repeats)}
    assert (found["a"].inside, found["b"].inside, found["c"].inside) == (True, True, False)
    assert (found["a"].low, found["a"].high) == (1.0, 1.0)
    assert not bands({"a": 1.0000001}, [{"a": 1.0}] * 3)[0].inside
    assert not bands({"a": math.nan}, [{"a": 1.0}] * 3)[0].inside
    assert not bands({"a": 1.0}, [{"a": 1.0}, {"a": math.nan}, {"a": 1.0}])[0].inside
    assert not bands({}, [{"a": 1.0}] * 3)[0].inside


def test_numbers_are_named_by_their_path_and_seeds_are_none() -> None:
    value = {"metrics": {"auc": 0.7, "n": 3}, "seed": 4, "ok": True, "name": "x", "folds": [0.5, None]}
    assert dict(numbers(value, "evaluate")) == {
        "evaluate.metrics.auc": 0.7, "evaluate.metrics.n": 3.0, "evaluate.folds.0": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "recorded", "level", "verdict"),
    [
        (Cause.NON_DETERMINISM, 0.82, "L3", Verdict.EQUIVALENT),
        (Cause.NON_DETERMINISM, 0.99, "L2", Verdict.DIVERGED),
        (Cause.CODE, 0.82, "L1", Verdict.DIVERGED),
    ],
)
def test_l3_is_earned_inside_of_the_bands_by_what_nobody_changed(
    cause: Cause, recorded: float, level: str, verdict: Verdict
) -> None:
    earned = {"L0": True, "L1": True, "L2": cause is not Cause.CODE, "L3": False, "L4": False}
    report = Reproduction(
        run="r", level="L2", verdict=Verdict.DIVERGED, reason="at step draw, because of chance",
        first_difference=FirstDifference(step="draw", cause=cause, detail="chance"), rebuilds=("b",),
        checks=tuple(LevelCheck(level=name, earned=ok, reason="") for name, ok in earned.items()),
    )  # fmt: skip
    found = bands({"auc": recorded}, [{"auc": value} for value in (0.81, 0.83, 0.82, 0.80)])
    judged = with_bands(report, found, ["1", "2", "3", "4"])
    assert (judged.level, judged.verdict, judged.repeats) == (level, verdict, ("1", "2", "3", "4"))
    check = judged.checks[3]
    assert check.earned is (recorded == 0.82)
    assert f"auc {recorded}" in check.reason and "of 4 repeats" in check.reason
    assert msgspec.json.decode(msgspec.json.encode(judged), type=Reproduction) == judged
    assert with_bands(report, (), ["1", "2", "3"]).checks[3].reason == "no result is a number, so there is no band"
