"""Shapley values of any model, sampled: features take their values in random orders, over made-up rows.

Each order starts from a background row and puts in one value after the other; what the answer moves by is the
feature's contribution in that order. The mean over orders is unbiased, and comes with its standard error. Orders come
in pairs, one the reverse of the other, which cancels much of the noise.

Source: Castro, Gómez and Tejada (2009); pairs: Mitchell et al. (2022), Sampling permutations for Shapley value
estimation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from everline.models.compiling.trees import Floats
from everline.models.signature import Array

ORDERS = 32
SEED = 20171
Ask = Callable[[Mapping[str, Array], int], Floats]


def sampled_contributions(
    ask: Ask, row: Mapping[str, Array], background: Mapping[str, Array]
) -> tuple[float, dict[str, float], dict[str, float]]:
    """What each input of one row contributed.

    Args:
        ask: answers rows with one number each.
        row: columns of one value.
        background: columns of as many values as there are rows to start from.

    Returns:
        The base value, the contributions, whose sum with it is the answer, and their standard errors.
    """
    names = list(row)
    random = np.random.default_rng(SEED)
    starts = len(next(iter(background.values())))
    orders: list[Array] = []
    for _ in range(ORDERS // 2):
        order = random.permutation(len(names))
        orders += [order, order[::-1]]
    width = len(names) + 1
    given: dict[str, Array] = {}
    for position, name in enumerate(names):
        values = np.empty(ORDERS * width, dtype=background[name].dtype)
        for number, order in enumerate(orders):
            steps = slice(number * width, (number + 1) * width)
            at = int(np.flatnonzero(order == position)[0])
            block = np.empty(width, dtype=values.dtype)
            block[: at + 1] = background[name][(number // 2) % starts]
            block[at + 1 :] = row[name][0]
            values[steps] = block
        given[name] = values
    answers = ask(given, ORDERS * width).reshape(ORDERS, width)
    moves = np.diff(answers, axis=1)
    each = np.empty((ORDERS, len(names)))
    for number, order in enumerate(orders):
        each[number, order] = moves[number]
    pairs = each.reshape(ORDERS // 2, 2, len(names)).mean(axis=1)
    errors = pairs.std(axis=0, ddof=1) / np.sqrt(len(pairs))
    mean = each.mean(axis=0)
    return (
        float(answers[:, 0].mean()),
        dict(zip(names, mean.tolist(), strict=True)),
        dict(zip(names, errors.tolist(), strict=True)),
    )
