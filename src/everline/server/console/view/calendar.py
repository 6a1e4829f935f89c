"""Calendars of schedules: days coloured by what became of their runs, and those with a slot to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from everline.pipelines.schedules.types import CalendarDay

_WORST = (
    ("bad", ("failed", "missed")),
    ("warn", ("waiting", "asking", "skipped")),
    ("info", ("queued", "running")),
    ("good", ("succeeded",)),
)
"""Colours of a day, by the first of these that it has a run of."""
LEGEND = [
    ("good", "all succeeded"),
    ("info", "under way"),
    ("warn", "waiting or skipped"),
    ("bad", "failed or missed"),
    ("coming", "to come"),
]
_COUNT_MAX = 99


def by_schedule(found: Mapping[str, Sequence[CalendarDay]], *, today: date, hrefs: Mapping[str, str]) -> dict[str, Any]:
    """One row a schedule, one column a day; all have the same days."""
    days = next(iter(found.values()), ())
    columns = [
        {
            "text": f"{one.day:%b}" if one.day.day == 1 else str(one.day.day),
            "title": f"{one.day:%A, %d %B %Y}",
            "now": one.day == today,
        }
        for one in days
    ]
    rows = [
        {"name": name, "href": hrefs.get(name), "days": [_cell(one, text=_number(one)) for one in found[name]]}
        for name in found
    ]
    return {"corner": "UTC", "columns": columns, "rows": rows, "legend": LEGEND}


def by_week(days: Sequence[CalendarDay], *, today: date) -> dict[str, Any]:
    """One row a week from Monday on, the newest first; `days` begin with a Monday and are whole weeks."""
    weeks = [days[start : start + 7] for start in range(0, len(days), 7)]
    columns = [
        {"text": name, "title": name, "now": number == today.weekday()}
        for number, name in enumerate(("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"))
    ]
    rows = [
        {"name": f"{week[0].day:%d %b}", "href": None, "days": [_cell(one, text=_number(one)) for one in week]}
        for week in reversed(weeks)
    ]
    return {"corner": "week of", "columns": columns, "rows": rows, "legend": LEGEND}


def monday(day: date) -> date:
    """The Monday of a day's week."""
    return day - timedelta(days=day.weekday())


def _cell(one: CalendarDay, *, text: str) -> dict[str, str]:
    tone = next((tone for tone, states in _WORST if any(state in one.counts for state in states)), "")
    said = [f"{count} {status}" for status, count in sorted(one.counts.items())]
    if one.coming:
        said.append("to come")
    title = f"{one.day.isoformat()}: {', '.join(said) or 'nothing'}"
    return {"tone": tone or ("coming" if one.coming else ""), "title": title, "text": text}


def _number(one: CalendarDay) -> str:
    """How many runs, where it is not simply one."""
    runs = sum(one.counts.values())
    return "" if runs < 2 else str(runs) if runs <= _COUNT_MAX else f"{_COUNT_MAX}+"
