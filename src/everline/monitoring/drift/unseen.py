"""Do rows carry values that the reference never had: new categories, numbers off its lattice or out of its range?"""

from everline.monitoring.drift.rates import compare_rates
from everline.monitoring.drift.result import DriftResult

DELTA = 0.001


def unseen_mass(reference: tuple[int, int], current: tuple[int, int], *, delta: float = DELTA) -> DriftResult:
    """Compare the share of rows with unseen values with the share to expect from a reference of this size.

    What it measures: ``effect = x1/m - N1/n``. The chance that the next row of the reference would be new is
    N1 / n by Good and Turing, where N1 counts the values that the reference has exactly once. Both shares are
    compared by the conditional test of two rates. A new value may come more than once in a large current
    sample, so both sides of the comparison are divided by the design effect 1 + m/n.
    When it misleads: a counter or a date is always new; a value first seen in its season is new once a year.

    Args:
        reference: values seen exactly once and rows with a value, ``(N1, n)``.
        current: rows with a value that the reference never had and rows with a value, ``(x1, m)``.
        delta: the smallest excess worth an alarm, as a share, 0 to 1.

    Returns:
        The effect as a share of rows above expectation; a fall is no alarm (p-value 1).

    Source: Good (1953), The population frequencies of species; McAllester & Schapire (2000) on its convergence.

    Example:
        >>> unseen_mass((0, 20000), (40, 2000)).p_value < 1e-30
        True
        >>> unseen_mass((15000, 20000), (1500, 2000)).p_value > 0.1
        True
    """
    (once, n), (new, m) = reference, current
    if n == 0 or m == 0 or new / m <= once / n:
        return DriftResult("unseen", 1.0, 0.0)
    design = 1.0 + m / n
    p_value, effect = compare_rates((once / design, n / design), (new / design, m / design), delta=delta)
    return DriftResult("unseen", p_value, effect)
