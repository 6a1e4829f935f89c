"""A change and the shares that make it up, as bars that stand on each other's ends, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

WIDTH = 400.0
_PADDING = 0.06


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One row. Lengths are in units of `WIDTH`, from the left.

    Attributes:
        kind: `end` for the two metrics, `up`, `down`, or `rest` for the seed.
        start, width: of the bar; an end has no width.
        low, high: of the interval, moved to where the bar ends; None without one.
        before: where the bar before it ends, to be joined with it.
    """

    name: str
    kind: str
    value: float
    start: float
    width: float
    low: float | None = None
    high: float | None = None
    interval: tuple[float, float] | None = None
    before: float | None = None


def bars(facts: Mapping[str, Any]) -> list[Bar]:
    """The rows of an explanation, from the earlier metric to the later one; empty if nothing was split."""
    shares = facts.get("shares") or []
    first, last = facts.get("before_value"), facts.get("after_value")
    if not shares or first is None or last is None:
        return []
    tops = [float(first)]
    for share in shares:
        tops.append(tops[-1] + float(share["value"]))
    place = _scale([*tops, float(last), *_reach(shares, tops)])
    found = [Bar(name="before", kind="end", value=float(first), start=place(float(first)), width=0.0)]
    for share, low_end, high_end in zip(shares, tops, tops[1:], strict=False):
        value = float(share["value"])
        interval = (float(share["low"]), float(share["high"]))
        left, right = sorted((place(low_end), place(high_end)))
        names = [str(name) for name in share["components"]]
        spread = interval[1] > interval[0]
        found.append(
            Bar(
                name=" + ".join(names),
                kind="rest" if names == ["seed"] else "up" if value >= 0 else "down",
                value=value,
                start=left,
                width=round(right - left, 2),
                low=place(low_end + interval[0]) if spread else None,
                high=place(low_end + interval[1]) if spread else None,
                interval=interval,
                before=place(low_end),
            )
        )
    found.append(
        Bar(name="after", kind="end", value=float(last), start=place(float(last)), width=0.0, before=place(tops[-1]))
    )
    return found


def _reach(shares: Sequence[Mapping[str, Any]], tops: Sequence[float]) -> list[float]:
    """Where intervals end, so that none leaves the picture."""
    pairs = zip(shares, tops, strict=False)
    return [top + float(share[side]) for share, top in pairs for side in ("low", "high")]


def _scale(values: Sequence[float]) -> Any:
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    low, span = low - _PADDING * span, span * (1 + 2 * _PADDING)
    return lambda value: round(WIDTH * (value - low) / span, 2)
