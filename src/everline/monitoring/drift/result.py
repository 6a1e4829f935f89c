"""What one drift test says of one feature, and the rule that ties its p-value to the smallest effect of interest."""

from dataclasses import dataclass

P_SMALLEST = 1e-300
MINIMUM_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class DriftResult:
    """One test's answer.

    Attributes:
        test: the test's name.
        p_value: 0 to 1; already 1 or large when the effect is not surely above the minimum.
        effect: signed, in the test's own unit (see each test).
    """

    test: str
    p_value: float
    effect: float


def of_minimum_effect(p_any: float, p_minimum: float) -> float:
    """Return a p-value for "no difference" that only counts when the effect surely exceeds the minimum.

    Two hypotheses must fall: that nothing differs (at the level corrected for all features and tests), and
    that the difference is at most delta (at 5 %, for this one test). With few rows the first decides, so no
    power is lost to delta; with a million rows the second decides, so a tiny difference does not alarm.

    Args:
        p_any: p-value of "no difference".
        p_minimum: p-value of "|difference| <= delta"; never below `p_any` for the same data.

    Returns:
        `p_any` if `p_minimum` is at most 0.05, else the larger of both. As it is never below `p_any`, it is a
        valid p-value of "no difference".

    Source: Wellek (2010), Testing Statistical Hypotheses of Equivalence and Noninferiority, chapter 1 (relevant
        differences); Berger (1982), Multiparameter hypothesis testing and acceptance sampling (both must fall).

    Example:
        >>> of_minimum_effect(1e-6, 0.002), of_minimum_effect(1e-6, 0.4)
        (1e-06, 0.4)
    """
    p = p_any if p_minimum <= MINIMUM_LEVEL else max(p_any, p_minimum)
    return min(1.0, max(P_SMALLEST, p))
