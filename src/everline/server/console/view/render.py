"""Turns a view into a page: the Jinja environment, its filters, and the headers that every page carries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
import msgspec
from markupsafe import Markup

HERE = Path(__file__).parent.parent

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""On every answer of the console: nothing inline, nothing from another host, never in a frame."""

_TONES = {
    "good": "promoted finished succeeded approved ready pass passed satisfied verified resolved identical healthy live "
    "on",
    "warn": "awaiting_approval canary checking acknowledged draft pending missing equivalent warn unknown waiting "
    "asking",
    "bad": "blocked rejected failed killed open fail rolled_back diverged error alert drifted unhealthy missed failing",
    "info": "running scheduled primary shadow retained queued",
}
_TONE_OF = {word: tone for tone, words in _TONES.items() for word in words.split()}


def tone(state: object) -> str:
    """The colour role of a state: good, warn, bad, info, or muted for those that ask for nothing."""
    return _TONE_OF.get(str(state), "muted")


def words(state: object) -> str:
    """A state as people read it: `awaiting_approval` becomes `awaiting approval`."""
    return str(state).replace("_", " ").replace("-", " ")


def when(moment: datetime | str | None) -> Markup:
    """A time element, to the second; the title carries the microseconds."""
    if moment is None:
        return Markup('<span class="muted">–</span>')
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    moment = moment.astimezone(UTC)
    exact = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, moment.strftime("%Y-%m-%d %H:%M:%S"))


def ago(moment: datetime, now: datetime) -> Markup:
    """A time element as people speak of it; the title carries the moment."""
    seconds = (now - moment).total_seconds()
    text = moment.astimezone(UTC).strftime("%Y-%m-%d")
    for limit, unit, word in ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (30 * 86_400, 86_400, "d")):
        if 0 <= seconds < limit:
            text = f"{int(seconds // unit)} {word} ago"
            break
    exact = moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, text)


def short_time(moment: datetime) -> str:
    """A moment to the minute, or the day alone at midnight."""
    moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%d" if (moment.hour, moment.minute) == (0, 0) else "%Y-%m-%d %H:%M")


def number(value: object, digits: int = 4) -> str:
    """A number with so many significant digits; whole numbers with thin groups of thousands."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or (value == int(value) and abs(value) >= 1000):
        return f"{int(value):,}".replace(",", "\u202f")
    if abs(value) >= 1000:
        return f"{value:,.1f}".replace(",", "\u202f")
    return f"{value:.{digits}g}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    return "–" if value is None or not math.isfinite(value) else f"{value * 100:.{digits}f} %".replace(".0 %", " %")


def size(count: int | None) -> str:
    """A number of bytes in the unit that fits."""
    if count is None:
        return "–"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def seconds_between(start: datetime, end: datetime | None) -> float | None:
    """How long something took; None while it goes on."""
    return None if end is None else (end - start).total_seconds()


def duration(seconds: float | None) -> str:
    """A span of time in the unit that fits."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def short(digest: str | None) -> str:
    """The first digits of a digest or uid, enough to tell it from its neighbours."""
    if not digest:
        return "–"
    return digest.removeprefix("sha256:")[:12]


def clip(text: str, characters: float) -> str:
    """Text that fits a box of fixed width."""
    return text if len(text) <= characters else text[: int(characters) - 1].rstrip() + "…"


def value(given: object) -> str:
    """Any JSON value in one short line: numbers to six digits, digests cut, things by their name."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, int | float):
        return number(given, 6)
    if given is None:
        return "–"
    if isinstance(given, dict) and "name" in given:
        return value(given["name"])
    if isinstance(given, str) and given.startswith("sha256:"):
        return given[:19] + "…"
    if isinstance(given, str | datetime):
        return str(given)
    return clip(as_json(given), 200)


def mark(outcome: object) -> str:
    """The tick of an outcome: good, bad, or warn for what is not known."""
    return {"pass": "good", "fail": "bad", "unknown": "warn"}.get(str(outcome), "muted")


def as_json(value: object) -> str:
    """JSON text for an attribute; autoescape does the rest."""
    return msgspec.json.encode(value).decode()


def pretty(value: object) -> str:
    """JSON for people."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def path(*parts: object, project: str = "default", **query: object) -> str:
    """An address of the console: parts are quoted, the project is named unless it is the default one."""
    given = {key: str(value) for key, value in query.items() if value not in (None, "")}
    if project != "default":
        given["project"] = project
    address = "/" + "/".join(quote(str(part), safe="") for part in parts)
    return f"{address}?{urlencode(given)}" if given else address


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        tone,
        words,
        when,
        ago,
        number,
        percent,
        size,
        duration,
        short,
        clip,
        value,
        mark,
        as_json,
        pretty,
    ):
        made.filters[function.__name__] = function
    return made


_pages = _environment()


def render(template: str, view: Mapping[str, Any]) -> str:
    """Fill a template."""
    return _pages.get_template(template).render(view)
