"""Did features begin to go together otherwise, though each alone is as it was?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import special, stats

from everline.errors import InvalidInputError
from everline.monitoring.drift.columns import arrow_of, named_columns
from everline.monitoring.drift.result import of_minimum_effect
from everline.monitoring.profiles import FloatArray

DELTA = 0.01
LEVEL = 0.01
ROWS_MIN = 200
ROWS_MAX = 20_000
FEATURES_MAX = 40
_RIDGE = 0.1


@dataclass(frozen=True, slots=True)
class JointDrift:
    """The answer for all features together.

    Attributes:
        drifted: whether the p-value is at most the level asked for.
        p_value: 0 to 1; 1.0 when there is not enough data to say.
        auc: how well a row's side is told from how its features go together: 0.5 by chance, 1 surely.
        pair: the two features whose togetherness changed most; None when there is not enough data to say.
        before: their rank correlation in the reference, -1 to 1.
        after: the same now.
    """

    drifted: bool
    p_value: float
    auc: float
    pair: tuple[str, str] | None
    before: float
    after: float


def joint_drift(
    reference: Any, current: Any, *, level: float = LEVEL, delta: float = DELTA, seed: int = 0
) -> JointDrift:
    """Tell the sides apart by products of features whose own distributions were made equal.

    What it measures: each feature becomes normal scores of its ranks, on each side by itself, so that a movement of one
    feature alone is gone. A linear classifier on all products of two features learns on one half of the rows; the area
    under its curve on the other half is judged by Mann and Whitney's law, which holds whatever the classifier learnt.
    Both halves take either part, and the smaller p-value is doubled.
    When it misleads: rows must be independent (rows of a day are not); three features that only together changed are
    not seen; where a lattice or a category moved by itself, its ties are ranked otherwise and can look joint.

    Args:
        reference: pandas or polars DataFrame or pyarrow Table; at most 20,000 rows are drawn.
        current: the same; the first 40 features that both have as numbers, texts or booleans are compared.
        level: how often it may alarm when nothing drifts, above 0 and below 1.
        delta: the smallest area above 0.5 worth an alarm.
        seed: of the draw of rows and of the order among ties.

    Raises:
        InvalidInputError: an argument is no table, or `level` is out of range.

    Source: Lopez-Paz & Oquab (2017), Revisiting classifier two-sample tests; Mann & Whitney (1947).

    Example:
        >>> rng = np.random.default_rng(1)
        >>> x, y = rng.normal(size=(2, 2000))
        >>> found = joint_drift({"x": x, "y": y}, {"x": x, "y": 0.6 * x + 0.8 * y})
        >>> found.drifted, found.pair
        (True, ('x', 'y'))
    """
    if not 0.0 < level < 1.0:
        raise InvalidInputError("The level is no chance.", hint="Give one above 0 and below 1.", field="level")
    rng = np.random.default_rng(seed)
    old, new = dict(named_columns(reference, side="reference")), dict(named_columns(current, side="current"))
    orders = _orders(old)
    names = [name for name in old if name in new and name in orders][:FEATURES_MAX]
    sides = [_scores({name: side[name] for name in names}, orders, rng) for side in (old, new)]
    if len(names) < 2 or any(side is None or len(side) < ROWS_MIN for side in sides):
        return JointDrift(False, 1.0, 0.5, None, 0.0, 0.0)
    first, second = np.triu_indices(len(names), 1)
    products = [side[:, first] * side[:, second] for side in sides if side is not None]
    halves = [[one[start::2] for one in products] for start in (0, 1)]
    judged = [_held_out(halves[n], halves[1 - n], delta=delta) for n in (0, 1)]
    p_value = min(1.0, 2.0 * min(p for p, _ in judged))
    means = [one.mean(axis=0) for one in products]
    errors = np.sqrt(sum(one.var(axis=0) / len(one) for one in products)) + 1e-12
    best = int(np.argmax(np.abs(means[1] - means[0]) / errors))
    pair = (names[first[best]], names[second[best]])
    auc = float(np.mean([area for _, area in judged]))
    return JointDrift(p_value <= level, p_value, auc, pair, float(means[0][best]), float(means[1][best]))


def _held_out(learnt: list[FloatArray], judged: list[FloatArray], *, delta: float) -> tuple[float, float]:
    """The p-value and the area of a classifier that learnt on other rows."""
    centre = (learnt[0].mean(axis=0) + learnt[1].mean(axis=0)) / 2
    spread = np.cov(np.concatenate([one - one.mean(axis=0) for one in learnt]), rowvar=False).reshape(len(centre), -1)
    spread = (1 - _RIDGE) * spread + _RIDGE * np.eye(len(centre)) * max(float(np.trace(spread)) / len(centre), 1e-12)
    direction = np.linalg.solve(spread, learnt[1].mean(axis=0) - learnt[0].mean(axis=0))
    old, new = (one @ direction for one in judged)
    n, m = len(old), len(new)
    area = float(stats.rankdata(np.concatenate([old, new]))[n:].sum() - m * (m + 1) / 2) / (n * m)
    error = np.sqrt((n + m + 1) / (12.0 * n * m))
    p_any, p_minimum = (float(special.ndtr(-(area - 0.5 - edge) / error)) for edge in (0.0, delta))
    return of_minimum_effect(p_any, p_minimum), area


def _orders(columns: Mapping[str, Any]) -> dict[str, pa.Array | None]:
    """The features that have an order: numbers have their own (None), texts and booleans that of their frequency."""
    orders: dict[str, pa.Array | None] = {}
    for name, values in columns.items():
        arrow = arrow_of(values)
        if arrow is None or arrow.null_count == len(arrow):
            continue
        kind = arrow.type.value_type if pa.types.is_dictionary(arrow.type) else arrow.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            orders[name] = None
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
            counted = pc.value_counts(pc.cast(arrow, pa.string()).drop_null())
            by = np.lexsort((np.arange(len(counted)), -counted.field("counts").to_numpy()))
            orders[name] = counted.field("values").take(pa.array(by))
    return orders


def _scores(
    columns: Mapping[str, Any], orders: Mapping[str, pa.Array | None], rng: np.random.Generator
) -> FloatArray | None:
    """Normal scores of the ranks within this side, ties in random order, 0 where missing; None without rows."""
    made: list[FloatArray] = []
    rows: Any = None
    for name, values in columns.items():
        arrow, order = arrow_of(values), orders[name]
        if arrow is None or len(arrow) < ROWS_MIN:
            return None
        if rows is None:
            rows = rng.permutation(len(arrow))[:ROWS_MAX]
        array = arrow.take(pa.array(rows))
        try:
            if order is not None:
                array = pc.index_in(pc.cast(array, pa.string()), value_set=order)
            numbers = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # another type now: the report by feature names it
            numbers = np.full(len(rows), np.nan)
        present = np.flatnonzero(~np.isnan(numbers))
        ranks = np.empty(len(present))
        ranks[np.lexsort((rng.random(len(present)), numbers[present]))] = np.arange(len(present))
        scores = np.zeros(len(rows))
        # A random place within the rank makes the scores of a small and a large side alike.
        scores[present] = special.ndtri(
            np.clip((ranks + rng.random(len(present))) / max(1, len(present)), 1e-9, 1 - 1e-9)
        )
        made.append(scores)
    return np.column_stack(made) if made else None
