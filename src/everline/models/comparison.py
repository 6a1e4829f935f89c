"""Champion against challenger on the same rows: the difference, with an interval that can be defended.

Both models answer the same rows, so the rows' difficulty cancels: the paired interval is narrower, and
honest. Rows of one day share their weather and are not independent; pass `blocks` (one label per row,
such as the day), and whole blocks are resampled instead of rows.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from everline.errors import InvalidInputError
from everline.loader import late
from everline.models.types import Comparison

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]
else:
    np = late("numpy")
    FloatArray = Any

METRICS = {"log_loss": -1, "error_rate": -1, "auc": 1}
"""The metrics that can be compared, and in which direction each is better."""

ROWS_MIN = 30
BLOCKS_MIN = 10
RESAMPLES_MAX = 20_000
_DRAWN_ROWS = 10_000
"""Up to here the bootstrap of a mean is drawn; beyond, its quantiles follow from its first three cumulants."""
_DRAWS_AT_ONCE = 1 << 22
_PROBABILITY_FLOOR = 1e-15
_normal_quantile = NormalDist().inv_cdf  # scipy's would cost every start of the server a third of its time


def compare(
    outcome: npt.ArrayLike,
    champion: npt.ArrayLike,
    challenger: npt.ArrayLike,
    *,
    metric: str = "log_loss",
    blocks: npt.ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two models' probabilities on the same rows.

    What it measures: the metric's difference and its two-sided interval over repeated samples of rows
    (or blocks): a percentile bootstrap for log loss and error rate, DeLong's variance for AUC.
    When it misleads: with rows that depend on each other and no `blocks`, the interval is too narrow; it
    says nothing about rows unlike these.

    Args:
        outcome: shape (n,), each 0 or 1; n at least 30.
        champion: probability of outcome 1, shape (n,), each in [0, 1].
        challenger: as `champion`.
        metric: `log_loss`, `error_rate` (at probability 0.5) or `auc`.
        blocks: labels, shape (n,), at least 10 different ones; rows with one label stay together.
        level: confidence, 0.5 to 0.9999.
        resamples: bootstrap samples, 200 to 20,000.
        seed: of the bootstrap; equal input and seed give equal numbers.

    Returns:
        The comparison; `better` only when the whole interval lies on the better side of 0.

    Raises:
        InvalidInputError: a shape, range or count is wrong, or AUC is asked with fewer than 2 rows of a class.

    Source: Efron and Tibshirani (1993), ch. 13 and 8 (paired, percentile); Field and Welsh (2007) for whole
        blocks; DeLong, DeLong and Clarke-Pearson (1988) by the ranks of Sun and Xu (2014); Obuchowski (1997)
        for AUC with blocks.

    Example:
        >>> rng = np.random.default_rng(1)
        >>> p = rng.uniform(0.05, 0.95, 4000)
        >>> y = rng.uniform(size=4000) < p
        >>> found = compare(y, np.full(4000, 0.5), p)
        >>> found.verdict, found.low < found.difference < found.high < 0
        ('better', True)
        >>> compare(y, p, p).verdict
        'no difference shown'
    """
    if metric not in METRICS:
        raise InvalidInputError(
            f"There is no metric {metric!r} to compare by.", hint=f"Use one of {', '.join(METRICS)}.", field="metric"
        )
    if not 0.5 <= level <= 0.9999 or not 200 <= resamples <= RESAMPLES_MAX:
        raise InvalidInputError(
            f"level {level} or resamples {resamples} is out of range.",
            hint=f"level lies in 0.5 to 0.9999, resamples in 200 to {RESAMPLES_MAX}.",
            field="level",
        )
    y = _outcomes(outcome)
    ours, theirs = _probabilities(champion, y, "champion"), _probabilities(challenger, y, "challenger")
    labels = None if blocks is None else _labels(blocks, y)
    if metric == "auc":
        before, after, low, high, method = _auc(y, ours, theirs, labels, level)
    else:
        losses = log_losses if metric == "log_loss" else errors
        first, second = losses(y, ours), losses(y, theirs)
        before, after = float(first.mean()), float(second.mean())
        low, high, method = _mean_interval(second - first, labels, level, resamples, seed)
    better = METRICS[metric]
    if low == high == 0 or low <= 0 <= high:
        verdict = "no difference shown"
    else:
        verdict = "better" if low * better > 0 else "worse"
    return Comparison(
        metric=metric,
        n=y.size,
        champion_value=before,
        challenger_value=after,
        difference=after - before,
        low=low,
        high=high,
        level=level,
        method=method,
        blocks=None if labels is None else int(labels.max()) + 1,
        verdict=verdict,
    )


