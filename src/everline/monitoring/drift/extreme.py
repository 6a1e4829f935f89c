"""Do rows lie further out than anything in the reference?"""

import math

import numpy as np
from scipy import special

from everline.monitoring.drift.rates import binomial_above
from everline.monitoring.drift.result import DriftResult, of_minimum_effect
from everline.monitoring.profiles import FloatArray, IntArray

DELTA = 0.001


def extreme_rows(positions: FloatArray, reference: IntArray, current: IntArray, *, delta: float = DELTA) -> DriftResult:
    """Count the current rows whose \\|z\\| exceeds the largest \\|z\\| of the reference.

    What it measures: with j such rows, the j largest of all n + m rows are current ones; for exchangeable rows that
    has the chance ``m (m-1) ... (m-j+1) / (N (N-1) ... (N-j+1))``, whatever the distribution.
    When it misleads: it takes several far rows to alarm; one alone can be chance, however far it lies.

    Args:
        positions: float64, shape (k,): z of each cell.
        reference: int64, shape (k,): rows per cell.
        current: int64, shape (k,): rows per the same cells.
        delta: the smallest share of such rows worth an alarm.

    Returns:
        The effect as the share of current rows beyond the reference, 0 to 1.

    Source: Rosenbaum (1954), Tables for a nonparametric test of location (exceedances).

    Example:
        >>> z = np.arange(5.0)
        >>> extreme_rows(z, np.array([9, 9, 9, 0, 0]), np.array([9, 0, 0, 0, 9])).p_value < 0.01
        True
    """
    n, m = int(reference.sum()), int(current.sum())
    distances = np.abs(positions)
    occupied = reference > 0
    if not occupied.any() or m == 0:
        return DriftResult("extreme", 1.0, 0.0)
    beyond = int(current[distances > distances[occupied].max()].sum())
    if beyond == 0:
        return DriftResult("extreme", 1.0, 0.0)
    total = n + m
    log_p = special.gammaln(m + 1) - special.gammaln(m - beyond + 1)
    log_p -= special.gammaln(total + 1) - special.gammaln(total - beyond + 1)
    p_any = math.exp(max(-690.0, min(0.0, float(log_p))))
    p_minimum = binomial_above(beyond, m, 0.5 / (n + 1.0) + delta)
    return DriftResult("extreme", of_minimum_effect(p_any, p_minimum), beyond / m)
