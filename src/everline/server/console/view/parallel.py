"""Parallel coordinates as SVG: one axis per parameter or metric, one line per run, coloured by a metric.

The server draws it, so that every line is a link and needs no script; `static/js/compare.js` adds brushes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from everline.server.console.view import render

AXES_MAX = 12
TONES = 10
"""How many steps the colour scale of the style sheet has."""
_AXIS_WIDTH, _MARGIN = 132, 62
_TOP, _HEIGHT, _BOTTOM = 48, 250, 40
_MISSING = 26
_LOG_FROM = 100
_WORDS_MAX = 24


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """One axis; `ticks` are heights and words."""

    key: str
    label: str
    kind: str
    x: float
    ticks: list[tuple[float, str]]
    log: bool = False


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One run: its path, its height on every axis, and the step of its colour, None where it has no value."""

    run: str
    name: str
    path: str
    heights: list[float]
    tone: int | None
    title: str


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """What the template draws."""

    width: int
    height: int
    top: int
    bottom: int
    missing: int | None
    axes: list[Axis]
    lines: list[Line]


def draw(
    axes: Sequence[tuple[str, Sequence[float | str | None]]],
    runs: Sequence[tuple[str, str]],
    *,
    colour: Sequence[float | None],
) -> Picture | None:
    """Draw runs, given as uid and name, over columns such as `metrics.auc` with one value per run.

    An axis whose values are numbers is a scale, logarithmic where they are all positive and span two powers of
    ten; any other has a place for each word. A run without a value passes below the axis. None without two axes.
    """
    if len(axes) < 2 or not runs:
        return None
    axes = axes[:AXES_MAX]
    drawn: list[Axis] = []
    heights: list[list[float | None]] = []
    for number, (column, values) in enumerate(axes):
        axis, places = _axis(column, values, x=_MARGIN + number * _AXIS_WIDTH)
        drawn.append(axis)
        heights.append(places)
    below = _TOP + _HEIGHT + _MISSING
    lines = []
    for at, (uid, name) in enumerate(runs):
        mine = [below if places[at] is None else places[at] or 0.0 for places in heights]
        path = "M" + "L".join(f"{axis.x:g} {y:.1f}" for axis, y in zip(drawn, mine, strict=True))
        said = ", ".join(f"{axis.label} {_said(values[at])}" for axis, (_, values) in zip(drawn, axes, strict=True))
        lines.append(Line(run=uid, name=name, path=path, heights=mine, tone=_tone(colour, at), title=f"{name}: {said}"))
    return Picture(
        width=2 * _MARGIN + (len(drawn) - 1) * _AXIS_WIDTH,
        height=_TOP + _HEIGHT + _BOTTOM,
        top=_TOP,
        bottom=_TOP + _HEIGHT,
        missing=below if any(place is None for places in heights for place in places) else None,
        axes=drawn,
        lines=lines,
    )


def _axis(column: str, values: Sequence[float | str | None], *, x: float) -> tuple[Axis, list[float | None]]:
    kind, _, label = column.partition(".")
    numbers = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    if len(numbers) == sum(value is not None for value in values):
        ticks, places, log = _scale(numbers, values)
    else:
        ticks, places = _words(values)
        log = False
    return Axis(key=column, label=label, kind=kind, x=x, ticks=ticks, log=log), places


def _scale(
    numbers: Sequence[float], values: Sequence[float | str | None]
) -> tuple[list[tuple[float, str]], list[float | None], bool]:
    if not numbers:
        return [], [None] * len(values), False
    low, high = min(numbers), max(numbers)
    log = low > 0 and high / low >= _LOG_FROM
    start, end = (math.log(low), math.log(high)) if log else (low, high)

    def height(value: float) -> float:
        share = 0.5 if start == end else ((math.log(value) if log else value) - start) / (end - start)
        return _TOP + _HEIGHT * (1 - share)

    def at(share: float) -> float:
        return math.exp(start + (end - start) * share) if log else start + (end - start) * share

    shares = (0.0, 0.25, 0.5, 0.75, 1.0) if low < high else (0.5,)
    ticks = [(height(at(share)), render.number(at(share), 3)) for share in shares]
    return ticks, [height(float(value)) if isinstance(value, int | float) else None for value in values], log


def _words(values: Sequence[float | str | None]) -> tuple[list[tuple[float, str]], list[float | None]]:
    words = sorted({_said(value) for value in values if value is not None})[:_WORDS_MAX]
    step = _HEIGHT / max(1, len(words) - 1)
    place = {
        word: _TOP + (_HEIGHT / 2 if len(words) == 1 else _HEIGHT - number * step) for number, word in enumerate(words)
    }
    ticks = [(height, render.clip(word, 14)) for word, height in place.items()]
    return ticks, [None if value is None else place.get(_said(value)) for value in values]


def _said(value: float | str | None) -> str:
    return render.number(value) if isinstance(value, int | float) else "none" if value is None else value


def _tone(colour: Sequence[float | None], at: int) -> int | None:
    known = [value for value in colour if value is not None and math.isfinite(value)]
    value = colour[at]
    if value is None or not math.isfinite(value):
        return None
    low, high = min(known), max(known)
    share = 1.0 if low == high else (value - low) / (high - low)
    return min(TONES - 1, int(share * TONES))