def log_losses(outcome: FloatArray, probability: FloatArray) -> FloatArray:
    """Return each row's logarithmic loss in nats, shape (n,), with probabilities kept off 0 and 1 by 1e-15.

    Example:
        >>> log_losses(np.array([1.0, 0.0]), np.array([0.5, 0.5])).round(4).tolist()
        [0.6931, 0.6931]
    """
    right = np.where(outcome > 0.5, probability, 1.0 - probability)
    losses: FloatArray = -np.log(np.clip(right, _PROBABILITY_FLOOR, 1.0))
    return losses


def errors(outcome: FloatArray, probability: FloatArray) -> FloatArray:
    """Return 1 for each row whose answer at probability 0.5 is wrong, else 0; shape (n,).

    Example:
        >>> errors(np.array([1.0, 0.0]), np.array([0.5, 0.7])).tolist()
        [0.0, 1.0]
    """
    wrong: FloatArray = ((probability >= 0.5) != (outcome > 0.5)).astype(np.float64)
    return wrong


def _outcomes(values: npt.ArrayLike) -> FloatArray:
    y = _floats(values, "outcome")
    if y.size < ROWS_MIN:
        raise InvalidInputError(
            f"{y.size} rows are too few to compare two models.",
            hint=f"Give at least {ROWS_MIN} rows with a known outcome.",
            field="outcome",
        )
    if not np.isin(y, (0.0, 1.0)).all():
        raise InvalidInputError("An outcome is neither 0 nor 1.", hint="Drop rows without an outcome.", field="outcome")
    return y


def _probabilities(values: npt.ArrayLike, y: FloatArray, field: str) -> FloatArray:
    p = _floats(values, field)
    if p.shape != y.shape:
        raise InvalidInputError(
            f"{field} has {p.size} values for {y.size} outcomes.", hint="Both must answer the same rows.", field=field
        )
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise InvalidInputError(
            f"{field} has a value that is not a probability.", hint="Each lies in 0 to 1; NaN is none.", field=field
        )
    return p


def _floats(values: npt.ArrayLike, field: str) -> FloatArray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"{field} is not a list of numbers.", hint="Give one number per row.", field=field
        ) from None
    if array.ndim != 1:
        raise InvalidInputError(f"{field} has {array.ndim} dimensions.", hint="Give one number per row.", field=field)
    return array


def _labels(blocks: npt.ArrayLike, y: FloatArray) -> npt.NDArray[np.int64]:
    array: npt.NDArray[Any] = np.asarray(blocks)
    if array.shape != y.shape:
        raise InvalidInputError(
            f"blocks has {array.size} labels for {y.size} rows.", hint="Give one label per row.", field="blocks"
        )
    found, labels = np.unique(array, return_inverse=True)
    if found.size < BLOCKS_MIN:
        raise InvalidInputError(
            f"{found.size} blocks are too few for an interval.",
            hint=f"Use smaller blocks (at least {BLOCKS_MIN}), or none if the rows are independent.",
            field="blocks",
        )
    return labels.astype(np.int64)


