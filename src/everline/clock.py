"""The one source of time, so that tests and replays can hold it still."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

from everline.errors import InvalidInputError


class Clock(Protocol):
    """Says what time it is."""

    def now(self) -> datetime:
        """The present as an aware UTC time with microseconds."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class FixedClock:
    """A clock that moves only when told to."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move by `seconds`, backwards if negative."""
        self._now += timedelta(seconds=seconds)


def rfc3339(moment: datetime) -> str:
    """Write a UTC time as RFC 3339 with microseconds and `Z`.

    Example:
        >>> rfc3339(datetime(2013, 6, 1, 5, tzinfo=UTC))
        '2013-06-01T05:00:00.000000Z'
    """
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_rfc3339(text: str, *, field: str = "time") -> datetime:
    """Read an RFC 3339 time, or a date (its midnight); a time without a zone is taken as UTC."""
    try:
        return as_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise InvalidInputError(
            f"{field} {text[:80]!r} is not a time.",
            hint="Write it like 2013-06-01T05:00:00Z or 2013-06-01.",
            field=field,
        ) from None


def as_utc(moment: datetime) -> datetime:
    """The same moment in UTC; without a zone it is taken as UTC.

    Raises:
        OverflowError: the zone leads out of the years 1 to 9999.
    """
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
