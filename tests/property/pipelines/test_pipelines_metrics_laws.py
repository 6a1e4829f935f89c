"""Laws that the metrics obey for any probabilities."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from everline.models import evaluation as ours

rows = st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=60).filter(
    lambda pairs: len({outcome for outcome, _ in pairs}) == 2
)


@given(rows)
def test_auc_sees_order_only_and_turns_over_with_it(pairs: list[tuple[bool, float]]) -> None:
    y = np.array([outcome for outcome, _ in pairs])
    p = np.round(np.array([value for _, value in pairs]), 6)
    assert 0 <= ours.auc(y, p) <= 1
    assert abs(ours.auc(y, p) + ours.auc(y, 1 - p) - 1) < 1e-9 or len(set(p)) != len(set(1 - p))
    assert ours.auc(y, p) == ours.auc(y, p / 2)


@given(rows)
def test_all_metrics_are_in_range_and_ignore_the_order_of_rows(pairs: list[tuple[bool, float]]) -> None:
    y, p = np.array([outcome for outcome, _ in pairs]), np.array([value for _, value in pairs])
    found, turned = ours.metrics(y, p), ours.metrics(y[::-1], p[::-1])
    assert all(abs(found[name] - turned[name]) < 1e-9 for name in found)
    assert all(0 <= found[name] <= 1 for name in found if name != "log_loss")
    assert found["log_loss"] >= 0


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_a_perfect_forecast_has_no_error(outcomes: list[bool]) -> None:
    y = np.array(outcomes)
    found = ours.metrics(y, y.astype(float))
    assert (found["error_rate"], found["brier"], found["calibration_error"]) == (0, 0, 0)
    assert found["log_loss"] < 1e-12
