"""When the steps of a run were at work, as bars over time; pauses without any work are cut short.

A row is a step; with many steps it is all calls of one, side by side in lanes as they ran at the same time. Bars
that would be too thin to see are joined with their neighbours of the same state.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from everline.pipelines.history import Outline
from everline.server.console.view import folding, render

WIDTH, LABELS = 960, 196
ROWS_MAX = 40
LANES_MAX = 8
"""More calls at the same time than this lie over each other."""
_SINGLE, _LANE, _ROW_GAP = 16, 8, 7
_TOP, _BOTTOM = 8, 26
_THIN, _THIN_OF_MANY, _MANY = 2.0, 6.0, 300
_BREAK = 30.0
_PAUSE_SHARE, _PAUSE_S = 0.15, 2.0
_TICKS, _TICK_APART = 8, 56.0
REST = "other steps"


class Bar(msgspec.Struct, kw_only=True):
    """One step, or `count` short ones after each other; `x` and `width` are in pixels."""

    x: float
    y: float
    width: float
    height: float
    state: str
    title: str
    href: str | None
    count: int = 1
    seconds: float = 0.0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One step, or all calls of one."""

    label: str
    count: int
    y: float
    height: float


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """A pause in which nothing ran."""

    x: float
    width: float
    title: str


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """What the template draws; ticks are places with their words."""

    width: int
    height: float
    rows: list[Row]
    bars: list[Bar]
    ticks: list[tuple[float, str]]
    breaks: list[Break]
    folded: bool


class _Span(msgspec.Struct, frozen=True, kw_only=True):
    step: Outline
    start: float
    end: float
    state: str


def draw(
    steps: Sequence[Outline], lost: Sequence[Outline], *, now: datetime, href: Callable[[str], str]
) -> Timeline | None:
    """Draw the steps that ran or wait; `href` gives the page of a uid. None if nothing has begun.

    Args:
        lost: records of drivers that died: they are drawn up to where the next record of their step begins.
        now: up to where bars of steps without an end go.
    """
    spans = _spans(steps, lost, now)
    if not spans:
        return None
    axis = _Axis(spans)
    shown_as = _rows_of([span.step.name for span in spans], spans)
    members: dict[str, list[_Span]] = defaultdict(list)
    for span in spans:
        members[shown_as[span.step.name]].append(span)
    rows, bars, y = [], [], float(_TOP)
    thin = _THIN_OF_MANY if len(spans) > _MANY else _THIN
    for label, mine in members.items():
        count = len({span.step.name for span in mine})
        made, lanes = _bars(mine, axis, y=y, many=count > 1, thin=thin, href=href)
        height = float(_SINGLE) if count == 1 else lanes * _LANE
        rows.append(Row(label=label, count=count, y=y, height=max(height, float(_SINGLE))))
        bars += made
        y += max(height, float(_SINGLE)) + _ROW_GAP
    return Timeline(
        width=WIDTH, height=y + _BOTTOM, rows=rows, bars=bars, ticks=axis.ticks(), breaks=axis.breaks,
        folded=any(row.count > 1 for row in rows),
    )  # fmt: skip


def _spans(steps: Sequence[Outline], lost: Sequence[Outline], now: datetime) -> list[_Span]:
    again = {step.name: step.started_at for step in steps}
    found = []
    for step, state in [*((one, one.status.value) for one in steps), *((one, folding.LOST) for one in lost)]:
        if state == "skipped":
            continue
        end = step.ended_at or (again[step.name] if state == folding.LOST else now)
        start = step.started_at.timestamp()
        found.append(_Span(step=step, start=start, end=max(start, end.timestamp()), state=state))
    return sorted(found, key=lambda span: (span.start, span.step.position))


def _rows_of(names: Iterable[str], spans: Sequence[_Span]) -> dict[str, str]:
    """By name the row: of its own while there are few, its family's else, and one for the rest of very many."""
    found = {name: name for name in names}
    if len(found) > ROWS_MAX:
        found = folding.families(found)
    if len(set(found.values())) > ROWS_MAX:
        found = {name: folding.family(name.partition("/")[0]) for name in found}
    if len(set(found.values())) > ROWS_MAX:
        took: dict[str, float] = defaultdict(float)
        for span in spans:
            took[found[span.step.name]] += span.end - span.start
        kept = set(sorted(took, key=lambda row: -took[row])[: ROWS_MAX - 1])
        found = {name: row if row in kept else REST for name, row in found.items()}
    return found


