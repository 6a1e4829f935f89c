"""Values that no table and no clock can hold are refused by name, in one place each."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import BigInteger, literal, select

from everline.clock import parse_rfc3339
from everline.config import Settings
from everline.errors import InvalidInputError, UnavailableError
from everline.ids import whole_number
from everline.sdk.client import Client
from everline.storage.db import Database
from everline.storage.schema import UtcTime

EDGE = "0001-01-01T00:00:00+14:00"


def test_a_zone_that_leads_out_of_the_calendar_is_no_time() -> None:
    with pytest.raises(InvalidInputError, match="since"):
        parse_rfc3339(EDGE, field="since")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(literal(2**63, BigInteger), id="number beyond 64 bit"),
        pytest.param(literal("\ud800"), id="lone surrogate"),
        pytest.param(literal(datetime.fromisoformat(EDGE), UtcTime()), id="time before the first year"),
    ],
)
def test_what_a_column_cannot_hold_is_the_callers_error(tmp_path, value) -> None:
    database = Database(Settings(home=tmp_path))
    with pytest.raises(InvalidInputError), database.begin() as connection:
        connection.execute(select(value))
    database.close()


def test_a_time_without_a_zone_is_kept_as_utc(tmp_path) -> None:
    database = Database(Settings(home=tmp_path))
    with database.begin() as connection:
        kept = connection.execute(select(literal(datetime(2013, 6, 1), UtcTime()))).scalar_one()
    assert kept == datetime(2013, 6, 1, tzinfo=UTC)
    database.close()


def test_a_file_that_is_no_database_is_named(tmp_path) -> None:
    (tmp_path / "everline.db").write_bytes(b"no database" * 400)
    database = Database(Settings(home=tmp_path))
    with pytest.raises(UnavailableError, match="not a database"), database.begin():
        pass
    database.close()


def test_a_name_cannot_lead_a_client_to_another_address(tmp_path) -> None:
    with Client("http://127.0.0.1:9", home=tmp_path) as client:
        for name in ("../users", "x?project=other", "x#y"):
            with pytest.raises(InvalidInputError):
                client.call("GET", f"/runs/{name}")


@pytest.mark.parametrize("text", ["", "-1", "²", "٣", "9" * 5_000, "1\n", "0x1"])
def test_only_short_ascii_digits_are_a_number(text) -> None:
    assert whole_number(text) is None
    assert whole_number("0042") == 42
