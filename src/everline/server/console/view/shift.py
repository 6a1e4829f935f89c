"""How a column's distribution moved between two versions, as a chart that lays both over each other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from everline.datasets.types import ColumnDifference, Distribution
from everline.server.console.view import charts, render

_COLOURS = ["--chart-6", "--chart-1"]
"""What was, in grey, then what is."""
_FEW = 25
"""Up to so many different values the curve is drawn as the stairs that it is."""


def picture(one: ColumnDifference, old: str, new: str) -> dict[str, Any]:
    """A chart with the number that it shows, and a sentence for who does not see it."""
    shift = one.distribution
    assert shift is not None
    if shift.statistic == "ks":
        chart = _curves(one, old, new)
        said = f"The curves are furthest apart at {render.value(shift.widest)}: {_percent(shift.distance)}."
    else:
        chart = _bars(one, old, new)
        said = f"{_percent(shift.distance)} of the rows would have to change their value.{_others(shift)}"
    return {
        "name": one.name,
        "statistic": shift.statistic,
        "distance": shift.distance,
        "said": said,
        "chart": chart | {"description": f"{one.name}, {old} and {new}. {said}"},
    }


def _percent(share: float) -> str:
    return f"{render.number(share * 100, 2)} %"


def _others(shift: Distribution) -> str:
    """What the bars leave out."""
    left = shift.values - len(shift.shares)
    if not left:
        return ""
    before, after = (max(0.0, 1 - sum(side)) for side in zip(*((s.before, s.after) for s in shift.shares), strict=True))
    return f" {render.number(left)} further values: {render.percent(before)}, then {render.percent(after)}."


def _curves(one: ColumnDifference, old: str, new: str) -> dict[str, Any]:
    shift = one.distribution
    assert shift is not None
    shares = shift.shares
    kind, places = "value", [share.value for share in shares]
    if any(isinstance(place, str) for place in places):
        moments = [_milliseconds(place) for place in places] if _is_moment(one) else [None]
        kind, places = ("category", places) if None in moments else ("time", moments)
    stairs = shift.values <= _FEW and kind != "category"
    sides = ((old, [share.before for share in shares], True), (new, [share.after for share in shares], False))
    series = [
        charts.series(name, list(zip(places, side, strict=True)), stairs=stairs, dashed=dashed)
        for name, side, dashed in sides
    ]
    widest = places[[share.value for share in shares].index(shift.widest)]
    return charts.lines(
        f"Share of rows not above a value of {one.name}", series=series, x=kind, format="percent", y_min=0, y_max=1,
        marks=[] if kind == "category" else [{"name": "", "x": widest, "tone": "warn"}], x_name=one.name,
        colours=_COLOURS,
    )  # fmt: skip


def _is_moment(one: ColumnDifference) -> bool:
    return isinstance(one.type_after, str) and one.type_after.startswith(("timestamp", "date"))


def _milliseconds(text: Any) -> float | None:
    """A moment as the browser counts it, in UTC; None for years that Python does not know."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000


def _bars(one: ColumnDifference, old: str, new: str) -> dict[str, Any]:
    shift = one.distribution
    assert shift is not None
    shares = shift.shares
    names = [render.clip(render.value(share.value), 24) or "(empty)" for share in shares]
    before, after = [share.before for share in shares], [share.after for share in shares]
    return charts.bars(
        f"Share of rows by value of {one.name}", categories=names, series={old: before, new: after}, horizontal=True,
        format="percent", y_min=0, colours=_COLOURS,
    )  # fmt: skip
