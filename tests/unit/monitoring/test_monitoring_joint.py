"""`el.joint_drift`: what no single feature shows is found, its pair is named, and the promise is kept."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import everline as el
from everline.errors import InvalidInputError


def table(rows: int, rng: np.random.Generator, *, together: float) -> pa.Table:
    first, second = rng.normal(size=(2, rows))
    texts = np.where(rng.random(rows) < 0.7, "a", "b")
    return pa.table(
        {
            "first": first,
            "second": np.exp(together * first + np.sqrt(1 - together**2) * second),
            "hour": rng.integers(0, 24, rows),
            "text": texts,
            "sparse": pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.3),
        }
    )


def test_a_changed_dependence_is_found_and_its_pair_named_though_no_feature_drifts() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        old, new = table(8_000, rng, together=0.0), table(2_000, rng, together=0.35)
        assert not el.drift_report(old, new).drifted
        found = el.joint_drift(old, new)
        assert found.drifted
        assert found.pair == ("first", "second")
        assert found.before == pytest.approx(0.0, abs=0.05)
        assert found.after == pytest.approx(0.35, abs=0.07)


def test_the_promise_is_kept_also_where_each_feature_moves_by_itself() -> None:
    """200 times at 5 %: 20 or more alarms have a chance below 1 in 300."""
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(5_000 + seed)
        old, new = table(1_500, rng, together=0.3), table(400, rng, together=0.3)
        new = new.set_column(0, "first", pa.array(3.0 * new["first"].to_numpy() + 1.0))
        alarms += el.joint_drift(old, new, level=0.05, delta=0.0).drifted
    assert alarms < 20


def test_too_few_rows_or_features_and_broken_columns_have_answers() -> None:
    rng = np.random.default_rng(1)
    old = table(1_000, rng, together=0.0)
    for new in (old.slice(0, 50), old.slice(0, 0), old.select(["first"])):
        found = el.joint_drift(old, new)
        assert (found.drifted, found.p_value, found.pair) == (False, 1.0, None)
    broken = old.set_column(0, "first", pa.array(["x"] * 1_000)).set_column(2, "hour", pa.array([3] * 1_000))
    assert 0.0 <= el.joint_drift(old, broken).p_value <= 1.0
    with pytest.raises(InvalidInputError, match="no chance"):
        el.joint_drift(old, old, level=1.5)
