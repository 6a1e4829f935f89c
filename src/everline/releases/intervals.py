"""Intervals for proportions and for differences between two independent samples; no table is looked up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from everline.loader import late

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import scipy.stats as stats

    FloatArray = npt.NDArray[np.float64]
else:
    np = late("numpy")
    stats = late("scipy.stats")

Z_95 = 1.959963984540054
Z_99 = 2.5758293035489004


class Interval(NamedTuple):
    """An estimate with its interval."""

    value: float
    low: float
    high: float


def wilson(hits: int, n: int, *, z: float = Z_95) -> Interval:
    """Return a proportion with Wilson's score interval.

    Args:
        hits: 0 to `n`.
        n: at least 1.
        z: normal quantile of the level.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.

    Example:
        >>> [round(value, 4) for value in wilson(0, 10)]
        [0.0, 0.0, 0.2775]
    """
    p, spread = hits / n, z * z / n
    centre = (p + spread / 2) / (1 + spread)
    margin = math.sqrt(p * (1 - p) * spread + spread * spread / 4) / (1 + spread)
    # At the ends the bound is the end itself, but for rounding.
    return Interval(p, 0.0 if hits == 0 else centre - margin, 1.0 if hits == n else centre + margin)


def newcombe(hits: int, n: int, other_hits: int, other_n: int, *, z: float = Z_95) -> Interval:
    """Return the difference of two independent proportions (first minus other) with Newcombe's hybrid score interval.

    Source: Newcombe (1998), Interval estimation for the difference between independent proportions, method 10.

    Example:
        >>> [round(value, 4) for value in newcombe(56, 70, 48, 80)]
        [0.2, 0.0524, 0.3339]
    """
    first, other = wilson(hits, n, z=z), wilson(other_hits, other_n, z=z)
    difference = first.value - other.value
    return Interval(
        difference,
        difference - math.hypot(first.value - first.low, other.high - other.value),
        difference + math.hypot(first.high - first.value, other.value - other.low),
    )


def welch(first: FloatArray, other: FloatArray, *, level: float = 0.95) -> Interval:
    """Return the difference of two independent means (first minus other) with Welch's interval.

    Args:
        first, other: float64, shape (n,), at least 2 values each.

    Source: Welch (1947), The generalization of "Student's" problem when several different population variances
    are involved; degrees of freedom by Satterthwaite (1946).

    Example:
        >>> import numpy as np
        >>> [round(value, 3) for value in welch(np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0]))]
        [2.0, -0.267, 4.267]
    """
    difference = float(first.mean() - other.mean())
    a, b = float(first.var(ddof=1)) / first.size, float(other.var(ddof=1)) / other.size
    if a + b == 0.0:
        return Interval(difference, difference, difference)
    freedom = (a + b) ** 2 / (a * a / (first.size - 1) + b * b / (other.size - 1))
    margin = float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(a + b)
    return Interval(difference, difference - margin, difference + margin)


def quantile_low(values: FloatArray, share: float, *, z: float = Z_99) -> float:
    """Return a lower bound of a quantile, from the order of the values alone.

    Args:
        values: float64, shape (n,), at least one.
        share: which quantile, above 0 and below 1.

    Source: David and Nagaraja (2003), Order Statistics, 7.1, with the normal approximation of the binomial.

    Example:
        >>> import numpy as np
        >>> quantile_low(np.arange(1000.0), 0.99)
        980.0
    """
    rank = share * values.size - z * math.sqrt(values.size * share * (1 - share))
    place = min(max(math.floor(rank) - 1, 0), values.size - 1)
    return float(np.partition(values, place)[place])


def sample_ratio(counts: tuple[int, int], shares: tuple[float, float]) -> float:
    """Return the p-value of "units were divided by these shares": below 0.001 something divides them otherwise.

    Source: chi-squared test of goodness of fit; Fabijan et al. (2019), Diagnosing sample ratio mismatch in online
    controlled experiments.

    Example:
        >>> round(sample_ratio((500, 500), (0.5, 0.5)), 3), sample_ratio((600, 400), (0.5, 0.5)) < 0.001
        (1.0, True)
    """
    n = sum(counts)
    expected = [n * share / sum(shares) for share in shares]
    return float(stats.chisquare(list(counts), expected).pvalue)
