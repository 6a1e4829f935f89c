"""The database: SQLite by default, PostgreSQL by URL, one code path."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DataError, OperationalError

from everline.config import Settings
from everline.errors import EverlineError, InvalidInputError, UnavailableError
from everline.storage.folder import make_folder

_UNUSABLE = ("malformed", "not a database", "readonly", "unable to open", "disk I/O", "is full")
"""What SQLite says of a file that is broken or cannot be written."""


class Database:
    """Connections to one database, safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.database
        self.is_sqlite = self.url.startswith("sqlite")
        self.engine = self._create_sqlite(settings) if self.is_sqlite else self._create_postgres(settings)
        event.listen(self.engine, "handle_error", _name_what_cannot_be_kept)

    def _create_sqlite(self, settings: Settings) -> Engine:
        path = make_url(self.url).database
        if path and path != ":memory:":
            make_folder(Path(path).parent)
        engine = create_engine(
            self.url,
            pool_size=settings.pool_connections_max,
            max_overflow=0,
            connect_args={"timeout": settings.sqlite_busy_s, "check_same_thread": False},
        )

        @event.listens_for(engine, "connect")
        def _prepare(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # the driver must not open transactions behind our back
            cursor = connection.cursor()
            # FULL: an acknowledged write survives a power cut, not only a killed process.
            try:
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-65536"):
                    cursor.execute(f"PRAGMA {pragma}")
            except sqlite3.DatabaseError as error:
                connection.close()
                raise _unusable(
                    error, hint=f"The file is {path}; restore it from a backup, or let it be written."
                ) from error
            cursor.close()

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # A write lock from the start: a reader that turns writer later could only fail.
            mode = connection.get_execution_options().get("everline_mode", "IMMEDIATE")
            connection.exec_driver_sql(f"BEGIN {mode}")

        return engine

    def _create_postgres(self, settings: Settings) -> Engine:
        try:
            url = make_url(self.url).set(drivername="postgresql+psycopg")
            return create_engine(url, pool_size=settings.pool_connections_max, max_overflow=0, pool_pre_ping=True)
        except ArgumentError:
            raise InvalidInputError(
                "The database URL cannot be read.",
                hint="Write it like postgresql://user:password@host:5432/name, or leave it out for SQLite.",
                field="database_url",
            ) from None

    @contextmanager
    def begin(self, *, read_only: bool = False) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back on any exception."""
        mode = "DEFERRED" if read_only else "IMMEDIATE"
        try:
            connection = self.engine.connect().execution_options(everline_mode=mode)
        except OperationalError as error:
            hint = "Check EVERLINE_DATABASE_URL, that it runs, and the home directory."
            raise _unusable(error.orig, hint=hint) from error
        with connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _unusable(error: BaseException | None, *, hint: str) -> UnavailableError:
    return UnavailableError(f"The database cannot be used: {str(error).strip()}.", hint=hint)


def _name_what_cannot_be_kept(context: ExceptionContext) -> None:
    """Every statement's error passes here: a value that a column cannot hold is the caller's error, not ours.

    A zero byte, a text beyond its column: PostgreSQL says no where SQLite does not care. A number beyond
    64 bit: the SQLite driver says no, or a column type does while it writes JSON.
    """
    error = context.original_exception
    if isinstance(error, EverlineError):
        raise error  # a column type has said what is wrong
    if isinstance(error, sqlite3.DatabaseError) and any(words in str(error) for words in _UNUSABLE):
        raise _unusable(error, hint="Check the disk, the permissions of the home directory, and its backup.")
    if isinstance(context.sqlalchemy_exception, DataError) or isinstance(error, (OverflowError, UnicodeEncodeError)):
        lines = str(error).splitlines() or [type(error).__name__]
        raise InvalidInputError(
            f"A value cannot be kept: {lines[0]}.",
            hint="Send text without zero bytes, names of at most 256 characters, and whole numbers within 64 bit.",
        ) from error


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    keys: Sequence[str],
    update: Sequence[str] | None = None,
) -> int:
    """Insert rows; where `keys` already exist, overwrite the columns in `update` (none: leave the old row).

    Args:
        rows: equal keys in each; an empty list does nothing.
        keys: columns of a unique constraint.
        update: columns to overwrite; None means insert or ignore.

    Returns:
        The number of rows inserted or updated, as far as the driver says.
    """
    if not rows:
        return 0
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(table)
    if update:
        changes = {name: statement.excluded[name] for name in update}
        statement = statement.on_conflict_do_update(index_elements=list(keys), set_=changes)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=list(keys))
    statement = statement.execution_options(preserve_rowcount=True)
    if len(rows) == 1:
        return connection.execute(statement.values(dict(rows[0]))).rowcount
    return connection.execute(statement, [dict(row) for row in rows]).rowcount
