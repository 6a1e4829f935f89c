"""The functions that an expression may call: how many arguments, of which kinds, and what they do.

CEL's own: size, int, double, string, timestamp, duration, startsWith, endsWith, contains, and the parts of a
time. Ours, for release rules: abs, min, max, sum, distinct. `matches` is left out: a regular expression in
untrusted text can run for ever.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from everline.clock import rfc3339
from everline.governance.cel.kinds import (
    BOOL,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NUMBERS,
    STRING,
    TIMESTAMP,
    Kind,
    ListKind,
    MapKind,
    RecordKind,
    joined,
    numeric,
)

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
TEXT_CHARS_MAX = 100_000
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"-?(?:\d+(?:\.\d+)?(?:h|ms|us|ns|m|s))+")
_OFFSET = re.compile(r"([+-]?)([01]?\d|2[0-3]):([0-5]\d)")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)")


class EvaluationError(Exception):
    """A value for which the language has no answer, such as a division by zero: the result is not known."""


class KindError(Exception):
    """Arguments of kinds that a function does not take."""


Check = Callable[[Sequence[Kind]], Kind]
Run = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True, slots=True)
class Function:
    """One function."""

    takes: str
    args_min: int
    args_max: int
    check: Check
    run: Run
    method_only: bool = False


def whole(value: int) -> int:
    """Hold a whole number to 64 bits."""
    if not INT_MIN <= value <= INT_MAX:
        raise EvaluationError("a whole number passes 64 bits")
    return value


def key_of(value: Any) -> Any:
    """A value that is equal for values that the language calls equal, and can be put into a set."""
    if isinstance(value, bool) or value is None:
        return (type(value).__name__, value)
    if isinstance(value, list):
        return ("list", tuple(key_of(item) for item in value))
    if isinstance(value, dict):
        return ("map", frozenset((name, key_of(item)) for name, item in value.items()))
    return value


def _kind_check(result: Kind, *accepted: Sequence[Kind]) -> Check:
    def check(kinds: Sequence[Kind]) -> Kind:
        for position, (kind, allowed) in enumerate(zip(kinds, accepted, strict=False), start=1):
            if kind != DYN and kind not in allowed:
                raise KindError(f"argument {position} is {kind}, where {' or '.join(map(str, allowed))} is expected")
        return result

    return check


def _check_size(kinds: Sequence[Kind]) -> Kind:
    if kinds[0] in (STRING, DYN) or isinstance(kinds[0], ListKind | MapKind | RecordKind):
        return INT
    raise KindError(f"a {kinds[0]} has no size")


def _check_numbers(kinds: Sequence[Kind]) -> Kind:
    """One list of numbers, or numbers side by side."""
    if len(kinds) == 1 and isinstance(kinds[0], ListKind):
        kinds = [kinds[0].item]
    for kind in kinds:
        if not numeric(kind):
            raise KindError(f"{kind} cannot be counted with")
    return joined(list(kinds))


def _check_sum(kinds: Sequence[Kind]) -> Kind:
    if kinds[0] != DYN and not isinstance(kinds[0], ListKind):
        raise KindError(f"a list is expected, not {kinds[0]}")
    return _check_numbers(kinds)


def _check_abs(kinds: Sequence[Kind]) -> Kind:
    if not numeric(kinds[0]):
        raise KindError(f"{kinds[0]} has no absolute value")
    return kinds[0]


def _check_distinct(kinds: Sequence[Kind]) -> Kind:
    if kinds[0] != DYN and not isinstance(kinds[0], ListKind):
        raise KindError(f"a list is expected, not {kinds[0]}")
    return kinds[0]


def numbers(values: Sequence[Any]) -> list[int | float]:
    """The numbers of one list, or of several arguments."""
    items = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int | float):
            raise EvaluationError("a number is expected")
    return list(items)


def _extreme(pick: Callable[[list[int | float]], int | float]) -> Run:
    def run(values: Sequence[Any]) -> int | float:
        items = numbers(values)
        if not items:
            raise EvaluationError("an empty list has no smallest or largest value")
        return pick(items)

    return run


def _sum(values: Sequence[Any]) -> int | float:
    items = numbers(values)
    return whole(sum(items)) if all(isinstance(item, int) for item in items) else math.fsum(items)  # type: ignore[arg-type]


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list({key_of(item): item for item in _list(values[0])}.values())


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise EvaluationError("a list is expected")
    return value


def _size(values: Sequence[Any]) -> int:
    if not isinstance(values[0], str | list | dict):
        raise EvaluationError("this has no size")
    return len(values[0])


def _abs(values: Sequence[Any]) -> int | float:
    [value] = numbers([values[0], 0])[:1]
    return whole(abs(value)) if isinstance(value, int) else abs(value)


def _int(values: Sequence[Any]) -> int:
    value = values[0]
    if isinstance(value, datetime):
        return int(value.timestamp())
    if isinstance(value, float) and not math.isfinite(value):
        raise EvaluationError("this is no whole number")
    try:
        return whole(int(value))
    except (ValueError, TypeError) as error:
        raise EvaluationError("this is no whole number") from error


def _double(values: Sequence[Any]) -> float:
    try:
        return float(values[0])
    except (ValueError, TypeError) as error:
        raise EvaluationError("this is no number") from error


def _string(values: Sequence[Any]) -> str:
    value = values[0]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    return str(value)


def _timestamp(values: Sequence[Any]) -> datetime:
    value = values[0]
    if isinstance(value, datetime):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except (ValueError, TypeError) as error:
        raise EvaluationError("this is no RFC 3339 time") from error
    if moment.tzinfo is None:
        raise EvaluationError("this time has no zone; end it with Z")
    return moment.astimezone(UTC)


def _duration(values: Sequence[Any]) -> timedelta:
    value = values[0]
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise EvaluationError("this is no duration; write it like 36h or 1h30m")
    seconds = sum(float(amount) * _UNITS[unit] for amount, unit in _DURATION_PART.findall(value))
    try:
        return timedelta(seconds=-seconds if value.startswith("-") else seconds)
    except OverflowError as error:
        raise EvaluationError("this duration is too long") from error


def _text(method: Callable[[str, str], bool]) -> Run:
    def run(values: Sequence[Any]) -> bool:
        if not isinstance(values[0], str) or not isinstance(values[1], str):
            raise EvaluationError("text is expected")
        return method(values[0], values[1])

    return run


def _of_time(read: Callable[[datetime], int], *, of_duration: float | None = None) -> Function:
    """A part of a time, in UTC or the time zone that is given, such as `Europe/Berlin` or `+02:00`."""

    def run(values: Sequence[Any]) -> int:
        value = values[0]
        if isinstance(value, datetime):
            return read(value.astimezone(_zone(values[1])) if len(values) > 1 else value)
        if isinstance(value, timedelta) and of_duration is not None and len(values) == 1:
            return int(value.total_seconds() / of_duration)
        raise EvaluationError("a time is expected")

    kinds = (TIMESTAMP,) if of_duration is None else (TIMESTAMP, DURATION)
    takes = "a time" if of_duration is None else "a time or duration"
    return Function(f"{takes}, and perhaps a zone", 1, 2, _kind_check(INT, kinds, (STRING,)), run, method_only=True)


def _zone(name: Any) -> tzinfo:
    if not isinstance(name, str):
        raise EvaluationError("a time zone is text, such as Europe/Berlin or +02:00")
    if found := _OFFSET.fullmatch(name):
        minutes = int(found[2]) * 60 + int(found[3])
        return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes))
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise EvaluationError("there is no such time zone") from error


_TEXT = _kind_check(BOOL, (STRING,), (STRING,))
_SCALARS = (*NUMBERS, STRING, BOOL, TIMESTAMP, DURATION)

FUNCTIONS: dict[str, Function] = {
    "size": Function("text, a list or a map", 1, 1, _check_size, _size),
    "abs": Function("a number", 1, 1, _check_abs, _abs),
    "min": Function("a list of numbers, or numbers", 1, 16, _check_numbers, _extreme(min)),
    "max": Function("a list of numbers, or numbers", 1, 16, _check_numbers, _extreme(max)),
    "sum": Function("a list of numbers", 1, 1, _check_sum, _sum),
    "distinct": Function("a list", 1, 1, _check_distinct, _distinct),
    "int": Function("a number, text or a time", 1, 1, _kind_check(INT, (*NUMBERS, STRING, TIMESTAMP)), _int),
    "double": Function("a number or text", 1, 1, _kind_check(DOUBLE, (*NUMBERS, STRING)), _double),
    "string": Function("a scalar", 1, 1, _kind_check(STRING, _SCALARS), _string),
    "timestamp": Function("text", 1, 1, _kind_check(TIMESTAMP, (STRING, TIMESTAMP)), _timestamp),
    "duration": Function("text", 1, 1, _kind_check(DURATION, (STRING, DURATION)), _duration),
    "startsWith": Function("text", 2, 2, _TEXT, _text(str.startswith), method_only=True),
    "endsWith": Function("text", 2, 2, _TEXT, _text(str.endswith), method_only=True),
    "contains": Function("text", 2, 2, _TEXT, _text(lambda whole, part: part in whole), method_only=True),
    "getFullYear": _of_time(lambda t: t.year),
    "getMonth": _of_time(lambda t: t.month - 1),
    "getDate": _of_time(lambda t: t.day),
    "getDayOfMonth": _of_time(lambda t: t.day - 1),
    "getDayOfWeek": _of_time(lambda t: t.isoweekday() % 7),
    "getDayOfYear": _of_time(lambda t: t.timetuple().tm_yday - 1),
    "getHours": _of_time(lambda t: t.hour, of_duration=3600),
    "getMinutes": _of_time(lambda t: t.minute, of_duration=60),
    "getSeconds": _of_time(lambda t: t.second, of_duration=1),
    "getMilliseconds": _of_time(lambda t: t.microsecond // 1000),
}
