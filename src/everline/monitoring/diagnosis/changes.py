"""What kind of change is it: another type, nulls, a frozen value, another unit, a new category, a sentinel, a shift?

Rules go from the most specific to the most general; each one needs evidence of its own, not only the alarm. All
but the last three say that something upstream broke: data do not do such things by themselves.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from everline.monitoring.drift.columns import Column, as_kind
from everline.monitoring.drift.combination import align, number_distance
from everline.monitoring.profiles import (
    CategoryAxis,
    CategoryProfile,
    FloatArray,
    NumberAxis,
    NumberProfile,
    profile_category,
    profile_number,
)
from everline.monitoring.types import Change, Distribution

ROWS_MIN = 20
FROZEN_SHARE_MIN = 0.9
FROZEN_REPEAT_MAX = 0.5  # a weekday is the same all day: such a feature cannot freeze within a block
MISSING_RISE_MIN = 0.03
NEW_SHARE_MIN = 0.005
SENTINELS = frozenset((0.0, -1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0))
BINS_SHOWN = 20
_UNIT_DISTANCE_MIN = 0.2
_UNIT_REMAINDER_MAX = 0.4


@dataclass(frozen=True, slots=True)
class Unit:
    """A change of unit: ``current = factor * reference + offset``."""

    name: str
    factor: float
    offset: float = 0.0


_FORWARD = (
    Unit("miles → kilometres", 1.609344),
    Unit("feet → metres", 0.3048),
    Unit("inches → centimetres", 2.54),
    Unit("inches → millimetres", 25.4),
    Unit("pounds → kilograms", 0.45359237),
    Unit("gallons → litres", 3.785411784),
    Unit("knots → miles per hour", 1.15077945),
    Unit("miles per hour → metres per second", 0.44704),
    Unit("metres per second → kilometres per hour", 3.6),
    Unit("inches of mercury → hectopascals", 33.86389),
    Unit("hours → minutes, or minutes → seconds", 60.0),
    Unit("hours → seconds", 3600.0),
    Unit("thousands → ones", 1000.0),
    Unit("fraction → per cent", 100.0),
    Unit("tens", 10.0),
    Unit("millions → ones", 1_000_000.0),
    Unit("degrees → radians", math.pi / 180.0),
    Unit("Celsius → Fahrenheit", 1.8, 32.0),
    Unit("Celsius → Kelvin", 1.0, 273.15),
)
UNITS = (
    *_FORWARD,
    *(Unit(" → ".join(reversed(u.name.split(" → "))), 1.0 / u.factor, -u.offset / u.factor) for u in _FORWARD),
    Unit("the sign is turned", -1.0),
)


def classify_change(
    reference: Column, current: Column, *, missing_deviation: float = 0.0, repeat: float = 0.0
) -> Change:
    """Say what happened to a feature that alarmed, from the rows then and now.

    Args:
        missing_deviation: how far the share of missing rows moves between the reference's blocks by itself.
        repeat: the share that one value has in a block of the reference, on average.
    """
    current = as_kind(current, reference.kind)
    if current.kind not in (reference.kind, "none"):
        text = f"holds values of type {current.kind} instead of {reference.kind}"
        return Change(kind="type", text=text, broken=True, share=1.0)
    rise = _share(current.missing, current) - _share(reference.missing, reference)
    if rise >= max(MISSING_RISE_MIN, 4.0 * missing_deviation) or current.kind == "none":
        now, before = _share(current.missing, current), _share(reference.missing, reference)
        text = f"is missing in {now:.1%} of rows, before in {before:.1%}"
        return Change(kind="missing", text=text, broken=True, share=rise, before=before, after=now)
    if reference.kind == "number":
        return _number_change(reference, current, repeat=repeat)
    return _category_change(reference, current, repeat=repeat)


def distribution_of(name: str, reference: Column, current: Column) -> Distribution | None:
    """The feature's distribution then and now, for a picture; None where there is nothing to draw."""
    current = as_kind(current, reference.kind)
    if current.kind != reference.kind or not reference.present or not current.present:
        return None
    if reference.kind == "number":
        both = np.concatenate([reference.numbers, current.numbers])
        low, high = np.quantile(both[np.isfinite(both)], [0.005, 0.995])
        if not high > low:
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, BINS_SHOWN + 1)
        sides = [
            np.histogram(np.clip(side.numbers, low, high), edges)[0] / side.present for side in (reference, current)
        ]
        labels = [f"{a:.4g} – {b:.4g}" for a, b in itertools.pairwise(edges)]
        return Distribution(feature=name, labels=labels, reference=sides[0].tolist(), current=sides[1].tolist())
    if reference.kind not in ("category", "boolean"):
        return None
    old, new = _counted(reference), _counted(current)
    top = sorted(old.keys() | new.keys(), key=lambda value: (-max(old.get(value, 0.0), new.get(value, 0.0)), value))
    shown = top[:BINS_SHOWN]
    return Distribution(
        feature=name,
        labels=shown,
        reference=[old.get(value, 0.0) for value in shown],
        current=[new.get(value, 0.0) for value in shown],
    )


