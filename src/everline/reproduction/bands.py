"""How far a number may lie from its repetitions and still be one of them: prediction bands, for level L3.

A run is repeated N times, with other seeds and other hash seeds. For each number of its results the band is the
two-sided prediction interval for one further observation: mean ± t · s · √(1 + 1/N), where s is the standard deviation
of the repetitions and t the quantile of Student's distribution with N - 1 degrees of freedom. The recorded run is that
further observation. With m numbers, each band has the level 1 - 0.05 / m, so that a run that is equal has all of
its numbers inside with a probability of at least 95 % (Bonferroni).

With few repetitions the bands are wide, and a wide band is easily met: so the certificate has the numbers.

Source: Hahn and Meeker, Statistical Intervals (1991), section 4.7; it takes the repetitions as independent and normal.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from everline.loader import late
from everline.reproduction.comparison import earned_level
from everline.reproduction.types import Band, Cause, LevelCheck, Reproduction, Verdict

if TYPE_CHECKING:
    from scipy import special
else:
    special = late("scipy.special")

JOINT_LEVEL = 0.95
# What differs without anybody having changed anything: everything else is a change, however small its effect.
_WITHOUT_CHANGE = frozenset({Cause.NON_DETERMINISM, Cause.HIDDEN_INPUT, Cause.HARDWARE})


def prediction_band(values: Sequence[float], *, level: float) -> tuple[float, float]:
    """The two-sided prediction interval for one further observation.

    Args:
        values: two or more finite numbers.
        level: above 0 and below 1.

    Example:
        >>> low, high = prediction_band([0.81, 0.83, 0.82, 0.80, 0.84], level=0.95)
        >>> round(low, 4), round(high, 4)
        (0.7719, 0.8681)
    """
    n = len(values)
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    if spread == 0:
        return min(values), max(values)
    half = float(special.stdtrit(n - 1, (1 + level) / 2)) * spread * math.sqrt(1 + 1 / n)
    return mean - half, mean + half


def bands(recorded: Mapping[str, float], repeats: Sequence[Mapping[str, float]]) -> tuple[Band, ...]:
    """The band of each number, and whether the recorded one lies inside; a number that is not in all of them does not.

    Args:
        repeats: numbers of at least `REPEATS_MIN` repetitions, by name.
    """
    names = sorted(recorded.keys() | {name for one in repeats for name in one})
    level = 1 - (1 - JOINT_LEVEL) / max(1, len(names))
    found = []
    for name in names:
        value, values = recorded.get(name), [one[name] for one in repeats if name in one]
        whole = value is not None and len(values) == len(repeats) and all(map(math.isfinite, values))
        low, high = prediction_band(values, level=level) if whole else (None, None)
        inside = low is not None and high is not None and value is not None and low <= value <= high
        found.append(Band(name=name, recorded=value, low=low, high=high, n=len(values), level=level, inside=inside))
    return tuple(found)


def numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """The numbers of a JSON value by path below `name`; whole numbers too, but neither truths nor seeds."""
    if isinstance(value, bool) or "seed" in name.rpartition(".")[2].lower():
        return
    if isinstance(value, int | float):
        yield name, float(value)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from numbers(one, f"{name}.{key}")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from numbers(one, f"{name}.{index}")


def with_bands(report: Reproduction, found: Sequence[Band], repeats: Sequence[str]) -> Reproduction:
    """A comparison whose results differ, judged by bands: L3 is earned if each recorded number is inside of its own."""
    inside = bool(found) and all(one.inside for one in found)
    n = len(repeats)
    if not found:
        reason = "no result is a number, so there is no band"
    elif inside:
        reason = f"{_many(len(found))} within the {JOINT_LEVEL:.0%} bands of {n} repeats: {_told(found)}"
    else:
        out = [one for one in found if not one.inside]
        reason = (
            f"{len(out)} of {_many(len(found))} outside of the {JOINT_LEVEL:.0%} bands of {n} repeats: {_told(out)}"
        )
    checks = tuple(
        LevelCheck(level="L3", earned=inside, reason=reason) if one.level == "L3" else one for one in report.checks
    )
    changed = msgspec.structs.replace(
        report, checks=checks, level=earned_level(checks), bands=tuple(found), repeats=tuple(repeats)
    )
    first = report.first_difference
    if not inside or first is None or first.cause not in _WITHOUT_CHANGE:
        return msgspec.structs.replace(changed, reason=f"{report.reason}; {reason}")
    return msgspec.structs.replace(
        changed, verdict=Verdict.EQUIVALENT, reason=f"statistically equal: {reason}; {report.reason}"
    )


def _many(count: int) -> str:
    return "1 number" if count == 1 else f"{count} numbers"


def _told(found: Sequence[Band]) -> str:
    shown = []
    for one in found[:3]:
        band = "no band" if one.low is None or one.high is None else f"[{one.low:.6g}, {one.high:.6g}]"
        shown.append(f"{one.name} {'missing' if one.recorded is None else format(one.recorded, '.6g')} of {band}")
    return "; ".join(shown)
