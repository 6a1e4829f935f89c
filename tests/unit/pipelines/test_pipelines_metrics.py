"""The metrics agree with scikit-learn's where it has them, and with their definition where it has not."""

from __future__ import annotations

import doctest

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as theirs
from sklearn.linear_model import LogisticRegression

import everline as el
from everline.errors import InvalidInputError
from everline.models import evaluation as ours
from everline.pipelines import keys


def sample(n: int = 5000) -> tuple[ours.BoolArray, ours.FloatArray]:
    rng = np.random.default_rng(3)
    p = np.round(rng.uniform(size=n), 2)  # with ties
    return rng.uniform(size=n) < p, p


def test_auc_log_loss_brier_and_error_rate_agree_with_scikit_learn() -> None:
    y, p = sample()
    assert ours.auc(y, p) == pytest.approx(theirs.roc_auc_score(y, p), abs=1e-12)
    assert ours.log_loss(y, p) == pytest.approx(theirs.log_loss(y, np.clip(p, 1e-15, 1 - 1e-15)), rel=1e-9)
    assert ours.brier(y, p) == pytest.approx(theirs.brier_score_loss(y, p), abs=1e-12)
    assert ours.error_rate(y, p) == pytest.approx(1 - theirs.accuracy_score(y, p >= 0.5), abs=1e-12)


def test_calibration_error_is_the_weighted_gap_of_each_bin() -> None:
    y, p = sample(500)
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (p >= low) & (p < low + 1 / 15) if low < 14 / 15 else p >= low
        if inside.any():
            expected += inside.sum() * abs(y[inside].mean() - p[inside].mean())
    assert ours.calibration_error(y, p) == pytest.approx(expected / 500, abs=1e-9)


def test_auc_with_one_outcome_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="only one occurs"):
        ours.auc(np.array([True, True]), np.array([0.1, 0.2]))


def fitted() -> tuple[el.Model, pa.Table]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=300)
    late = rng.normal(size=300) < x
    table = pa.table({"x": x, "late": late, "who": rng.choice(["a", "b"], 300)})
    model = LogisticRegression().fit(table.select(["x"]).to_pandas(), late)
    return el.Model(estimator=model, features=("x",), target="late"), table


def test_an_evaluation_counts_known_outcomes_and_slices_add_up() -> None:
    model, table = fitted()
    unknown = table.slice(0, 5).set_column(1, "late", pa.nulls(5, pa.bool_()))
    found = el.evaluate(model, pa.concat_tables([table, unknown]), slices=["who"])
    assert found.n == 300
    assert [part.value for part in found.slices] == ["a", "b"]
    assert sum(part.n for part in found.slices) == 300
    weighted = sum(part.n * part.metrics["error_rate"] for part in found.slices) / 300
    assert weighted == pytest.approx(found.metrics["error_rate"])
    assert found.digest.startswith("sha256:")


def test_a_slice_with_one_outcome_has_no_auc() -> None:
    model, table = fitted()
    found = el.evaluate(
        model, table.set_column(2, "who", pa.array([str(v) for v in table["late"].to_pylist()])), slices=["who"]
    )
    assert all("auc" not in part.metrics for part in found.slices)


@pytest.mark.parametrize(("drop", "field"), [("x", "x"), ("late", "late"), ("who", "who")])
def test_a_missing_column_is_named(drop: str, field: str) -> None:
    model, table = fitted()
    with pytest.raises(InvalidInputError) as caught:
        el.evaluate(model, table.drop_columns([drop]), slices=["who"])
    assert caught.value.field == field


def test_the_examples_in_the_docstrings_hold() -> None:
    for module in (ours, keys):
        assert doctest.testmod(module).failed == 0
