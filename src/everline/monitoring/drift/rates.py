"""The conditional test of two rates, which the tests of shares (missing, unseen) stand on."""

import math

from scipy import special

from everline.monitoring.drift.result import of_minimum_effect


def compare_rates(reference: tuple[float, float], current: tuple[float, float], *, delta: float) -> tuple[float, float]:
    """Return (p-value, effect) of "the rates differ, by more than `delta`".

    Given x0 + x1 hits in n0 + n1 rows, x1 is binomial with share n1 / (n0 + n1) when the rates are equal
    (hypergeometric, to be exact: the binomial has the heavier tails, so the test is on the safe side). The rarer
    of hits and misses is counted, which keeps the approximation close.

    Args:
        reference: hits and rows, ``(x0, n0)``; both may be fractional (a design effect divides both).
        current: hits and rows, ``(x1, n1)``.
        delta: the smallest difference of rates worth an alarm.

    Example:
        >>> compare_rates((10, 1000), (10, 1000), delta=0.005)
        (1.0, 0.0)
    """
    (x0, n0), (x1, n1) = reference, current
    if n0 <= 0 or n1 <= 0:
        return 1.0, 0.0
    effect = x1 / n1 - x0 / n0
    if x0 + x1 > (n0 + n1) / 2:
        x0, x1 = n0 - x0, n1 - x1
    total = x0 + x1
    if total <= 0:
        return 1.0, effect
    share = n1 / (n0 + n1)
    above = binomial_above(x1, total, share)
    below = binomial_above(total - x1, total, 1.0 - share)
    p_any = min(1.0, 2.0 * min(above, below))
    base = (x0 + 0.5) / (n0 + 1.0)
    if x1 / n1 >= x0 / n0:
        p_minimum = binomial_above(x1, n1, min(1.0, base + delta))
    else:
        p_minimum = binomial_above(n1 - x1, n1, 1.0 - max(0.0, base - delta))
    return of_minimum_effect(p_any, p_minimum), effect


def binomial_above(hits: float, trials: float, share: float) -> float:
    """Return P(X >= hits) for a binomial X; `hits` and `trials` may be fractional.

    Example:
        >>> round(binomial_above(3, 3, 0.5), 3)
        0.125
    """
    if hits <= 0:
        return 1.0
    if share >= 1.0:
        return 1.0
    if share <= 0.0:
        return 0.0
    value = float(special.betainc(hits, trials - hits + 1.0, share))
    return 1.0 if math.isnan(value) else value
