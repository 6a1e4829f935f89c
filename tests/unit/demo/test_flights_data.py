"""The demo's data is read as published, and a model sees nothing from after the departure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from everline.demo import flight_delay, flights
from everline.errors import InvalidInputError

AFTER_DEPARTURE = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "late"}


def test_the_months_hold_all_flights_of_the_year() -> None:
    assert sum(flights.flights_of(month).num_rows for month in flights.MONTHS) == 336_776


def test_an_unknown_month_says_which_there_are() -> None:
    with pytest.raises(InvalidInputError, match="no flights for '2014-01'"):
        flights.flights_of("2014-01")


def test_a_model_input_is_known_before_departure() -> None:
    """The inputs do not change when everything that happens later is erased."""
    january, weather = flights.flights_of("2013-01"), flights.weather()
    inputs = flight_delay.joined(january, weather).select(flight_delay.FEATURES)
    blank = january
    for index, name in enumerate(january.column_names):
        if name in AFTER_DEPARTURE:
            blank = blank.set_column(index, name, pa.nulls(january.num_rows, january[name].type))
    assert flight_delay.joined(blank, weather).select(flight_delay.FEATURES).equals(inputs)
    assert not AFTER_DEPARTURE & set(flight_delay.FEATURES)


def test_joining_keeps_every_flight_once_and_says_when_it_leaves() -> None:
    month = flights.flights_of("2013-03")
    table = flight_delay.joined(month, flights.weather())
    assert table.num_rows == month.num_rows
    assert table["wind_speed"].null_count < 300
    scheduled = table["scheduled"][0].as_py()
    assert scheduled == datetime(2013, 3, 1, 10, 0, tzinfo=UTC)  # 5:00 in New York
    assert pc.sum(table["late"]).as_py() == pc.sum(pc.greater(month["arr_delay"], 15)).as_py()
    assert set(table["weekday"].unique().to_pylist()) == set(range(7))


def test_batches_come_in_time_order_one_per_hour_with_every_flight() -> None:
    start, end = flights.moment(6, 1), flights.moment(6, 3)
    found = list(flights.batches(start, end))
    assert [batch.at for batch in found] == sorted({batch.at for batch in found})
    assert all(start <= batch.at < end for batch in found)
    assert sum(batch.flights for batch in found) == sum(
        flights.flights_of("2013-06").filter(pc.less_equal(flights.flights_of("2013-06")["day"], 2)).num_rows
        for _ in [0]
    )
    first = found[0]
    assert set(first.columns) == set(flight_delay.FEATURES)
    assert {len(column) for column in first.columns.values()} == {first.flights} == {len(first.event_times)}
    assert len(first.late) == first.flights
    assert first.known_at - first.at >= timedelta(days=1)


def test_a_cancelled_flight_is_asked_for_and_never_gets_an_outcome() -> None:
    found = list(flights.batches(flights.moment(2, 8), flights.moment(2, 9)))  # the blizzard of February 2013
    assert any(late is None for batch in found for late in batch.late)


def test_validation_refuses_what_the_model_was_not_made_for() -> None:
    january, weather = flights.flights_of("2013-01").slice(0, 100), flights.weather()
    with pytest.raises(ValueError, match="lack the columns distance"):
        flight_delay.validate(january.drop_columns(["distance"]), weather)
    with pytest.raises(ValueError, match="no weather for"):
        flight_delay.validate(january, weather.filter(pc.equal(weather["origin"], "EWR")))


def test_the_split_is_by_time() -> None:
    table = flight_delay.joined(flights.flights_of("2013-01"), flights.weather())
    past, later = flight_delay.split(table, "2013-01-01", "2013-01-20", "2013-02-01")
    assert pc.max(past["day"]).as_py() < pc.min(later["day"]).as_py()
    with pytest.raises(ValueError, match="too few"):
        flight_delay.split(table, "2013-01-01", "2013-02-01", "2013-03-01")


@pytest.mark.parametrize(
    ("start", "end", "labels"),
    [
        ("2013-01-01", "2013-02-01", ["2013-01"]), ("2013-01-15", "2013-03-02", ["2013-01", "2013-02", "2013-03"]),
        ("2012-12-01", "2013-01-02", ["2012-12", "2013-01"]),
    ],
)  # fmt: skip
def test_the_months_of_a_span(start: str, end: str, labels: list[str]) -> None:
    assert flight_delay.months(start, end) == labels
