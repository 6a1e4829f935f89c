"""Which answers would be others: counted, tested, with intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from everline.loader import late
from everline.reproduction.backtests.types import FlipCount, Shift

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = late("numpy")

_EXACT_MAX = 100_000
_Z_95 = 1.959963984540054


def counts(before: Sequence[Any], after: Sequence[Any], outcome: Sequence[Any]) -> list[FlipCount]:
    """How many labels changed into which, the most first; `outcome` is None where it is not known."""
    found: Counter[tuple[Any, Any]] = Counter()
    right: Counter[tuple[Any, Any]] = Counter()
    wrong: Counter[tuple[Any, Any]] = Counter()
    known: Counter[tuple[Any, Any]] = Counter()
    for old, new, truth in zip(before, after, outcome, strict=True):
        if same_label(old, new):
            continue
        pair = (old, new)
        found[pair] += 1
        if truth is not None:
            known[pair] += 1
            right[pair] += same_label(new, truth)
            wrong[pair] += same_label(old, truth)
    return [
        FlipCount(
            before=old, after=new, count=number, known=known[old, new], right=right[old, new], wrong=wrong[old, new]
        )
        for (old, new), number in found.most_common()
    ]


def same_label(one: Any, two: Any) -> bool:
    """Whether two labels mean the same; outcomes are numbers where labels may be truth values.

    Example:
        >>> same_label(True, 1.0), same_label("a", "b"), same_label(0, False)
        (True, False, True)
    """
    return bool(one == two)


def share_interval(count: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

    Source: Wilson (1927); Brown, Cai and DasGupta (2001), eq. 4.

    Example:
        >>> [round(end, 4) for end in share_interval(10, 100)]
        [0.0552, 0.1744]
    """
    share, z2 = count / n, _Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    margin = _Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - margin), min(1.0, centre + margin)


def mcnemar(only_before: int, only_after: int) -> float:
    """The two-sided p-value that two classifiers err equally often, from the rows on which just one of them is right.

    Exact (binomial) up to 100,000 such rows; beyond, the normal limit with continuity correction.

    Args:
        only_before, only_after: rows that only the first, or only the second, has right.

    Source: McNemar (1947), "Note on the sampling error of the difference between correlated proportions".

    Example:
        >>> round(mcnemar(2, 10), 4), mcnemar(5, 5), mcnemar(0, 0)
        (0.0386, 1.0, 1.0)
    """
    n, k = only_before + only_after, min(only_before, only_after)
    if n == 0 or only_before == only_after:
        return 1.0
    if n > _EXACT_MAX:
        z = (abs(only_before - only_after) - 1) / math.sqrt(n)
        return 2 * (1 - NormalDist().cdf(z))
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2) for i in range(k + 1)]
    top = max(logs)
    return min(1.0, 2 * math.exp(top) * math.fsum(math.exp(one - top) for one in logs))


def shift(
    output: str, before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], days: Sequence[Any] | None
) -> Shift | None:
    """How far a number moves on average, with the interval of that mean; None where no row has both numbers.

    Args:
        days: one label per row; rows of one day are not independent, so that days are averaged first (cluster-robust
            standard error of a mean). None takes rows as independent.
    """
    both = np.isfinite(before) & np.isfinite(after)
    moved = (after - before)[both]
    n = moved.size
    if n == 0:
        return None
    mean = float(moved.mean())
    centred = moved - mean
    if days is not None:
        labels = np.unique(np.asarray(days)[both], return_inverse=True)[1]
        sums = np.bincount(labels, weights=centred)
        groups = sums.size
        correction = groups / (groups - 1) if groups > 1 else 1.0
        error = math.sqrt(correction * float((sums**2).sum())) / n
    else:
        error = float(moved.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return Shift(
        output=output,
        mean=mean,
        low=mean - _Z_95 * error,
        high=mean + _Z_95 * error,
        largest=float(np.abs(moved).max()),
    )
