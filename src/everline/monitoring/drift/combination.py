"""Several tests on several features, combined without losing count of the false alarms."""

from collections.abc import Mapping, Sequence

import numpy as np

from everline.monitoring.drift.extreme import extreme_rows
from everline.monitoring.drift.location import location_shift
from everline.monitoring.drift.missing import missing_change
from everline.monitoring.drift.result import P_SMALLEST, DriftResult
from everline.monitoring.drift.scale import scale_change
from everline.monitoring.drift.shape import EXPECTED_MIN, equal_mass_bins, shape_change
from everline.monitoring.drift.spike import spike_excess
from everline.monitoring.drift.unseen import unseen_mass
from everline.monitoring.profiles import CELLS, CategoryProfile, FloatArray, IntArray, NumberProfile

Q = 0.01
ROWS_MIN = 5
ROWS_MIN_LOCATION = 20
ROWS_MIN_SCALE = 50
BINS_MAX = 16
ROWS_PER_BIN = 20

# How the false alarms of a feature are shared among its tests (sum 1). A shift of the middle is the hardest to
# see with few rows, so it gets most; the other faults are found with p-values far below any share.
WEIGHTS = {
    "location": 0.64,
    "shape": 0.1,
    "scale": 0.1,
    "missing": 0.06,
    "unseen": 0.04,
    "spike": 0.04,
    "extreme": 0.02,
}


