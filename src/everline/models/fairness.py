"""How groups of people fare under a model's decisions. numpy only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from everline.errors import InvalidInputError
from everline.models.evaluation import BoolArray, FloatArray

GROUPS_MAX = 100
GOOD = ("above", "below")
_Z_95 = 1.959963984540054


def fairness_gaps(
    outcome: BoolArray,
    probability: FloatArray,
    protected: Mapping[str, Sequence[Any]],
    *,
    threshold: float = 0.5,
    good: str = "above",
) -> list[dict[str, Any]]:
    """Return the widest gap between two groups of each protected attribute, as `fairness` evidence has it.

    What it measures: demographic parity, by the ratio and the difference of the groups' shares of good outcomes;
    equal opportunity, by the difference of those shares among the people who deserved the good outcome; equalized
    odds, by the wider of that and the difference among those who did not.
    When it misleads: with few people in a group (look at the interval), and where the recorded outcome is itself
    unfair: who was refused cannot show that they would have paid. Groups must be recorded to be compared.

    Args:
        outcome: bool, shape (n,); the model's target.
        probability: float64, shape (n,), each in [0, 1]; of a true outcome.
        protected: by attribute, the group of each row; None leaves a row out of that attribute.
        threshold: where the decision turns, 0 to 1; `probability >= threshold` is above.
        good: which side the person wants to be on, `above` or `below`; it decides too who deserved it.

    Returns:
        By attribute, in the given order. `low` and `high` are the 95 % interval of the ratio (Katz).

    Raises:
        InvalidInputError: a length, the threshold or the side is wrong; an attribute has one group, or too many.

    Source: Calders, Kamiran and Pechenizkiy (2009); Hardt, Price and Srebro (2016); Katz, Baptista, Azen and Pike
    (1978) for the interval.

    Example:
        >>> p = np.array([0.9, 0.8, 0.2, 0.9, 0.1, 0.2])
        >>> y = np.array([True, True, False, True, True, False])
        >>> [gap] = fairness_gaps(y, p, {"sex": ["f", "f", "f", "m", "m", "m"]})
        >>> gap["selection_ratio"], gap["lowest"], round(gap["equal_opportunity"], 2)
        (0.5, 'm', 0.5)
    """
    if not 0.0 <= threshold <= 1.0:
        raise InvalidInputError(f"The threshold {threshold} is no probability.", field="threshold")
    if good not in GOOD:
        raise InvalidInputError(f"Good is above or below the threshold, not {good!r}.", field="good")
    chosen = (probability >= threshold) == (good == "above")
    deserved = outcome == (good == "above")
    return [_gap(name, values, chosen, deserved) for name, values in protected.items()]


def _gap(name: str, values: Sequence[Any], chosen: BoolArray, deserved: BoolArray) -> dict[str, Any]:
    groups = _groups(name, values, chosen, deserved)
    by_rate = sorted(groups, key=lambda one: one["selection_rate"])
    lowest, highest = by_rate[0], by_rate[-1]
    rates = [one["selection_rate"] for one in groups]
    opportunity = _spread(one.get("true_positive_rate") for one in groups)
    false = _spread(one.get("false_positive_rate") for one in groups)
    low, high = _katz(lowest, highest)
    found = {
        "attribute": name,
        "n": sum(one["n"] for one in groups),
        "selection_ratio": lowest["selection_rate"] / highest["selection_rate"] if highest["selection_rate"] else 1.0,
        "low": low,
        "high": high,
        "demographic_parity": max(rates) - min(rates),
        "equal_opportunity": opportunity,
        "equalized_odds": None if opportunity is None or false is None else max(opportunity, false),
        "lowest": lowest["value"],
        "highest": highest["value"],
        "groups": groups,
    }
    return {key: value for key, value in found.items() if value is not None}


def _groups(name: str, values: Sequence[Any], chosen: BoolArray, deserved: BoolArray) -> list[dict[str, Any]]:
    given = np.asarray(["" if value is None else str(value) for value in values])
    known = np.asarray([value is not None for value in values], dtype=np.bool_)
    if given.shape != chosen.shape:
        raise InvalidInputError(f"{name!r} has {given.size} values for {chosen.size} rows.", field=name)
    names = np.unique(given[known])
    if not 2 <= names.size <= GROUPS_MAX:
        raise InvalidInputError(
            f"{name!r} has {names.size} groups; 2 to {GROUPS_MAX} can be compared.",
            hint="Bin a number, such as age, into groups first.",
            field=name,
        )
    found = []
    for value in names:
        rows = known & (given == value)
        one = {"value": str(value), "n": int(rows.sum()), "selection_rate": float(chosen[rows].mean())}
        for key, among in (("true_positive_rate", rows & deserved), ("false_positive_rate", rows & ~deserved)):
            if among.any():
                one[key] = float(chosen[among].mean())
        found.append(one)
    return found


def _spread(rates: Any) -> float | None:
    known: list[float] = list(rates)
    return None if any(rate is None for rate in known) else max(known) - min(known)


def _katz(lowest: Mapping[str, Any], highest: Mapping[str, Any]) -> tuple[float, float] | tuple[None, None]:
    """The 95 % interval of the ratio of two independent shares, by its logarithm."""
    first, second = lowest["selection_rate"], highest["selection_rate"]
    if first == 0 or second == 0:
        return None, None
    variance = (1 - first) / (first * lowest["n"]) + (1 - second) / (second * highest["n"])
    margin = _Z_95 * math.sqrt(variance)
    ratio = first / second
    return ratio * math.exp(-margin), ratio * math.exp(margin)
