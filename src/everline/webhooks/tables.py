"""Columns of webhooks; their deliveries are jobs."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, String, Table, Text

from everline.storage.schema import JsonValue, Name, UtcTime, metadata, uid_pk

webhook = Table(
    "webhook",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("name", String(63), nullable=False),
    Column("description", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", JsonValue, nullable=False),
    Column("secret", Text, nullable=True),  # sealed under the server's key: the database alone reveals nothing
    Column("status", String(16), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("created_by", Name, nullable=False),
    Column("created_by_name", Name, nullable=False),
    Column("deleted", Boolean, nullable=False, default=False),
    Index(None, "project", "status"),
)