def _bars(
    spans: Sequence[_Span], axis: _Axis, *, y: float, many: bool, thin: float, href: Callable[[str], str]
) -> tuple[list[Bar], int]:
    """The bars of one row, and how many lanes they take."""
    free: list[float] = []
    last: list[Bar | None] = []
    made: list[Bar] = []
    height = _LANE - 1.5 if many else float(_SINGLE)
    for span in spans:
        x, end = axis.at(span.start), axis.at(span.end)
        lane = _lane(free, x) if many else 0
        if lane == len(free):
            free.append(end)
            last.append(None)
        free[lane] = max(free[lane], end)
        width = max(thin, end - x)
        before = last[lane]
        if before is not None and before.state == span.state and many and width <= thin and x - _end(before) < 1:
            before.count += 1
            before.seconds += span.end - span.start
            before.width = max(before.width, end - before.x)
            each = render.duration(before.seconds / before.count)
            before.title = f"{before.count} × {folding.family(span.step.name)}: {span.state}, {each} each"
            before.href = None
            continue
        bar = Bar(
            x=round(x, 2), y=y + lane * _LANE, width=round(width, 2), height=height, state=span.state,
            title=_title(span), href=href(span.step.uid), seconds=span.end - span.start,
        )  # fmt: skip
        last[lane] = bar
        made.append(bar)
    return made, max(1, len(free))


def _end(bar: Bar) -> float:
    return bar.x + bar.width


def _lane(free: Sequence[float], x: float) -> int:
    for lane, until in enumerate(free):
        if until <= x + 0.01:
            return lane
    return len(free) if len(free) < LANES_MAX else min(range(len(free)), key=lambda lane: free[lane])


def _title(span: _Span) -> str:
    step = span.step
    parts = [f"{step.name}: {folding.words(span.state)}", render.duration(span.end - span.start)]
    if step.attempts > 1:
        parts.append(f"{step.attempts} attempts")
    if step.problem:
        parts.append(step.problem)
    return ", ".join(parts) + (f". {render.clip(step.reason, 160)}" if step.reason else "")


class _Axis:
    """From seconds to pixels, with long pauses cut to the same short width."""

    def __init__(self, spans: Sequence[_Span]) -> None:
        self.breaks: list[Break] = []
        self._origin = min(span.start for span in spans)
        end = max(span.end for span in spans)
        busy = _joined([(span.start, span.end) for span in spans if span.state not in ("waiting", folding.LOST)])
        busy = busy or [(self._origin, self._origin)]
        if end > busy[-1][1]:
            busy.append((end, end))
        if self._origin < busy[0][0]:
            busy.insert(0, (self._origin, self._origin))
        work = sum(until - since for since, until in busy)
        pause = max(_PAUSE_S, _PAUSE_SHARE * work)
        parts = [busy[0]]
        for since, until in busy[1:]:
            if since - parts[-1][1] > pause:
                parts.append((since, until))
            else:
                parts[-1] = (parts[-1][0], until)
        room = WIDTH - LABELS - 12 - _BREAK * (len(parts) - 1)
        whole = sum(until - since for since, until in parts) or 1.0
        self._scale = max(room, 60.0) / whole
        x = float(LABELS)
        self._parts: list[tuple[float, float, float]] = []
        for index, (since, until) in enumerate(parts):
            if index:
                title = f"nothing ran for {render.duration(since - parts[index - 1][1])}"
                self.breaks.append(Break(x=round(x, 2), width=_BREAK, title=title))
                x += _BREAK
            self._parts.append((since, until, x))
            x += (until - since) * self._scale

    def at(self, moment: float) -> float:
        """The place of a moment; inside a cut pause, by its share."""
        index = max(0, bisect_right(self._parts, moment, key=lambda part: part[0]) - 1)
        since, until, x = self._parts[index]
        if moment <= until:
            return x + (moment - since) * self._scale
        end = x + (until - since) * self._scale
        if index + 1 == len(self._parts):
            return end
        return end + _BREAK * (moment - until) / (self._parts[index + 1][0] - until)

    def ticks(self) -> list[tuple[float, str]]:
        """Round times since the start, none beside another."""
        whole = sum(until - since for since, until, _ in self._parts)
        step = _round(whole / _TICKS) if whole else 1.0
        found: list[tuple[float, str]] = []
        for since, until, _ in self._parts:
            first = math.ceil((since - self._origin) / step - 1e-9)
            for number in range(first, math.floor((until - self._origin) / step + 1e-9) + 1):
                place = self.at(self._origin + number * step)
                if not found or place - found[-1][0] >= _TICK_APART:
                    found.append((round(place, 2), render.duration(number * step) if number else "0"))
        return found


def _joined(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _round(seconds: float) -> float:
    """The next step of 1, 2 or 5 times a power of ten; above a minute one of the clock."""
    for step in (60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400, 7 * 86_400):
        if seconds > 50 and seconds <= step:
            return float(step)
    power = 10 ** math.floor(math.log10(seconds))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= seconds))
