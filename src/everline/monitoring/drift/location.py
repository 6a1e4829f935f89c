"""Did the middle of a number move?"""

import math

import numpy as np
from scipy import special

from everline.monitoring.drift.result import DriftResult, of_minimum_effect
from everline.monitoring.profiles import FloatArray, IntArray

DELTA = 0.03


def normal_scores(counts: IntArray) -> FloatArray:
    """Return the normal score of the mid-rank of each cell.

    Args:
        counts: int64, shape (k,): rows per cell, cells in the order of their values.

    Returns:
        float64, shape (k,): the standard normal quantile at ``mid-rank / (n + 1)``.

    Example:
        >>> normal_scores(np.array([1, 1, 1])).round(3).tolist()
        [-0.674, 0.0, 0.674]
    """
    ranks = np.cumsum(counts) - (counts - 1) / 2.0
    scores: FloatArray = special.ndtri(ranks / (counts.sum() + 1.0))
    return scores


def location_shift(reference: IntArray, current: IntArray, *, delta: float = DELTA) -> DriftResult:
    """Compare the middles of two samples by the van der Waerden test.

    What it measures: the difference of the mean normal scores of the pooled ranks, in standard deviations of the
    scores. For two normal samples it is the shift in standard deviations, and the test is as strong as Student's;
    for heavy tails it is far stronger.
    When it misleads: two samples of opposite skew can share their middle rank; see shape.

    Args:
        reference: int64, shape (k,): rows per cell, cells in the order of their values.
        current: int64, shape (k,): rows per the same cells.
        delta: the smallest shift worth an alarm, in standard deviations.

    Returns:
        The effect in standard deviations, positive when the current values are higher.

    Source: van der Waerden (1952); Hajek, Sidak & Sen (1999), Theory of Rank Tests, section 4.1 (ties by mid-ranks).

    Example:
        >>> location_shift(np.array([500, 500]), np.array([500, 500])).effect
        0.0
    """
    pooled = reference + current
    n, m = int(reference.sum()), int(current.sum())
    scores = normal_scores(pooled)
    mean = float(scores @ pooled) / (n + m)
    variance = float(((scores - mean) ** 2) @ pooled) / (n + m - 1)
    if variance <= 0:
        return DriftResult("location", 1.0, 0.0)
    effect = (float(scores @ current) / m - float(scores @ reference) / n) / math.sqrt(variance)
    error = math.sqrt(1.0 / n + 1.0 / m)
    p_any = 2.0 * float(special.ndtr(-abs(effect) / error))
    p_minimum = float(special.ndtr((delta - abs(effect)) / error) + special.ndtr((-delta - abs(effect)) / error))
    return DriftResult("location", of_minimum_effect(p_any, p_minimum), effect)
