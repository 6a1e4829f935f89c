"""The paired comparison against brute force, against sampling theory, and with hostile input."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from everline.errors import InvalidInputError
from everline.models import comparison
from everline.models.comparison import compare


def sample(n=600, *, seed=0, noise=0.6):
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=n)
    y = rng.uniform(size=n) < 1 / (1 + np.exp(-logit))
    champion = 1 / (1 + np.exp(-(logit + rng.normal(scale=noise, size=n))))
    challenger = 1 / (1 + np.exp(-(logit + rng.normal(scale=noise / 2, size=n))))
    return y, champion, challenger


def test_values_are_those_of_scikit_learn():
    y, champion, challenger = sample()
    found = compare(y, champion, challenger, metric="log_loss")
    assert found.champion_value == pytest.approx(log_loss(y, champion))
    assert found.challenger_value == pytest.approx(log_loss(y, challenger))
    ranked = compare(y, champion.round(1), challenger.round(1), metric="auc")
    assert ranked.champion_value == pytest.approx(roc_auc_score(y, champion.round(1)))
    assert ranked.challenger_value == pytest.approx(roc_auc_score(y, challenger.round(1)))


def test_delong_interval_equals_the_definition_written_out():
    y, champion, challenger = sample(80, seed=3)
    champion, challenger = champion.round(2), challenger.round(2)
    parts = []
    for p in (champion, challenger):
        kernel = (p[y][:, None] > p[~y][None, :]) + 0.5 * (p[y][:, None] == p[~y][None, :])
        parts.append((kernel.mean(axis=1), kernel.mean(axis=0)))
    v10 = np.cov(parts[0][0], parts[1][0])
    v01 = np.cov(parts[0][1], parts[1][1])
    s = v10 / y.sum() + v01 / (~y).sum()
    deviation = np.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])
    found = compare(y, champion, challenger, metric="auc")
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * deviation, rel=1e-6)


def test_a_clustered_auc_interval_agrees_with_delong_when_each_row_is_its_own_block():
    y, champion, challenger = sample(4000)
    plain = compare(y, champion, challenger, metric="auc")
    single = compare(y, champion, challenger, metric="auc", blocks=np.arange(4000))
    assert single.high - single.low == pytest.approx(plain.high - plain.low, rel=0.01)


def test_equal_input_and_seed_give_equal_numbers_and_another_seed_nearly_equal_ones():
    y, champion, challenger = sample()
    first = compare(y, champion, challenger, seed=5)
    assert compare(y, champion, challenger, seed=5) == first
    other = compare(y, champion, challenger, seed=6)
    assert other.low == pytest.approx(first.low, abs=0.15 * (first.high - first.low))


def test_swapping_the_models_mirrors_the_verdict():
    y, champion, challenger = sample(3000)
    for metric in ("log_loss", "auc"):
        assert compare(y, champion, challenger, metric=metric).verdict == "better"
        assert compare(y, challenger, champion, metric=metric).verdict == "worse"


@pytest.mark.parametrize("metric", ["log_loss", "error_rate", "auc"])
def test_identical_models_show_no_difference(metric):
    y, champion, _ = sample()
    found = compare(y, champion, champion, metric=metric)
    assert (found.difference, found.low, found.high, found.verdict) == (0, 0, 0, "no difference shown")


@pytest.mark.parametrize("metric", ["log_loss", "error_rate", "auc"])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(metric):
    # Two equally noisy models: the true difference is 0 in each of the 200 samples.
    rng = np.random.default_rng(11)
    covered = 0
    for seed in range(200):
        n = 300
        logit = rng.normal(size=n)
        y = rng.uniform(size=n) < 1 / (1 + np.exp(-logit))
        a, b = (1 / (1 + np.exp(-(logit + rng.normal(scale=0.5, size=n)))) for _ in "ab")
        covered += compare(y, a, b, metric=metric, resamples=400, seed=seed).verdict == "no difference shown"
    assert 0.90 <= covered / 200 <= 0.99


def test_days_that_stay_together_widen_the_interval_when_rows_of_a_day_are_alike():
    rng = np.random.default_rng(2)
    days, each = 40, 50
    day = np.repeat(np.arange(days), each)
    y = rng.uniform(size=days * each) < 0.5
    tilt = np.repeat(rng.normal(scale=0.15, size=days), each)
    champion = np.full(days * each, 0.5)
    challenger = np.clip(0.5 + np.where(y, tilt, -tilt), 0.05, 0.95)
    apart = compare(y, champion, challenger)
    together = compare(y, champion, challenger, blocks=day)
    assert together.blocks == days
    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_large_samples_take_the_quantiles_that_drawing_would_give():
    y, champion, challenger = sample(10_001)
    large = compare(y, champion, challenger)
    drawn = compare(y[:10_000], champion[:10_000], challenger[:10_000], resamples=20_000)
    assert "Cornish-Fisher" in large.method and "20000 resamples" in drawn.method
    width = drawn.high - drawn.low
    assert (large.low, large.high) == pytest.approx((drawn.low, drawn.high), abs=0.03 * width)
    # Skewed differences: a normal interval would be off by more than that at one end.
    skewed = np.random.default_rng(0).exponential(1, 10_001) ** 2
    low, high = comparison._bootstrap_limits(skewed, 0.999)
    means = comparison._row_means(np.random.default_rng(1), skewed, 20_000)
    ends = np.quantile(means, [0.0005, 0.9995])
    assert (low, high) == pytest.approx(tuple(ends), abs=0.04 * (ends[1] - ends[0]))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"outcome": [0, 1] * 10}, "outcome"),
        ({"outcome": [0, 2] * 20}, "outcome"),
        ({"outcome": ["a"] * 40}, "outcome"),
        ({"champion": [0.5] * 39}, "champion"),
        ({"challenger": [float("nan")] * 40}, "challenger"),
        ({"challenger": [1.5] * 40}, "challenger"),
        ({"challenger": [[0.5]] * 40}, "challenger"),
        ({"metric": "f1"}, "metric"),
        ({"level": 1.0}, "level"),
        ({"blocks": [1, 2] * 20}, "blocks"),
        ({"blocks": [1]}, "blocks"),
        ({"metric": "auc", "outcome": [0] * 40}, "outcome"),
    ],
)
def test_bad_input_is_refused_and_the_field_is_named(change, field):
    values = {"outcome": [0, 1] * 20, "champion": [0.5] * 40, "challenger": [0.6] * 40} | change
    with pytest.raises(InvalidInputError) as caught:
        compare(values.pop("outcome"), values.pop("champion"), values.pop("challenger"), **values)
    assert caught.value.field == field
    assert caught.value.hint
