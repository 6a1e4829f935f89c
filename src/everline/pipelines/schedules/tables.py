"""Columns of schedules: what is declared, the runs that came of it, and how far the audit log was read."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from everline.storage.schema import JsonValue, Name, Uid, UtcTime, metadata, uid_pk

schedule = Table(
    "schedule",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("name", Name, nullable=False),
    Column("spec", JsonValue, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("enabled", Boolean, nullable=False),
    # The first slot that nothing was made of yet; null without a clock, and while it is paused.
    Column("next_at", UtcTime, nullable=True),
    # Only events of the audit log from this position on set it going.
    Column("since_position", BigInteger, nullable=False),
    # Secrets are derived from the server's key and this number; 0: none was given out.
    Column("secret_number", Integer, nullable=False),
    Column("missed_slot", UtcTime, nullable=True),
    Column("failed_slot", UtcTime, nullable=True),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Name, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    # Empty while it exists; its own uid afterwards, so that its runs stay and its name is free again.
    Column("retired", String(36), nullable=False),
    UniqueConstraint("project", "name", "retired"),
    Index(None, "retired", "next_at"),
)

scheduled_run = Table(
    "scheduled_run",
    metadata,
    uid_pk(),
    Column("schedule", Uid, ForeignKey("schedule.uid"), nullable=False),
    # What it stands for, such as a slot or an event: each is made once, whoever makes it.
    Column("key", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("slot", UtcTime, nullable=False),
    Column("deadline", UtcTime, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("job", Uid, nullable=True),
    Column("run", String(32), nullable=True),
    Column("late", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("error", Text, nullable=True),
    Column("facts", JsonValue, nullable=False),
    Column("parameters", JsonValue, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime, nullable=True),
    UniqueConstraint("schedule", "key"),
    Index(None, "schedule", "slot"),
    Index(None, "status", "late", "deadline"),
    Index(None, "job"),
)

audit_cursor = Table(
    "schedule_cursor",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    # The first position of the audit log that was not looked at yet.
    Column("position", BigInteger, nullable=False),
)
