"""Champion against challenger in slices: each with an interval that allows for how many were looked at."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from everline.errors import InvalidInputError
from everline.loader import late
from everline.models.comparison import BLOCKS_MIN, ROWS_MIN, compare
from everline.models.types import SliceComparison

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = late("numpy")

SLICES_MAX = 200
_SIMULTANEOUS_MAX = 0.9999
_RESAMPLES = 10_000
_TAIL_DRAWS = 10
"""So many bootstrap samples shall lie beyond each end of an interval."""


def compare_slices(
    outcome: npt.ArrayLike,
    champion: npt.ArrayLike,
    challenger: npt.ArrayLike,
    *,
    slices: Mapping[str, Sequence[Any]],
    metric: str = "log_loss",
    blocks: npt.ArrayLike | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> list[SliceComparison]:
    """Compare two models' probabilities in every slice that is large enough.

    What it measures: the paired difference as `comparison.compare` does, in each slice at the confidence
    `1 - (1 - level) / m` for m slices, so that all intervals together hold their true values with probability `level`.
    When it misleads: a slice without a shown difference may be too small to show one; look at its interval.

    Args:
        slices: by column, its value for each row; rows without a value are in no slice of it.
        blocks: as in `compare`; a slice with fewer than ten blocks takes its rows as independent and says so.

    Returns:
        The slices with at least 30 rows (for AUC also two of each outcome), by column and value.

    Raises:
        InvalidInputError: a column has another length, or there are more than 200 slices.

    Source: Bonferroni (1936); Dunn (1961), "Multiple comparisons among means".

    Example:
        >>> rng = np.random.default_rng(1)
        >>> p = rng.uniform(0.05, 0.95, 4000)
        >>> y, sex = rng.uniform(size=4000) < p, np.where(np.arange(4000) % 2, "f", "m")
        >>> better_for_men = np.where(sex == "m", p, 0.5)
        >>> [(s.value, s.verdict) for s in compare_slices(y, np.full(4000, 0.5), better_for_men, slices={"sex": sex})]
        [('f', 'no difference shown'), ('m', 'better')]
    """
    y = np.asarray(outcome, dtype=np.float64)
    ours, theirs = np.asarray(champion, dtype=np.float64), np.asarray(challenger, dtype=np.float64)
    labels = None if blocks is None else np.asarray(blocks)
    chosen: list[tuple[str, str, npt.NDArray[np.intp]]] = []
    for by, values in slices.items():
        given = np.asarray(values, dtype=object)
        if given.shape != y.shape:
            raise InvalidInputError(f"Slice {by!r} has {given.size} values for {y.size} rows.", field="slices")
        chosen += [(by, value, rows) for value, rows in _groups(given) if _is_enough(y[rows], metric)]
    if len(chosen) > SLICES_MAX:
        raise InvalidInputError(
            f"There are {len(chosen)} slices; at most {SLICES_MAX} can be told apart from chance.",
            hint="Slice by fewer or coarser columns.",
            field="slices",
        )
    share = (1 - level) / max(1, len(chosen))
    # Percentiles far out need more samples than the usual ones.
    resamples = min(_RESAMPLES, max(2_000, int(2 * _TAIL_DRAWS / share)))

    def one(item: tuple[str, str, npt.NDArray[np.intp]]) -> SliceComparison:
        by, value, rows = item
        inside = None if labels is None else labels[rows]
        if inside is not None and np.unique(inside).size < BLOCKS_MIN:
            inside = None
        found = compare(
            y[rows], ours[rows], theirs[rows], metric=metric, blocks=inside,
            level=min(_SIMULTANEOUS_MAX, 1 - share), resamples=resamples, seed=seed,
        )  # fmt: skip
        return SliceComparison(by=by, value=value, **msgspec.structs.asdict(found))

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(one, chosen))


def _groups(values: npt.NDArray[Any]) -> list[tuple[str, npt.NDArray[np.intp]]]:
    """Row numbers by value, in the order of the values' texts."""
    texts = np.array(["" if value is None else str(value) for value in values])
    known = np.array([value is not None for value in values])
    names, place = np.unique(texts, return_inverse=True)
    order = np.argsort(place, kind="stable")
    ends = np.searchsorted(place[order], np.arange(names.size + 1))
    found = []
    for index, name in enumerate(names):
        rows = order[ends[index] : ends[index + 1]]
        rows = rows[known[rows]]
        if rows.size:
            found.append((str(name), rows))
    return found


def _is_enough(outcome: npt.NDArray[Any], metric: str) -> bool:
    if outcome.size < ROWS_MIN:
        return False
    ones = int((outcome > 0.5).sum())
    return metric != "auc" or min(ones, outcome.size - ones) >= 2
