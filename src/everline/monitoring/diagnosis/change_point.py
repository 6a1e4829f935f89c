"""Since when? The moment of a change in a series of windows, and whether it was a jump or a slow movement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from everline.monitoring.profiles import FloatArray


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """Where a series changed.

    Attributes:
        index: the first value after the change, 0 to n - 1; 0 when the series never stood still.
        before, after: the means on both sides.
        gradual: a straight movement explains the series better than a jump.
    """

    index: int
    before: float
    after: float
    gradual: bool


def change_point(series: npt.ArrayLike) -> ChangePoint:
    """Find the one change that explains a series best, by least squares.

    What it measures: for each split, the squared error of two means; the split with the smallest one is the
    maximum-likelihood estimate for normal noise. It is compared with the best ramp (a constant, then a straight
    line), which has as many parameters.
    When it misleads: it always finds a split; ask it only about a series that alarmed. Two changes look like one.

    Args:
        series: float64, shape (n,), finite, at least 1 value.

    Source: Hinkley (1970), Inference about the change-point in a sequence of random variables.

    Example:
        >>> change_point([0.0, 0.1, 0.0, 5.0, 5.1, 5.0]).index
        3
        >>> change_point([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).gradual
        True
    """
    values = np.asarray(series, dtype=np.float64)
    n = len(values)
    if n < 2:
        return ChangePoint(0, float(values[0]), float(values[0]), False)
    sums, squares = np.cumsum(values), np.cumsum(values**2)
    left = np.arange(1, n)
    errors = squares[-1] - sums[:-1] ** 2 / left - (sums[-1] - sums[:-1]) ** 2 / (n - left)
    index = int(np.argmin(errors)) + 1
    ramp = _ramp_error(values)
    return ChangePoint(
        index, float(values[:index].mean()), float(values[index:].mean()), bool(n >= 4 and ramp < errors[index - 1])
    )


def _ramp_error(values: FloatArray) -> float:
    """The squared error of the best constant-then-straight-line with a bend at one of the windows."""
    n = len(values)
    best = float("inf")
    for bend in range(n - 2):
        slope = np.maximum(0.0, np.arange(n) - bend)
        centred = slope - slope.mean()
        weight = float(centred @ centred)
        residual = values - values.mean() - centred * (float(centred @ values) / weight)
        best = min(best, float(residual @ residual))
    return best
