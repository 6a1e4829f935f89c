"""The one Alembic history of the database, and the way up to its head."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, select, text

from everline.access import tables as access_tables
from everline.clock import Clock
from everline.ids import new_uid
from everline.loader import load
from everline.storage.db import Database, upsert

_VERSIONS = Path(__file__).parent / "versions"
_POSTGRES_LOCK = 0x65766572  # any constant: one replica migrates at a time


def head() -> str:
    """The newest revision: revisions are files with ascending numbers."""
    return max(path.stem for path in _VERSIONS.glob("[0-9]*.py")).partition("_")[0]


def upgrade(database: Database, *, clock: Clock) -> None:
    """Bring the database to the head; costs one query when it is there already."""
    with database.begin(read_only=True) as connection:
        if _revision(connection) == head():
            return
    with database.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
        if _revision(connection) == head():
            return
        load("everline.migrations.history").migrate(connection)
        _create_default_project(connection, clock)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _create_default_project(connection: Connection, clock: Clock) -> None:
    if connection.execute(select(access_tables.project.c.uid)).first() is None:
        row = {"uid": new_uid(), "name": "default", "description": "The first project.", "created_at": clock.now()}
        upsert(connection, access_tables.project, [row], keys=["name"])