def compare_numbers(reference: NumberProfile, current: NumberProfile) -> list[DriftResult]:
    """Run every test of independent rows on one number; tests without enough rows are left out."""
    results = _missing(reference, current)
    n, m = reference.present, current.present
    if min(n, m) < ROWS_MIN:
        return results
    cells, before, now = align(reference, current)
    once, new = int((before == 1).sum()), int(now[before == 0].sum())
    results.append(unseen_mass((once, n), (new, m)))
    results.append(spike_excess(before, now))
    results.append(extreme_rows(reference.axis.positions(cells), before, now))
    if min(n, m) >= ROWS_MIN_LOCATION:
        results.append(location_shift(before, now))
    if min(n, m) >= ROWS_MIN_SCALE:
        results.append(scale_change(before, now))
        bins = equal_mass_bins(before + now, bins=max(2, min(BINS_MAX, min(n, m) // ROWS_PER_BIN)))
        results.append(shape_change(_binned(bins, before), _binned(bins, now)))
    return results


def compare_categories(reference: CategoryProfile, current: CategoryProfile) -> list[DriftResult]:
    """Run every test of independent rows on one category; tests without enough rows are left out."""
    results = _missing(reference, current)
    n, m = reference.present, current.present
    if min(n, m) < ROWS_MIN:
        return results
    # Values beyond the reference's most frequent ones count as seen in the share that the reference had of them.
    once = int((reference.counts == 1).sum()) + reference.unseen_rows
    results.append(unseen_mass((once, n), (current.unseen_rows, m)))
    if min(n, m) >= ROWS_MIN_SCALE:
        # The axis holds the values that the reference happened to have, so its rare ones come less often in any other
        # sample, and others instead: they are judged together with the values beyond the axis.
        rare = (reference.counts + current.counts) * (min(n, m) / (n + m)) < EXPECTED_MIN
        before = np.append(reference.counts[~rare], reference.unseen_rows + reference.counts[rare].sum())
        now = np.append(current.counts[~rare], current.unseen_rows + current.counts[rare].sum())
        results.append(shape_change(before, now))
    return results


def align(reference: NumberProfile, current: NumberProfile) -> tuple[IntArray, IntArray, IntArray]:
    """Return the cells that either profile has, and both profiles' rows per cell (int64, shape (k,) each)."""
    dense = np.zeros((2, CELLS), dtype=np.int64)
    dense[0, reference.cells] = reference.counts
    dense[1, current.cells] = current.counts
    occupied = np.zeros(CELLS, dtype=np.bool_)
    occupied[reference.cells] = occupied[current.cells] = True
    cells = np.flatnonzero(occupied)
    before, now = dense[:, cells]
    return cells, before, now


def combine_tests(results: Sequence[DriftResult], *, weights: Mapping[str, float] = WEIGHTS) -> DriftResult:
    """Return the test that speaks loudest, with the feature's p-value: ``min(1, min over tests of p / weight)``.

    The weights sum to 1, so under "no drift" the chance of a feature's p-value at or below alpha is at most
    alpha, however the tests depend on each other. With equal weights 1/k it is the rule k * min p.

    Source: Holm (1979), weighted Bonferroni; Genovese, Roeder & Wasserman (2006), p-value weighting.

    Example:
        >>> combine_tests([DriftResult("location", 0.01, 0.2), DriftResult("scale", 0.2, 0.1)])
        DriftResult(test='location', p_value=0.015625, effect=0.2)
    """
    best = min(results, key=lambda result: (result.p_value / weights[result.test], -abs(result.effect)))
    p_value = min(1.0, max(P_SMALLEST, best.p_value / weights[best.test]))
    return DriftResult(best.test, p_value, best.effect)


def benjamini_hochberg(p_values: Sequence[float], *, q: float = Q) -> list[bool]:
    """Return which hypotheses fall when the expected share of wrong alarms among all alarms is held at `q`.

    When nothing drifts at all, the chance of any alarm is at most `q` too.

    Source: Benjamini & Hochberg (1995).

    Example:
        >>> benjamini_hochberg([0.001, 0.5, 0.019], q=0.03)
        [True, False, True]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if len(p) == 0:
        return []
    order = np.argsort(p, kind="stable")
    passing = np.flatnonzero(p[order] <= q * np.arange(1, len(p) + 1) / len(p))
    if len(passing) == 0:
        return [False] * len(p)
    return [bool(value <= p[order[passing[-1]]]) for value in p]


def distance(before: IntArray, now: IntArray) -> float:
    """Return the total variation distance between two vectors of counts, 0 (same) to 1 (nothing in common).

    Example:
        >>> distance(np.array([5, 5]), np.array([10, 0]))
        0.5
    """
    if before.sum() == 0 or now.sum() == 0:
        return float(before.sum() != now.sum())
    return float(0.5 * np.abs(before / before.sum() - now / now.sum()).sum())


def number_distance(reference: NumberProfile, current: NumberProfile, *, bins: int = 20) -> float:
    """Return how far two number profiles lie apart, 0 to 1: over bins, off-lattice values and missing rows."""
    _, before, now = align(reference, current)
    known = before > 0
    index = equal_mass_bins(before, bins=bins) if before.sum() else np.zeros(len(before), dtype=np.int64)
    size = int(index.max()) + 1 if len(index) else 1
    old = np.bincount(index, weights=before, minlength=size)
    new = np.bincount(index, weights=np.where(known, now, 0), minlength=size)
    off = [int(now[~known].sum()), current.missing, current.strays]
    return distance(
        np.append(old, [0, reference.missing, reference.strays]).astype(np.int64),
        np.append(new, off).astype(np.int64),
    )


def category_distance(reference: CategoryProfile, current: CategoryProfile) -> float:
    """Return how far two category profiles lie apart, 0 to 1: over values, unseen values and missing rows."""
    before = np.append(reference.counts, [reference.unseen_rows, reference.missing, reference.strays])
    now = np.append(current.counts, [current.unseen_rows, current.missing, current.strays])
    return distance(before, now)


def _missing(reference: NumberProfile | CategoryProfile, current: NumberProfile | CategoryProfile) -> list[DriftResult]:
    if min(reference.rows, current.rows) < ROWS_MIN:
        return []
    return [missing_change((reference.missing, reference.rows), (current.missing, current.rows))]


def _binned(bins: IntArray, counts: IntArray) -> IntArray:
    weights: FloatArray = counts.astype(np.float64)
    return np.bincount(bins, weights=weights).astype(np.int64)
