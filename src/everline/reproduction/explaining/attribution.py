"""How a change is split among the parts that caused it: Shapley values over coalitions that were really run.

A coalition is the set of parts that are taken from the later run; the others are the earlier run's. Its value is the
metric that came out, once for each seed, so that whatever is worked out here is worked out per seed, and the spread
over seeds is its uncertainty. Pure arithmetic: nothing here knows what the parts are.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from everline.loader import late

if TYPE_CHECKING:
    from scipy import special
else:
    special = late("scipy.special")

Coalition = frozenset[str]
Value = Callable[[Coalition], Sequence[float]]
"""The metric of a coalition for each seed, in one order of the seeds for all coalitions."""

EXACT_MAX = 5
"""Up to so many parts every coalition is run: 2^5 = 32."""

ORDERS = 12
LEVEL = 0.95


class Interval(NamedTuple):
    """A mean and the range that holds the true one with 95 % confidence."""

    mean: float
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval:
    """The mean of independent values and Student's interval for it; a single value has no width.

    Args:
        values: one for each seed, at least one.

    Example:
        >>> [round(x, 3) for x in interval([1.0, 2.0, 3.0])]
        [2.0, -0.484, 4.484]
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Interval(mean, mean, mean)
    margin = t_95(len(values) - 1) * deviation(values) / math.sqrt(len(values))
    return Interval(mean, mean - margin, mean + margin)


def deviation(values: Sequence[float]) -> float:
    """The standard deviation of a sample, with n - 1; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def t_95(freedom: int) -> float:
    """The two-sided 95 % point of Student's t."""
    return float(special.stdtrit(freedom, (1 + LEVEL) / 2))


def coalitions(parts: Sequence[str]) -> Iterator[Coalition]:
    """Every coalition, the empty one first."""
    for size in range(len(parts) + 1):
        yield from map(frozenset, itertools.combinations(parts, size))


def exact(parts: Sequence[str], value: Value) -> dict[str, list[float]]:
    """Each part's share per seed: its mean effect over all orders in which the parts can be exchanged.

    `share(i) = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S))`; the shares add up to
    `v(all) - v(none)`.

    Source: Shapley (1953), "A value for n-person games", eq. 12.

    Example:
        >>> v = {frozenset(): [0.0], frozenset("a"): [1.0], frozenset("b"): [2.0], frozenset("ab"): [5.0]}
        >>> exact("ab", v.__getitem__)
        {'a': [2.0], 'b': [3.0]}
    """
    count = len(parts)
    shares: dict[str, list[float]] = {}
    for part in parts:
        others = [other for other in parts if other != part]
        weighted = [
            (_weight(len(without), count), value(without | {part}), value(without)) for without in coalitions(others)
        ]
        seeds = range(len(value(frozenset())))
        shares[part] = [math.fsum(w * (high[r] - low[r]) for w, high, low in weighted) for r in seeds]
    return shares


def over_orders(orders: Iterable[Sequence[str]], value: Value) -> dict[str, list[list[float]]]:
    """Each part's effect when the parts are exchanged one after the other: by part, by order, by seed.

    In each order the effects add up to `v(all) - v(none)`. One order is an ablation path (Fawcett and Hoos 2016); the
    mean over random orders estimates Shapley values (Castro, Gomez and Tejada 2009).
    """
    effects: dict[str, list[list[float]]] = {}
    for order in orders:
        taken: Coalition = frozenset()
        before = value(taken)
        for part in order:
            taken |= {part}
            after = value(taken)
            effects.setdefault(part, []).append([high - low for high, low in zip(after, before, strict=True)])
            before = after
    return effects


def random_orders(parts: Sequence[str], *, count: int = ORDERS, seed: int = 0) -> list[tuple[str, ...]]:
    """Random orders in pairs of one and its reverse, which halves the variance where effects add up nearly.

    Source: Mitchell, Cooper, Frank and Holmes (2022), "Sampling permutations for Shapley value estimation", 3.2.
    """
    draw = random.Random(seed)
    orders: list[tuple[str, ...]] = []
    for _ in range(max(1, count // 2)):
        order = list(parts)
        draw.shuffle(order)
        orders += [tuple(order), tuple(reversed(order))]
    return orders


def interactions(parts: Sequence[str], value: Value) -> dict[tuple[str, str], list[float]]:
    """By how much two parts together do more than each alone, per seed: the mean over all coalitions of the others.

    `I(i, j) = sum over S without i, j of |S|! (n - |S| - 2)! / (n - 1)! (v(S + i + j) - v(S + i) - v(S + j) + v(S))`.

    Source: Grabisch and Roubens (1999), "An axiomatic approach to the concept of interaction", eq. 1.

    Example:
        >>> v = {frozenset(): [0.0], frozenset("a"): [1.0], frozenset("b"): [2.0], frozenset("ab"): [5.0]}
        >>> interactions("ab", v.__getitem__)
        {('a', 'b'): [2.0]}
    """
    count = len(parts)
    found: dict[tuple[str, str], list[float]] = {}
    for one, two in itertools.combinations(parts, 2):
        others = [other for other in parts if other not in (one, two)]
        cells = [
            (
                _weight(len(rest), count - 1),
                value(rest | {one, two}),
                value(rest | {one}),
                value(rest | {two}),
                value(rest),
            )
            for rest in coalitions(others)
        ]
        seeds = range(len(value(frozenset())))
        found[one, two] = [math.fsum(w * (ab[r] - a[r] - b[r] + n[r]) for w, ab, a, b, n in cells) for r in seeds]
    return found


def finest_merge(parts: Sequence[str], fails: Callable[[Coalition], bool]) -> list[tuple[str, ...]]:
    """Put parts together that cannot be exchanged apart: the most groups of which every coalition runs.

    Args:
        fails: whether a coalition cannot be run; the empty one and that of all parts can.

    Example:
        >>> finest_merge(["code", "data", "environment"], lambda s: ("code" in s) != ("environment" in s))
        [('code', 'environment'), ('data',)]
    """
    for groups in sorted(_partitions(list(parts)), key=lambda found: -len(found)):
        joined = [frozenset(group) for group in groups]
        unions = (frozenset[str]().union(*chosen) for chosen in _subsets(joined))
        if not any(fails(union) for union in unions):
            return [tuple(group) for group in groups]
    return [tuple(parts)]


def _weight(size: int, count: int) -> float:
    return math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)


def _subsets(groups: Sequence[Coalition]) -> Iterator[tuple[Coalition, ...]]:
    for size in range(len(groups) + 1):
        yield from itertools.combinations(groups, size)


def _partitions(parts: list[str]) -> Iterator[list[list[str]]]:
    """Every way to put parts into groups, each in the order of the parts."""
    if not parts:
        yield []
        return
    first, rest = parts[0], parts[1:]
    for groups in _partitions(rest):
        yield [[first], *groups]
        for index, group in enumerate(groups):
            yield [[first, *group], *groups[:index], *groups[index + 1 :]]
