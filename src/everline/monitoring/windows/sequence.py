"""A sequence of windows: evidence that accumulates, with a guaranteed time to a false alarm."""

import math
from dataclasses import dataclass

import numpy as np

E_MAX = 1e12


def e_value(p_value: float) -> float:
    """Turn a p-value into an e-value: a bet whose expectation is at most 1 when nothing drifts.

    ``e(p) = (1 - p + p ln p) / (p (ln p)^2)``, the mixture of all bets ``k p^(k-1)``, k uniform on (0, 1). It needs
    no tuning: it is large for small p and 1/2 at p = 1.

    Args:
        p_value: 0 to 1.

    Returns:
        The e-value, 0.5 to `E_MAX`.

    Source: Vovk & Wang (2021), E-values: calibration, combination and applications, equation (2).

    Example:
        >>> round(e_value(1.0), 3), round(e_value(0.01), 2), e_value(1e-6) > 1000
        (0.5, 4.45, True)
    """
    p = min(1.0, p_value)
    if p <= 0.0:
        return E_MAX
    log = math.log(p)
    if log > -1e-4:
        return 0.5 - log / 6.0
    return min(E_MAX, (1.0 - p + p * log) / (p * log * log))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What has accumulated on one stream: the detector's value, and how many windows ago it last stood at its floor."""

    value: float = 0.0
    windows: int = 0


def accumulate(evidence: Evidence, e: float) -> Evidence:
    """Take one more window into a CUSUM e-detector: ``M_t = max(M_(t-1), 1) * e_t``.

    The last window at which M stood at or below 1 is the detector's own estimate of the moment before the change.
    It never exceeds the sum of all e-processes begun at each window (Shiryaev-Roberts), so the mean time until it
    passes A, when nothing drifts, is at least A windows.

    Source: Shin, Ramdas & Rinaldo (2023), E-detectors, theorem 2.4 and section 2.2; Page (1954).

    Example:
        >>> state = accumulate(accumulate(Evidence(), 0.5), 30.0)
        >>> state.value, state.windows
        (30.0, 1)
        >>> accumulate(state, 10.0)
        Evidence(value=300.0, windows=2)
    """
    windows = evidence.windows + 1 if evidence.value > 1.0 else 1
    return Evidence(min(E_MAX, max(evidence.value, 1.0) * e), windows)


def threshold(windows_between_false_alarms: float, *, streams: int) -> float:
    """Return the level at which one of several streams alarms, so that all of them together keep the promise.

    The mean of the streams' detectors is again a detector, and it is at least max / streams: so each stream
    alarms at ``windows * streams``.

    Args:
        windows_between_false_alarms: the promised mean number of windows to a false alarm of the whole monitor, >= 1.
        streams: how many features are watched, at least 1.

    Source: Shin, Ramdas & Rinaldo (2023), section 2.3 (mixtures of e-detectors).

    Example:
        >>> threshold(91, streams=14)
        1274.0
    """
    return float(windows_between_false_alarms * max(1, streams))


def alarm_delay(p_values: "np.typing.ArrayLike", *, level: float) -> int | None:
    """Return after how many windows a sequence of p-values alarms (counting from 1), or None if it does not."""
    state = Evidence()
    for position, p in enumerate(np.asarray(p_values, dtype=np.float64), start=1):
        state = accumulate(state, e_value(float(p)))
        if state.value >= level:
            return position
    return None
