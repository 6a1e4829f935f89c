"""The column types that every table is written in, and the one metadata that all tables join."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from everline.clock import as_utc
from everline.errors import InvalidInputError

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BigId = BigInteger().with_variant(Integer, "sqlite")
"""Internal integer key: SQLite fills only plain INTEGER keys by itself."""

Uid = String(36)
Name = String(256)
Digest = String(71)

NAMES_BLOB = {"blob": "named"}
"""What a column of digests says to the collector of garbage: each digest in it names a blob that must stay."""
NAMES_MANIFEST = {"blob": "manifest"}
"""The blob must stay, and so must every blob whose digest stands in it."""
NAMES_NO_BLOB = {"blob": "none"}
"""The digests, if there are any in it, are of something else, or a blob need not stay because of them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time, kept as whole microseconds since 1970: exact, ordered and the same on both databases."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=value)


def microseconds(value: datetime) -> int:
    """A time as `UtcTime` keeps it."""
    try:
        return (as_utc(value) - _EPOCH) // _MICROSECOND
    except OverflowError:  # kept, it could never be read again
        raise InvalidInputError(
            f"The time {value.isoformat()} lies outside the years 1 to 9999 in UTC.", hint="Send a time in UTC."
        ) from None


class JsonValue(TypeDecorator[Any]):
    """A JSON value as text; None is SQL's NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value)


def uid_pk() -> Column[str]:
    """The primary key of things that are known outside by their uid."""
    return Column("uid", Uid, primary_key=True)


def id_pk() -> Column[int]:
    """An internal integer key, given by the database."""
    return Column("id", BigId, primary_key=True, autoincrement=True)