def find_unit(reference: NumberProfile, values: FloatArray) -> tuple[Unit, float, float] | None:
    """Find a constant factor (and offset) that turns the reference's distribution into the current one.

    Each known change of unit is undone and the distance to the reference measured again (total variation over
    bins and off-lattice values); a factor fitted to the ratio of the quantiles is tried as well. A unit is believed
    when undoing it takes away most of the distance: a natural movement is not undone by any one factor.

    Args:
        reference: the feature's profile of the reference.
        values: float64, shape (n,), the current values, no NaN.

    Returns:
        The unit, the distance as it is and the distance with the unit undone; or None.
    """
    finite = values[np.isfinite(values)]
    if len(finite) < ROWS_MIN or reference.present < ROWS_MIN:
        return None
    axis = reference.axis
    apart = number_distance(reference, profile_number(finite, axis))
    if apart < _UNIT_DISTANCE_MIN:
        return None
    tried = [(unit, number_distance(reference, profile_number((finite - unit.offset) / unit.factor, axis)))
             for unit in (*UNITS, *_fitted(reference, finite))]  # fmt: skip
    unit, left = min(tried, key=lambda pair: pair[1])
    return (unit, apart, left) if left <= _UNIT_REMAINDER_MAX * apart else None


def _fitted(reference: NumberProfile, values: FloatArray) -> list[Unit]:
    shares = np.linspace(0.1, 0.9, 9)
    before, now = reference.quantile(shares), np.quantile(values, shares)
    if not ((before > 0).all() and (now > 0).all()):
        return []
    ratios = np.log(now / before)
    factor = math.exp(float(np.median(ratios)))
    if abs(math.log(factor)) < math.log(1.15) or float(np.std(ratios)) > 0.1 * abs(math.log(factor)):
        return []
    return [Unit(f"× {factor:.4g}", factor)]


def _number_change(reference: Column, current: Column, *, repeat: float) -> Change:
    axis = NumberAxis.of(reference.numbers)
    old, new = profile_number(reference.numbers, axis), profile_number(current.numbers, axis)
    if new.present < ROWS_MIN:
        return Change(kind="shape", text="has too few rows to say more", broken=False)
    _, before, now = align(old, new)
    value, share = _most_frequent(current.numbers)
    usual = float((reference.numbers == value).mean())
    here = 2.0 * new.present / new.rows >= old.present / old.rows  # a few rows that are left may well be equal
    if share >= FROZEN_SHARE_MIN and usual < 0.5 and here and repeat < FROZEN_REPEAT_MAX:
        text = f"is frozen at {value:.6g} in {share:.0%} of rows"
        return Change(kind="frozen", text=text, broken=True, value=f"{value:.6g}", share=share)
    found = find_unit(old, current.numbers)
    if found is not None:
        unit, apart, left = found
        text = f"is × {unit.factor:.4g}" + (f" + {unit.offset:.4g}" if unit.offset else "")
        text += (
            f", looks like {unit.name} (undoing it brings the two distributions from {apart:.2f} apart to {left:.2f})"
        )
        return Change(
            kind="unit", text=text, broken=True, factor=unit.factor, offset=unit.offset, looks_like=unit.name,
            before=float(np.median(reference.numbers)), after=float(np.median(current.numbers)),
        )  # fmt: skip
    spike = _sentinel(reference, current, share_min=max(NEW_SHARE_MIN, 2.0 * repeat))
    if spike is not None:
        return spike
    return _moved(reference, current, apart=float(now[before == 0].sum()) / max(1, new.present))


