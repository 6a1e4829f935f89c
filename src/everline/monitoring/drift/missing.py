"""Did the share of missing rows change?"""

from everline.monitoring.drift.rates import compare_rates
from everline.monitoring.drift.result import DriftResult

DELTA = 0.005


def missing_change(reference: tuple[int, int], current: tuple[int, int], *, delta: float = DELTA) -> DriftResult:
    """Compare the shares of missing rows of two samples.

    What it measures: ``effect = x1/n1 - x0/n0``, judged by the conditional test of two rates.
    When it misleads: rows that go missing together (an hour without weather) are not independent; use blocks.

    Args:
        reference: missing rows and all rows, ``(x0, n0)``.
        current: missing rows and all rows, ``(x1, n1)``.
        delta: the smallest change worth an alarm, as a share, 0 to 1.

    Returns:
        The effect as a difference of shares, -1 to 1.

    Source: Przyborowski & Wilenski (1940), the conditional test of two rates.

    Example:
        >>> result = missing_change((0, 20000), (100, 2000))
        >>> result.effect, result.p_value < 1e-50
        (0.05, True)
    """
    p_value, effect = compare_rates(reference, current, delta=delta)
    return DriftResult("missing", p_value, effect)
