"""Does one single value come far too often: a frozen sensor, a sentinel such as 0 or -999?"""

import numpy as np
from scipy import special

from everline.monitoring.drift.rates import binomial_above
from everline.monitoring.drift.result import DriftResult, of_minimum_effect
from everline.monitoring.profiles import IntArray

DELTA = 0.002
ROWS_MIN = 4


def spike_excess(reference: IntArray, current: IntArray, *, delta: float = DELTA) -> DriftResult:
    """Scan all cells for the one whose share grew most.

    What it measures: for each cell the conditional test of two rates, one-sided; the smallest p-value is multiplied
    by the number of cells scanned. ``effect`` is the excess share of rows in that cell.
    When it misleads: a lattice that moves (a unit change) fills many new cells; unseen and location are then smaller.

    Args:
        reference: int64, shape (k,): rows per cell.
        current: int64, shape (k,): rows per the same cells.
        delta: the smallest excess worth an alarm, as a share, 0 to 1.

    Returns:
        The effect as a share of rows, 0 to 1.

    Source: scan over disjoint cells with Bonferroni's bound; Przyborowski & Wilenski (1940) for each cell.

    Example:
        >>> reference = np.full(1000, 20)
        >>> current = np.full(1000, 2); current[400] += 20
        >>> spike_excess(reference, current).p_value < 1e-8
        True
    """
    n, m = int(reference.sum()), int(current.sum())
    scanned = np.flatnonzero(current >= ROWS_MIN)
    excess = current / m - reference / n
    scanned = scanned[excess[scanned] > 0]
    if len(scanned) == 0:
        return DriftResult("spike", 1.0, 0.0)
    hits = current[scanned].astype(np.float64)
    totals = hits + reference[scanned]
    p_cells = special.betainc(hits, totals - hits + 1.0, m / (n + m))
    best = int(np.argmin(p_cells))
    cell = int(scanned[best])
    p_any = min(1.0, float(p_cells[best]) * int(((reference + current) > 0).sum()))
    base = (float(reference[cell]) + 0.5) / (n + 1.0)
    p_minimum = binomial_above(float(current[cell]), float(m), min(1.0, base + delta))
    return DriftResult("spike", of_minimum_effect(p_any, p_minimum), float(excess[cell]))
