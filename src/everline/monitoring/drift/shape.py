"""Did the shares of the bins or categories change?"""

import numpy as np
from scipy import special

from everline.monitoring.drift.result import DriftResult, of_minimum_effect
from everline.monitoring.profiles import IntArray

DELTA = 0.03
BINS_MAX = 16
EXPECTED_MIN = 8


def equal_mass_bins(reference: IntArray, *, bins: int) -> IntArray:
    """Return the bin of each cell: neighbouring cells joined until each bin holds its share of the reference.

    Args:
        reference: int64, shape (k,): rows per cell, cells in the order of their values.
        bins: how many bins, at least 1.

    Returns:
        int64, shape (k,): bin numbers from 0, never falling; fewer than `bins` where ties fill several shares.

    Example:
        >>> equal_mass_bins(np.array([5, 5, 5, 5]), bins=2).tolist()
        [0, 0, 1, 1]
    """
    middles = np.cumsum(reference) - reference / 2.0
    raw = np.minimum((middles * bins / max(1, int(reference.sum()))).astype(np.int64), bins - 1)
    return np.unique(raw, return_inverse=True)[1].astype(np.int64)


def shape_change(reference: IntArray, current: IntArray, *, delta: float = DELTA) -> DriftResult:
    """Compare the shares of bins or categories by a chi-square test of a minimum effect.

    What it measures: Cohen's ``w = sqrt(sum((q - p)^2 / p))`` between the shares, less what chance alone gives.
    The statistic is the two-sample chi-square; with an effect of delta it is noncentral with
    ``lambda = delta^2 * n m / (n + m)``.
    When it misleads: it does not see order inside or between bins; rare categories are judged together.

    Args:
        reference: int64, shape (k,): rows per bin.
        current: int64, shape (k,): rows per the same bins.
        delta: the smallest effect worth an alarm, as Cohen's w.

    Returns:
        The effect as Cohen's w, 0 or more, corrected for its bias.

    Source: Pearson (1900); Cohen (1988), chapter 7; the noncentral form: Murphy & Myors (1999), minimum-effect tests.

    Example:
        >>> shape_change(np.array([5000, 5000]), np.array([500, 500])).effect
        0.0
    """
    first, second = _joined(reference, current)
    n, m = int(first.sum()), int(second.sum())
    freedom = len(first) - 1
    if freedom < 1:
        return DriftResult("shape", 1.0, 0.0)
    pooled = (first + second) / (n + m)
    differences = second / m - first / n
    size = n * m / (n + m)
    statistic = float(size * (differences**2 / pooled).sum())
    effect = float(np.sqrt(max(0.0, statistic - freedom) / size))
    p_any = float(special.chdtrc(freedom, statistic))
    p_minimum = max(0.0, 1.0 - float(special.chndtr(statistic, freedom, delta**2 * size)))
    return DriftResult("shape", of_minimum_effect(p_any, p_minimum), effect)


def _joined(reference: IntArray, current: IntArray) -> tuple[IntArray, IntArray]:
    """Join the bins that are too rare for the chi-square law into one."""
    n, m = int(reference.sum()), int(current.sum())
    expected = (reference + current) * (min(n, m) / (n + m))
    rare = expected < EXPECTED_MIN
    first = np.append(reference[~rare], reference[rare].sum())
    second = np.append(current[~rare], current[rare].sum())
    if (first[-1] + second[-1]) * (min(n, m) / (n + m)) < EXPECTED_MIN and len(first) > 1:
        smallest = int(np.argmin(first[:-1] + second[:-1]))
        first[smallest] += first[-1]
        second[smallest] += second[-1]
        first, second = first[:-1], second[:-1]
    return first, second