def _sentinel(reference: Column, current: Column, *, share_min: float) -> Change | None:
    """One far value, or a usual stand-in for "unknown", that comes again and again while the rest stays as it was."""
    values, counts = np.unique(current.numbers, return_counts=True)
    share = counts / len(current.numbers)
    candidates = np.flatnonzero(share >= share_min)
    low, high = np.min(reference.numbers), np.max(reference.numbers)
    for index in candidates[np.argsort(-share[candidates])]:
        value = float(values[index])
        gap = max(low - value, value - high)
        if gap <= 0 or (gap < 0.1 * (high - low) and value not in SENTINELS):
            continue
        rest = current.numbers[current.numbers != value]
        apart = float(np.abs(rest - value).min()) if len(rest) else gap
        if value not in SENTINELS and apart < 2.0 * _top_gap(reference.numbers, low=bool(value < low)):
            continue
        outside = float(((rest < low) | (rest > high)).mean()) if len(rest) else 0.0
        if outside < 0.1 * share[index]:
            text = (
                f"holds {value:.6g} in {share[index]:.1%} of rows, outside of the reference's {low:.4g} to {high:.4g}"
            )
            return Change(kind="sentinel", text=text, broken=True, value=f"{value:.6g}", share=float(share[index]))
    return None


def _top_gap(values: FloatArray, *, low: bool) -> float:
    """How far the outermost value lies from the next one, on one side."""
    distinct = np.unique(values[np.isfinite(values)])
    if len(distinct) < 2:
        return 0.0
    return float(distinct[1] - distinct[0]) if low else float(distinct[-1] - distinct[-2])


def _moved(reference: Column, current: Column, *, apart: float) -> Change:
    finite = reference.numbers[np.isfinite(reference.numbers)]
    present = current.numbers[np.isfinite(current.numbers)]
    if not len(finite) or not len(present):
        return Change(kind="shape", text="holds infinite values", broken=True, share=1.0)
    deviation = float(finite.std()) or 1.0
    before, after = float(finite.mean()), float(present.mean())
    if abs(after - before) >= 0.25 * deviation:
        text = f"moved from a mean of {before:.4g} to {after:.4g} ({(after - before) / deviation:+.2f} sd)"
        return Change(kind="shift", text=text, broken=False, before=before, after=after)
    ratio = float(present.std()) / deviation
    if ratio > 1.2 or ratio < 1 / 1.2:
        text = f"spreads {ratio:.2f} times as far as before"
        return Change(kind="scale", text=text, broken=False, factor=ratio, before=deviation, after=float(present.std()))
    text = f"has other shares of its values ({apart:.1%} of rows hold values never seen before)"
    return Change(kind="shape", text=text, broken=False, before=before, after=after)


def _category_change(reference: Column, current: Column, *, repeat: float) -> Change:
    if current.present < ROWS_MIN or reference.kind not in ("category", "boolean"):
        return Change(kind="shape", text="has too few rows to say more", broken=False)
    axis = CategoryAxis.of(reference.texts)
    new: CategoryProfile = profile_category(current.texts, axis)
    counted = _counted(current)
    value, share = max(counted.items(), key=lambda pair: pair[1])
    if share >= FROZEN_SHARE_MIN and _counted(reference).get(value, 0.0) < 0.5 and repeat < FROZEN_REPEAT_MAX:
        return Change(kind="frozen", text=f"is {value!r} in {share:.0%} of rows", broken=True, value=value, share=share)
    unseen = new.unseen_rows / new.present
    if unseen >= NEW_SHARE_MIN:
        loudest = max(new.unseen, key=lambda one: new.unseen[one])
        text = f"holds values never seen before in {unseen:.1%} of rows, most often {loudest!r}"
        return Change(kind="new_category", text=text, broken=False, value=loudest, share=unseen)
    old = _counted(reference)
    grown = max(old, key=lambda one: abs(counted.get(one, 0.0) - old[one]))
    text = f"has other shares of its values: {grown!r} went from {old[grown]:.1%} to {counted.get(grown, 0.0):.1%}"
    return Change(kind="shape", text=text, broken=False, value=grown, before=old[grown], after=counted.get(grown, 0.0))


def _most_frequent(values: FloatArray) -> tuple[float, float]:
    found, counts = np.unique(values, return_counts=True)
    best = int(np.argmax(counts))
    return float(found[best]), float(counts[best]) / len(values)


def _counted(column: Column) -> dict[str, float]:
    counted = pc.value_counts(column.texts)
    pairs = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    return {value: count / max(1, len(column.texts)) for value, count in pairs}


def _share(rows: int, column: Column) -> float:
    return rows / column.rows if column.rows else 0.0
