"""Builds the JSON that `static/js/charts.js` draws; its header names every field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

POINTS_MAX = 2000
"""Most points of one series that a page carries; longer ones are thinned evenly, ends kept."""


def series(name: str, points: Sequence[tuple[Any, float | None]], **options: Any) -> dict[str, Any]:
    """One line. A value that is not finite leaves a gap: JSON has no name for it."""
    if len(points) > POINTS_MAX:
        step = (len(points) - 1) / (POINTS_MAX - 1)
        points = [points[round(i * step)] for i in range(POINTS_MAX)]
    return {"name": name, "points": [[x, _finite(y)] for x, y in points], **options}


def lines(title: str, *, series: Sequence[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """Lines over time, number or category; `options` are fields of charts.js."""
    return {"kind": "lines", "title": title, "series": list(series), **options}


def bars(
    title: str, *, categories: Sequence[str], series: dict[str, Sequence[float | None]], **options: Any
) -> dict[str, Any]:
    """Bars per category; `series` maps a name to one value per category."""
    named = [{"name": name, "values": [_finite(value) for value in values]} for name, values in series.items()]
    return {"kind": "bars", "title": title, "categories": list(categories), "series": named, **options}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
