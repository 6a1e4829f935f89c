"""Columns of durable jobs."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, String, Table, Text

from everline.storage.schema import JsonValue, Name, UtcTime, metadata, uid_pk

job = Table(
    "job",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("queue", String(64), nullable=False),
    Column("kind", String(128), nullable=False),
    Column("key", String(256), nullable=True, unique=True),
    Column("payload", JsonValue, nullable=False),
    Column("result", JsonValue, nullable=True),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("lease_until", UtcTime, nullable=True),
    Column("lease", String(64), nullable=True),
    Column("ended_at", UtcTime, nullable=True),
    Column("error", Text, nullable=True),
    Index(None, "queue", "status", "due_at"),
)