def _mean_interval(
    differences: FloatArray, labels: npt.NDArray[np.int64] | None, level: float, resamples: int, seed: int
) -> tuple[float, float, str]:
    rng = np.random.default_rng(seed)
    n = differences.size
    if labels is not None:
        sums = np.bincount(labels, weights=differences).astype(np.float64)
        sizes = np.bincount(labels).astype(np.float64)
        means = _block_means(rng, sums, sizes, resamples)
        method = f"paired block bootstrap, percentile, {resamples} resamples, seed {seed}"
    elif n > _DRAWN_ROWS:
        low, high = _bootstrap_limits(differences, level)
        return low, high, "paired bootstrap, percentile, by its Cornish-Fisher expansion"
    else:
        means = _row_means(rng, differences, resamples)
        method = f"paired bootstrap, percentile, {resamples} resamples, seed {seed}"
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), method


def _bootstrap_limits(differences: FloatArray, level: float) -> tuple[float, float]:
    """The ends of the percentile bootstrap's interval of a mean, without drawing samples.

    Means of n rows drawn from given ones have those rows' mean m, variance s^2/n and skewness g/sqrt(n); so their
    quantile at z is `m + s/sqrt(n) (z + g (z^2 - 1) / (6 sqrt(n)))` up to terms of order 1/n.

    Source: Cornish and Fisher (1938); Hall (1992), "The Bootstrap and Edgeworth Expansion", section 3.3.
    """
    n = differences.size
    mean, deviation = float(differences.mean()), float(differences.std())
    if deviation == 0.0:
        return mean, mean
    skewness = float((((differences - mean) / deviation) ** 3).mean())
    z = _normal_quantile((1 + level) / 2)
    turn = skewness * (z * z - 1) / (6 * np.sqrt(n))
    error = deviation / np.sqrt(n)
    return float(mean + error * (turn - z)), float(mean + error * (turn + z))


def _row_means(rng: np.random.Generator, differences: FloatArray, resamples: int) -> FloatArray:
    n = differences.size
    means = np.empty(resamples)
    step = max(1, _DRAWS_AT_ONCE // n)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = rng.integers(0, n, size=(count, n), dtype=np.int32)
        means[start : start + count] = differences[drawn].mean(axis=1)
    return means


def _block_means(rng: np.random.Generator, sums: FloatArray, sizes: FloatArray, resamples: int) -> FloatArray:
    count = sums.size
    means = np.empty(resamples)
    step = max(1, _DRAWS_AT_ONCE // count)
    for start in range(0, resamples, step):
        drawn = rng.integers(0, count, size=(min(step, resamples - start), count), dtype=np.int32)
        means[start : start + step] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return means


def _auc(
    y: FloatArray, champion: FloatArray, challenger: FloatArray, labels: npt.NDArray[np.int64] | None, level: float
) -> tuple[float, float, float, float, str]:
    before, first = _placements(y, champion)
    after, second = _placements(y, challenger)
    change = second - first
    positive = y > 0.5
    if labels is None:
        variance = sum(change[side].var(ddof=1) / side.sum() for side in (positive, ~positive))
        method = "DeLong's paired variance, normal interval"
    else:
        # Each row's share in the AUC difference, summed per block: blocks are independent, their rows are not.
        shares = np.where(positive, change / positive.sum(), change / (~positive).sum())
        totals = np.bincount(labels, weights=shares)
        variance = totals.var(ddof=1) * totals.size
        method = "Obuchowski's clustered paired variance, normal interval"
    margin = float(_normal_quantile((1 + level) / 2) * np.sqrt(variance))
    return before, after, after - before - margin, after - before + margin, method


def _placements(y: FloatArray, score: FloatArray) -> tuple[float, FloatArray]:
    """AUC, and per row its centred placement: the share of the other class that it beats, less the AUC."""
    positive = y > 0.5
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        raise InvalidInputError(
            f"AUC needs both outcomes; there are {m} ones and {n} zeros.", hint="Use more rows.", field="outcome"
        )
    rank = _midranks(score)
    placement = np.empty(y.size)
    placement[positive] = (rank[positive] - _midranks(score[positive])) / n
    placement[~positive] = 1.0 - (rank[~positive] - _midranks(score[~positive])) / m
    auc = float(placement[positive].mean())
    return auc, placement - auc


def _midranks(values: FloatArray) -> FloatArray:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: FloatArray = np.cumsum(counts) - (counts - 1) / 2
    return shared[place]
