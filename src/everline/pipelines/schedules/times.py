"""When a clock's slots are: cron on the clocks of a zone, and intervals.

A slot is a moment in UTC. The slots of a trigger are one fixed row: where one starts to look changes nothing, so
that replicas, restarts and backfills agree on them.

Daylight saving, as Debian's cron has it:
    times of day ("30 2 * * *")   a time that does not exist that day comes at the first minute after the gap; one
                                  that comes twice counts the first time only
    "*" in minute or hour         follows real time: nothing in the gap, and the repeated hour twice
Intervals know no clocks: they are real time throughout.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from everline.clock import as_utc
from everline.errors import InvalidInputError
from everline.pipelines.schedules.types import Cron, Interval

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVERY = re.compile(r"([1-9][0-9]{0,8})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
EVERY_S_MIN, EVERY_S_MAX = 10, 366 * 86_400
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_FIELDS = "Write minute, hour, day of month, month and day of week, such as `30 2 * * MON-FRI`; docs: schedules."


def check_clock(trigger: Cron | Interval) -> None:
    """Refuse a clock that cannot be read, or that never strikes.

    Raises:
        InvalidInputError: expression, zone or interval cannot be used.
    """
    if isinstance(trigger, Interval):
        seconds_of(trigger.every)
        return
    zone_of(trigger.zone)
    if next(slots_after(trigger, datetime(2000, 1, 1, tzinfo=UTC)), None) is None:
        raise InvalidInputError(
            f"The cron expression {trigger.expression[:80]!r} never comes: no date within 50 years fits.",
            hint="Check day, month and weekday: where one of the two days is `*`, both must fit.",
            field="trigger.expression",
        )


def slots_after(trigger: Cron | Interval, after: datetime) -> Iterator[datetime]:
    """The slots later than a moment, in order, in UTC."""
    if isinstance(trigger, Cron):
        return _cron_slots(_expression(trigger.expression), zone_of(trigger.zone), as_utc(after))
    return _interval_slots(trigger, as_utc(after))


def next_slot(trigger: Cron | Interval, after: datetime) -> datetime | None:
    """The first slot later than a moment; None if the years of the calendar end before it."""
    return next(slots_after(trigger, after), None)


def newest_slots(
    trigger: Cron | Interval, *, start: datetime, end: datetime, count: int
) -> tuple[list[datetime], bool]:
    """The last slots from `start` up to and with `end`, in order, and whether there are more before them.

    However many slots lie between, only about `count` are looked at.
    """
    before, length = as_utc(start) - timedelta(microseconds=1), timedelta(minutes=15)
    end = as_utc(end)
    while True:
        begin = end - length if length < end - before else before
        found: list[datetime] = []
        for slot in slots_after(trigger, begin):
            if slot > end:
                break
            found.append(slot)
        if len(found) > count or begin == before:
            return found[-count:] if count else [], len(found) > count
        length *= 4 if not found else 2


def slots_between(trigger: Cron | Interval, *, start: datetime, end: datetime, limit: int) -> list[datetime]:
    """The slots from `start` up to and with `end`, at most `limit` of them."""
    found: list[datetime] = []
    for slot in islice(slots_after(trigger, as_utc(start) - timedelta(microseconds=1)), limit):
        if slot > end:
            break
        found.append(slot)
    return found


def zone_of(name: str) -> ZoneInfo:
    """The time zone of an IANA name.

    Raises:
        InvalidInputError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInputError(
            f"There is no time zone {name[:80]!r}.",
            hint="Use an IANA name, such as Europe/Berlin, America/New_York or UTC.",
            field="trigger.zone",
        ) from None


def seconds_of(every: str) -> int:
    """The length of an interval in seconds.

    Example:
        >>> seconds_of("6h")
        21600

    Raises:
        InvalidInputError: not such a length, or shorter than 10 seconds or longer than a year.
    """
    found = _EVERY.fullmatch(every)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not EVERY_S_MIN <= seconds <= EVERY_S_MAX:
        raise InvalidInputError(
            f"{every[:40]!r} is not an interval of 10 seconds to 366 days.",
            hint="Write a number and s, m, h, d or w, such as 15m or 6h.",
            field="trigger.every",
        )
    return seconds


def zone_name(trigger: object) -> str:
    """In whose time a trigger's slots are told."""
    return trigger.zone if isinstance(trigger, Cron) else "UTC"


@functools.lru_cache(maxsize=1024)
def _expression(text: str) -> str:
    expression = _NAMED.get(text.strip().lower(), text)
    fields = expression.split()
    if len(fields) != 5 or len(expression) > 200:
        raise InvalidInputError(
            f"The cron expression {text[:80]!r} has {len(fields)} fields, not five.",
            hint=_FIELDS,
            field="trigger.expression",
        )
    try:
        CronSim(expression, _EPOCH)
    except CronSimError as error:
        raise InvalidInputError(
            f"The cron expression {text[:80]!r} cannot be read: {str(error).replace('Bad', 'the field cannot be')}.",
            hint=_FIELDS,
            field="trigger.expression",
        ) from None
    return expression


def _cron_slots(expression: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    try:
        moments = CronSim(expression, after.astimezone(UTC if zone.key == "UTC" else zone))
        last = after
        for moment in moments:
            slot = moment.astimezone(UTC)
            # Started within a repeated hour, the library names the first of the two times, which is over.
            if slot > last:
                last = slot
                yield slot
    except (OverflowError, ValueError):  # the calendar ends with the year 9999
        return


def _interval_slots(trigger: Interval, after: datetime) -> Iterator[datetime]:
    length = timedelta(seconds=seconds_of(trigger.every))
    origin = as_utc(trigger.start) if trigger.start is not None else _EPOCH
    if trigger.start is not None and after < origin:
        after = origin - length
    slot = origin + ((after - origin) // length) * length
    try:
        while True:
            slot += length
            yield slot
    except OverflowError:
        return
