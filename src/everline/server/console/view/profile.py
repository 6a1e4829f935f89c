"""A column's exact profile as small pictures: a histogram with its quartiles, or the most frequent values as bars."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from everline.datasets.types import Column
from everline.server.console.view import render

WIDTH, HEIGHT = 180, 30
_BINS = 24
_TOP = 4


def column(one: Column) -> dict[str, Any]:
    """What the table shows of a column."""
    missing = one.nulls + one.nans
    return {
        "name": one.name,
        "type": one.type if isinstance(one.type, str) else render.as_json(one.type),
        "digest": one.digest,
        "missing": missing / one.rows if one.rows else None,
        "missing_note": f"{render.number(one.nulls)} missing, {render.number(one.nans)} NaN" if one.nans else "",
        "minimum": _short(one.minimum, one),
        "median": one.quantiles[len(one.quantiles) // 2] if one.quantiles else None,
        "mean": one.mean,
        "deviation": one.deviation,
        "maximum": _short(one.maximum, one),
        "distinct": one.distinct,
        "histogram": _histogram(one),
        "top": _top(one),
    }


def _histogram(one: Column) -> dict[str, Any] | None:
    """Bins of equal width, read off the quantiles: the share below each edge is interpolated between them."""
    quantiles = one.quantiles
    if _is_few(one) or len(quantiles) < 5 or quantiles[0] == quantiles[-1]:
        return None
    spread = quantiles[-1] - quantiles[0]
    step = WIDTH / _BINS
    below = [_share_below(quantiles, quantiles[0] + spread * at / _BINS) for at in range(_BINS + 1)]
    shares = [high - low for low, high in pairwise(below)]
    quarter = (len(quantiles) - 1) // 4
    low, middle, high = (
        round((quantiles[at] - quantiles[0]) / spread * WIDTH, 1) for at in (quarter, 2 * quarter, 3 * quarter)
    )
    return {
        "bars": [
            {"x": round(at * step, 1), "w": round(step - 1, 1), "h": round(max(0.8, share / max(shares) * HEIGHT), 1)}
            for at, share in enumerate(shares)
            if share > 0
        ],
        "low": low,
        "median": middle,
        "width": max(2.0, round(high - low, 1)),
        "label": f"Spread of {one.name}: half of the values lie between {render.number(quantiles[quarter])} and "
        f"{render.number(quantiles[3 * quarter])}, the median is {render.number(quantiles[2 * quarter])}",
    }


def _top(one: Column) -> list[dict[str, Any]]:
    """The most frequent values with their share of those that are not missing, where no histogram says more."""
    total = one.rows - one.nulls
    if not total or (one.quantiles and not _is_few(one)):
        return []
    shown = [{"value": _short(item.value, one), "share": item.count / total} for item in one.top[:_TOP]]
    if len(shown) == _TOP and one.distinct == one.rows:
        return []  # every value occurs once: bars would say nothing
    return shown


def _short(given: Any, one: Column) -> str:
    """A value that fits a cell; moments to the minute, as all times here are UTC."""
    text = render.value(given)
    if isinstance(one.type, str) and one.type.startswith("timestamp"):
        text = text.replace("T", " ").removesuffix("+00:00").removesuffix(":00")
    return render.clip(text, 20)


def _is_few(one: Column) -> bool:
    return one.distinct is not None and one.distinct <= len(one.top)


def _share_below(quantiles: Sequence[float], edge: float) -> float:
    after = bisect_right(quantiles, edge)
    if after in (0, len(quantiles)):
        return float(after > 0)
    low, high = quantiles[after - 1], quantiles[after]
    return (after - 1 + (edge - low) / (high - low)) / (len(quantiles) - 1)
