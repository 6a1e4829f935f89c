"""The database: SQLite by default, PostgreSQL by URL, one code path.

SQLite has one writer at a time. Writers of this process queue for their turn here rather than in SQLite's
busy loop, commit, give the turn on, and only then wait for the disk, together (see `storage.wal`).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Boolean, Connection, Engine, ExceptionContext, Insert, Table, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, OperationalError
from sqlalchemy.types import TypeDecorator

from everline.config import Settings
from everline.errors import EverlineError, InvalidInputError, UnavailableError
from everline.loader import load
from everline.storage.folder import make_folder
from everline.storage.wal import WriteAheadLog

_CONNECTIONS_BESIDE = 4
_UNUSABLE = ("malformed", "not a database", "readonly", "unable to open", "disk I/O", "is full")
"""What SQLite says of a file that is broken or cannot be written."""


class Database:
    """Connections to one database, safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.database
        self.is_sqlite = self.url.startswith("sqlite")
        self._turn = threading.Lock()
        self._turn_of: int | None = None
        self._writer: Connection | None = None
        """Of whoever has the turn; kept, because taking one from the pool costs as much as a small transaction."""
        self._wal: WriteAheadLog | None = None
        self.engine = self._create(settings, connections=settings.pool_connections_max)
        event.listen(self.engine, "handle_error", _name_error)
        beside = self._create(settings, connections=_CONNECTIONS_BESIDE)
        event.listen(beside, "handle_error", _name_error)
        self._beside = beside.execution_options(everline_mode="DEFERRED")
        self._reading = self.engine.execution_options(everline_mode="DEFERRED")

    def _create(self, settings: Settings, *, connections: int) -> Engine:
        if self.is_sqlite:
            return self._create_sqlite(settings, connections=connections + 1)  # and the writer's
        return self._create_postgres(connections=connections)

    def _create_sqlite(self, settings: Settings, *, connections: int) -> Engine:
        path = make_url(self.url).database
        if path and path != ":memory:" and self._wal is None:
            make_folder(Path(path).parent)
            self._wal = WriteAheadLog(Path(path), delay_s=settings.metric_flush_s)
        engine = create_engine(
            self.url,
            pool_size=connections,
            max_overflow=0,
            connect_args={"timeout": settings.sqlite_busy_s, "check_same_thread": False},
        )

        @event.listens_for(engine, "connect")
        def _prepare(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # the driver must not open transactions behind our back
            cursor = connection.cursor()
            try:
                if cursor.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
                    self._wal = None  # a file system that cannot share memory; SQLite itself must flush
                # NORMAL, because `begin` waits for the disk.
                level = "FULL" if self._wal is None else "NORMAL"
                for pragma in (f"synchronous={level}", "foreign_keys=ON", "cache_size=-65536"):
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
            _execute(connection, f"BEGIN {mode}")

        return engine

    def _create_postgres(self, *, connections: int) -> Engine:
        try:
            url = make_url(self.url).set(drivername="postgresql+psycopg")
            return create_engine(url, pool_size=connections, max_overflow=0, pool_pre_ping=True)
        except ArgumentError:
            raise InvalidInputError(
                "The database URL cannot be read.",
                hint="Write it like postgresql://user:password@host:5432/name, or leave it out for SQLite.",
                field="database_url",
            ) from None

    @contextmanager
    def begin(self, *, read_only: bool = False, power_safe: bool = True) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back on any exception.

        Args:
            power_safe: return only when the commit survives a power cut as well. Without, it survives the death of
                this process at once, and a power cut after `metric_flush_s`; PostgreSQL always waits.
        """
        if read_only or not self.is_sqlite:
            with self._connect(read_only=read_only) as connection, connection.begin():
                yield connection
            return
        with self._turn:
            self._turn_of = threading.get_ident()
            try:
                with self._writing() as connection:
                    yield connection
            finally:
                self._turn_of = None
        if self._wal is not None:
            if power_safe:
                self._wal.flush()
            else:
                self._wal.flush_soon()

    @property
    def writes_here(self) -> bool:
        """Whether this thread is in SQLite's one write transaction of this process: it must not begin another."""
        return self._turn_of == threading.get_ident()

    @contextmanager
    def beside(self, *, write: bool = False) -> Iterator[Connection]:
        """A short transaction beside the one that this thread may be in already.

        Its connection comes from a pool of its own: were it the pool of all, as many threads as it has connections
        could each hold one and wait for a second for ever. On SQLite `write` is for who is in no other.
        """
        if write and self.is_sqlite:
            with self.begin() as connection:
                yield connection
            return
        with self._beside.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        writer = self._writer or self._connect(read_only=False)
        self._writer = None  # whatever goes wrong, the next one begins with a fresh connection
        with contextlib.ExitStack() as failed:
            failed.callback(writer.close)
            with writer.begin():
                yield writer
            failed.pop_all()
        self._writer = writer

    def _connect(self, *, read_only: bool) -> Connection:
        try:
            return (self._reading if read_only else self.engine).connect()
        except OperationalError as error:
            hint = "Check EVERLINE_DATABASE_URL, that it runs, and the home directory."
            raise _unusable(error.orig, hint=hint) from error

    def close(self) -> None:
        """Close every connection."""
        with self._turn:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        if self._wal is not None:
            self._wal.close()
        self.engine.dispose()
        self._beside.dispose()


def _unusable(error: BaseException | None, *, hint: str) -> UnavailableError:
    return UnavailableError(f"The database cannot be used: {str(error).strip()}.", hint=hint)


def _name_error(context: ExceptionContext) -> None:
    """Every error of a statement that SQLAlchemy runs passes here."""
    if isinstance(context.original_exception, EverlineError):
        raise context.original_exception  # a column type has said what is wrong
    _name_what_cannot_be_kept(context.original_exception, of_value=isinstance(context.sqlalchemy_exception, DataError))


def _name_what_cannot_be_kept(error: BaseException, *, of_value: bool) -> None:
    """Raise what an error of the driver means, if it means anything: a value that a column cannot hold is the caller's.

    A zero byte, a text beyond its column: PostgreSQL says no where SQLite does not care. A number beyond
    64 bit: the SQLite driver says no, or a column type does while it writes JSON.
    """
    if isinstance(error, sqlite3.DatabaseError) and any(words in str(error) for words in _UNUSABLE):
        raise _unusable(error, hint="Check the disk, the permissions of the home directory, and its backup.")
    if of_value or isinstance(error, (OverflowError, UnicodeEncodeError)):
        lines = str(error).splitlines() or [type(error).__name__]
        raise InvalidInputError(
            f"A value cannot be kept: {lines[0]}.",
            hint="Send text without zero bytes, names of at most 256 characters, and whole numbers within 64 bit.",
        ) from error


def _execute(connection: Connection, statement: str, values: Sequence[Any] = ()) -> Any:
    """Run a fixed statement; a cursor of plain tuples.

    On SQLite the driver itself runs it: what SQLAlchemy does for a statement costs several times what SQLite does
    for a small one.
    """
    if connection.dialect.name != "sqlite":
        return connection.exec_driver_sql(statement, tuple(values))
    driver: Any = connection.connection.driver_connection
    try:
        return driver.execute(statement, values)
    except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
        _name_what_cannot_be_kept(error, of_value=isinstance(error, sqlite3.DataError))
        raise


def select_rows(
    connection: Connection, statement: str, values: Sequence[Any], *, lock: bool = False
) -> Sequence[Sequence[Any]]:
    """Rows of a fixed statement, past SQLAlchemy's work for the statement and for each row.

    Args:
        statement: SQL that both databases read, with `?` for each value and nowhere else, and no `%`; a query, or a
            change that returns rows.
        lock: hold the rows until the transaction ends; on SQLite a writer holds everything anyway.
        values: plain numbers and texts; what comes back is as plain: a truth value of SQLite is 0 or 1.
    """
    sqlite_like = connection.dialect.name == "sqlite"
    if not sqlite_like:
        statement = statement.replace("?", "%s") + (" FOR UPDATE" if lock else "")
    rows: Sequence[Sequence[Any]] = _execute(connection, statement, values).fetchall()
    return rows


IDS_PER_QUERY = 5_000


def select_by_ids(
    connection: Connection, statement: str, ids: Sequence[int | str], *, before: Sequence[Any] = ()
) -> Iterator[Sequence[Any]]:
    """Rows of a fixed statement for many ids, past SQLAlchemy's work of expanding a list into it.

    Args:
        statement: SQL that both databases read, with `{ids}` after a column, such as `WHERE run {ids} ORDER BY run`.
        ids: all integers, or all texts without zero bytes; none gives no rows. They are asked for in parts, so an
            order holds within a part only.
        before: what other values the statement has before `{ids}`, each written as `?`.
    """
    sqlite_like = connection.dialect.name == "sqlite"
    among = "IN (SELECT value FROM json_each(?))" if sqlite_like else "= ANY(%s)"
    if not sqlite_like:
        statement = statement.replace("?", "%s")
    if sqlite_like and len(ids) == 1:  # no list to be written and read, which takes longer than to find one row
        yield from _execute(connection, statement.format(ids="= ?"), (*before, *ids)).fetchall()
        return
    for start in range(0, len(ids), IDS_PER_QUERY):
        part = list(ids[start : start + IDS_PER_QUERY])
        given: Any = msgspec.json.encode(part).decode() if sqlite_like else part
        yield from _execute(connection, statement.format(ids=among), (*before, given)).fetchall()


def insert_values(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, over: Sequence[str] = ()
) -> None:
    """Insert rows past SQLAlchemy's work for the statement, each value written as the type of its column writes it.

    Args:
        rows: equal keys in each, in the same order. A key that is there already is the driver's `IntegrityError`.
        over: columns of a unique constraint; a row whose keys are there already is overwritten, and each key may come
            once only.
    """
    if not rows:
        return
    columns = tuple(rows[0])
    writers = _writers(table, columns)
    written = [
        tuple(
            value if write is None else write(value, connection.dialect)
            for write, value in zip(writers, row.values(), strict=True)
        )
        for row in rows
    ]
    insert_rows(connection, table, columns, written, keys=over, overwrite=bool(over))


@functools.lru_cache(maxsize=256)
def _writers(table: Table, columns: tuple[str, ...]) -> tuple[Callable[[Any, Any], Any] | None, ...]:
    """How each column's type writes a value; None for those that take it as it is."""
    kinds = [table.c[name].type for name in columns]
    return tuple(kind.process_bind_param if isinstance(kind, TypeDecorator) else None for kind in kinds)


def insert_rows(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    *,
    keys: Sequence[str],
    newer: Sequence[str] = (),
    overwrite: bool = False,
) -> int:
    """Insert many rows of plain numbers and texts past SQLAlchemy's per-row work.

    Args:
        columns: their names, in the order of each tuple; no times, no JSON. A truth value is best given as 0 or 1:
            SQLite's driver looks for an adapter of each `bool`, which costs a fifth of the insert.
        keys: columns of a unique constraint; a row whose keys are there already is left out. With none given, such a
            row is an error.
        newer: with columns given, the old row is overwritten where these, compared in this order, are greater
            than its own; then each key may come once only.
        overwrite: the old row is overwritten in any case.

    Returns:
        How many rows were inserted or overwritten.
    """
    if not rows:
        return 0
    shape = (table, tuple(columns), tuple(keys), tuple(newer), overwrite, connection.dialect.name)
    if connection.dialect.name == "sqlite":
        start = changed = 0
        for count in _ROWS_PER_INSERT:
            while len(rows) - start >= count:
                values = tuple(itertools.chain.from_iterable(rows[start : start + count]))
                changed += _execute(connection, _insert_statement(*shape, rows=count), values).rowcount
                start += count
        return changed
    kinds = [table.c[name].type for name in columns]
    given = tuple(
        [bool(one) for one in column] if isinstance(kind, Boolean) else list(column)
        for kind, column in zip(kinds, zip(*rows, strict=True), strict=True)
    )
    return int(_execute(connection, _insert_statement(*shape, rows=0), given).rowcount)


_ROWS_PER_INSERT = (250, 50, 10, 1)
"""Rows of one statement. SQLite's driver hands Python's lock over at each statement, not only at each row of a
statement: `executemany` of 1,000 rows beside one busy thread takes 0.4 s, these four statements 12 ms."""


@functools.lru_cache(maxsize=256)
def _insert_statement(
    table: Table,
    columns: tuple[str, ...],
    keys: tuple[str, ...],
    newer: tuple[str, ...],
    overwrite: bool,
    dialect: str,
    *,
    rows: int,
) -> str:
    named = ", ".join(f'"{name}"' for name in columns)
    target = ", ".join(f'"{name}"' for name in keys)
    if dialect == "sqlite":
        source = "VALUES " + ", ".join([f"({', '.join('?' * len(columns))})"] * rows)
    else:  # one array a column: PostgreSQL reads a statement once, however many rows it has
        kinds = (table.c[name].type.compile(dialect_of(dialect).dialect()) for name in columns)
        source = f"SELECT * FROM unnest({', '.join(f'%s::{_element(kind)}[]' for kind in kinds)})"  # noqa: S608
    changed = ", ".join(f'"{name}" = excluded."{name}"' for name in columns if name not in keys)
    if overwrite:
        action = f"ON CONFLICT ({target}) DO UPDATE SET {changed}"
    elif newer:
        ours = ", ".join(f'excluded."{name}"' for name in newer)
        theirs = ", ".join(f'"{table.name}"."{name}"' for name in newer)
        action = f"ON CONFLICT ({target}) DO UPDATE SET {changed} WHERE ({ours}) > ({theirs})"
    else:
        action = f"ON CONFLICT ({target}) DO NOTHING" if keys else ""
    return f'INSERT INTO "{table.name}" ({named}) {source} {action}'


def _element(kind: str) -> str:
    """The type of an array's elements; a text must reach its column whole, to be refused there if it is too long."""
    return "TEXT" if kind.startswith("VARCHAR") else kind


def dialect_of(name: str) -> Any:
    """SQLAlchemy's module of a dialect, loaded by its first use: most processes speak one of the two."""
    return load(f"sqlalchemy.dialects.{name}")


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
    statement = _upsert_statement(table, tuple(keys), tuple(update or ()), connection.dialect.name)
    if len(rows) == 1:
        return connection.execute(statement, dict(rows[0])).rowcount
    return connection.execute(statement, [dict(row) for row in rows]).rowcount


@functools.lru_cache(maxsize=256)
def _upsert_statement(table: Table, keys: tuple[str, ...], update: tuple[str, ...], dialect: str) -> Insert:
    """Made once: `excluded` alone copies the whole table with its columns."""
    insert = dialect_of(dialect).insert
    statement = insert(table)
    if update:
        changes = {name: statement.excluded[name] for name in update}
        statement = statement.on_conflict_do_update(index_elements=list(keys), set_=changes)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=list(keys))
    made: Insert = statement.execution_options(preserve_rowcount=True)
    return made
