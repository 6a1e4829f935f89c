"""Slots of clocks: cron with daylight saving both ways, leap days, intervals, and that they are one fixed row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from everline.errors import InvalidInputError
from everline.pipelines.schedules import templates, times
from everline.pipelines.schedules.types import Cron, Interval


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local(expression: str, zone: str, after: str, count: int) -> list[str]:
    """The next slots as the zone's clocks show them, with their offset."""
    found = islice(times.slots_after(Cron(expression=expression, zone=zone), at(after)), count)
    return [slot.astimezone(times.zone_of(zone)).isoformat(timespec="minutes") for slot in found]


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        # Berlin, 29 March 2026: 02:00 becomes 03:00. A time that does not exist comes right after the gap, once.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        ("0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00", ["2026-03-29T01:30+01:00", "2026-03-29T03:00+02:00"]),
        # Berlin, 25 October 2026: 03:00 becomes 02:00. A time that comes twice counts once; "*" is real time.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10", ["2026-10-26T02:30+01:00", "2026-10-27T02:30+01:00"]),
        ("30 * * * *", "Europe/Berlin", "2026-10-25T00:00", ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00"]),
        # New York changes on other days; Lord Howe moves by half an hour; Cairo's midnight is the hour that is missing.
        ("30 2 * * *", "America/New_York", "2026-03-07T12:00", ["2026-03-08T03:00-04:00", "2026-03-09T02:30-04:00"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T10:00", ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"]),
        ("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00", ["2026-04-24T01:00+03:00", "2026-04-25T00:00+03:00"]),
        # leap days, months without a 31st, both days at once, names
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["2028-02-29T00:00+00:00", "2032-02-29T00:00+00:00"]),
        ("0 0 31 * *", "UTC", "2026-02-01T00:00", ["2026-03-31T00:00+00:00", "2026-05-31T00:00+00:00"]),
        ("0 0 L * *", "UTC", "2028-02-01T00:00", ["2028-02-29T00:00+00:00", "2028-03-31T00:00+00:00"]),
        ("@weekly", "UTC", "2026-11-27T00:00", ["2026-11-29T00:00+00:00", "2026-12-06T00:00+00:00"]),
        ("5 4 * * mon-fri", "UTC", "2026-11-27T12:00", ["2026-11-30T04:05+00:00", "2026-12-01T04:05+00:00"]),
    ],
)
def test_cron_follows_the_clocks_of_its_zone(expression, zone, after, expected):
    assert local(expression, zone, after, 2) == expected


@pytest.mark.parametrize("expression", ["30 2 * * *", "*/20 * * * *", "10 1-3 * * *", "0 */2 * * *"])
@pytest.mark.parametrize("day", ["2026-03-28T20:00", "2026-10-24T20:00"])
def test_where_one_starts_to_look_changes_no_slot(expression, day):
    """Replicas and restarts look from any moment; over a change of clocks, from each minute the same slots follow."""
    clock, start = Cron(expression=expression, zone="Europe/Berlin"), at(day)
    end = start + timedelta(hours=12)
    row = times.slots_between(clock, start=start, end=end, limit=1_000)
    for minute in range(0, 12 * 60, 7):
        look = start + timedelta(minutes=minute)
        expected = next((slot for slot in row if slot > look), None)
        if expected is not None:
            assert times.next_slot(clock, look) == expected
    found, more = times.newest_slots(clock, start=start, end=end, count=3)
    assert found == row[-3:]
    assert more == (len(row) > 3)


def test_intervals_know_no_clocks():
    every = Interval(every="6h", start=at("2026-10-24T01:00"))
    found = list(islice(times.slots_after(every, at("2026-10-24T13:00")), 3))
    assert found == [at("2026-10-24T19:00"), at("2026-10-25T01:00"), at("2026-10-25T07:00")]
    assert times.next_slot(every, at("2020-01-01")) == at("2026-10-24T01:00")
    assert times.next_slot(Interval(every="15m"), at("2026-10-24T01:00:01")) == at("2026-10-24T01:15")


def test_the_newest_of_many_slots_are_found_at_once():
    found, more = times.newest_slots(
        Cron(expression="* * * * *"), start=at("1990-01-01"), end=at("2026-01-01"), count=2
    )
    assert (found, more) == ([at("2025-12-31T23:59"), at("2026-01-01")], True)


@pytest.mark.parametrize(
    ("clock", "says"),
    [
        (Cron(expression="61 * * * *"), "minute"),
        (Cron(expression="* * * *"), "4 fields, not five"),
        (Cron(expression="* * * * * *"), "6 fields, not five"),
        (Cron(expression="0 0 30 2 *"), "day-of-month"),
        (Cron(expression="0 0 */20 * 1L"), "never comes"),
        (Cron(expression="0 0 * * *", zone="Europe/Atlantis"), "no time zone 'Europe/Atlantis'"),
        (Cron(expression="0 0 * * *", zone="../etc/passwd"), "no time zone"),
        (Interval(every="5s"), "interval of 10 seconds"),
        (Interval(every="1 hour"), "interval of 10 seconds"),
    ],
)
def test_a_clock_that_cannot_strike_is_refused(clock, says):
    with pytest.raises(InvalidInputError, match=says) as caught:
        times.check_clock(clock)
    assert caught.value.hint


def test_parameters_are_filled_in_with_their_own_types():
    facts = {"slot": at("2026-11-27T02:00"), "version": 3, "body": {"ref": "main", "n": [1]}}
    params = {
        "day": "{slot:%Y-%m-%d}",
        "v": "{version}",
        "text": "v{version} {{x}}",
        "deep": [{"n": "{body.n}"}],
        "k": 7,
    }
    assert templates.fill(params, facts) == {
        "day": "2026-11-27", "v": 3, "text": "v3 {x}", "deep": [{"n": [1]}], "k": 7,
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "{slto}",
        "{slot.year}",
        "{slot!r}",
        "{slot[0]}",
        "{version:%Y}",
        "{slot:day}",
        "{",
        "{}",
        "{body.x}",
        "{slot:{version}}",
    ],
)
def test_a_parameter_that_could_not_be_filled_in_is_refused_when_it_is_saved(text):
    with pytest.raises(InvalidInputError) as caught:
        templates.check({"a": [text]}, {"slot": at("2026-11-27T02:00"), "version": 3})
    assert caught.value.hint
