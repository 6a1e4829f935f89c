"""Did the spread of a number change?"""

import math

from scipy import special

from everline.monitoring.drift.location import normal_scores
from everline.monitoring.drift.result import DriftResult, of_minimum_effect
from everline.monitoring.profiles import IntArray

DELTA = 0.06


def scale_change(reference: IntArray, current: IntArray, *, delta: float = DELTA) -> DriftResult:
    """Compare the spreads of two samples by Klotz scores.

    What it measures: how much larger the mean squared normal score of the current rows is than that of the
    reference rows, as ``effect = log(mean current / mean reference)``. The current mean is referred to a gamma law
    of its own mean and variance by the cube root of Wilson and Hilferty, which keeps the far tail honest.
    When it misleads: a strong shift of the middle also raises squared scores; location is then smaller in p.

    Args:
        reference: int64, shape (k,): rows per cell, cells in the order of their values.
        current: int64, shape (k,): rows per the same cells.
        delta: the smallest change worth an alarm, in log units of the mean squared score (0.06: about 3 % of spread).

    Returns:
        The effect in log units, positive when the current spread is larger.

    Source: Klotz (1962), Nonparametric tests for scale; Wilson & Hilferty (1931).

    Example:
        >>> import numpy as np
        >>> counts = np.array([10, 500, 10])
        >>> scale_change(counts, counts).effect
        0.0
    """
    pooled = reference + current
    n, m = int(reference.sum()), int(current.sum())
    squares = normal_scores(pooled) ** 2
    mean = float(squares @ pooled) / (n + m)
    variance = float(((squares - mean) ** 2) @ pooled) / (n + m - 1)
    if variance <= 0 or mean <= 0:
        return DriftResult("scale", 1.0, 0.0)
    now, before = float(squares @ current) / m, float(squares @ reference) / n
    effect = math.log((now + 1e-12) / (before + 1e-12))
    # Under "no difference" the difference now - before has mean 0 and this variance; its skew is that of `now`.
    freedom = 2.0 * mean**2 / (variance * (1.0 / n + 1.0 / m))
    ratio = 1.0 + (now - before) / mean
    p_any = 2.0 * min(_tail(ratio, freedom, above=ratio >= 1.0), 0.5)
    p_minimum = _tail(ratio / math.exp(math.copysign(delta, effect)), freedom, above=ratio >= 1.0)
    return DriftResult("scale", of_minimum_effect(p_any, p_minimum), effect)


def _tail(ratio: float, freedom: float, *, above: bool) -> float:
    """The chance of a chi-square mean at or beyond `ratio`, upwards or downwards."""
    spread = 2.0 / (9.0 * freedom)
    z = (max(ratio, 0.0) ** (1.0 / 3.0) - (1.0 - spread)) / math.sqrt(spread)
    return float(special.ndtr(-z if above else z))
