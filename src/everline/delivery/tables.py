"""Columns of this slice: what each stack declared last, pipelines under names, and the history of plans."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, String, Table, Text

from everline.storage.schema import NAMES_NO_BLOB, Digest, JsonValue, Name, Uid, UtcTime, metadata, uid_pk

stack = Table(
    "delivery_stack",
    metadata,
    Column("project", Name, primary_key=True),
    Column("name", Name, primary_key=True),
    Column("serial", Integer, nullable=False),
    Column("path", String(1024), nullable=False),
    Column("source_digest", Digest, nullable=False, info=NAMES_NO_BLOB),
    Column("at", UtcTime, nullable=False),
    Column("actor_name", Name, nullable=False),
)
"""One row for each file that was applied; its lock puts those who apply it in line."""

thing = Table(
    "delivery_thing",
    metadata,
    Column("project", Name, primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("name", String(400), primary_key=True),
    Column("stack", Name, nullable=False),
    Column("spec", JsonValue, nullable=False, info=NAMES_NO_BLOB),
    # Of the values that came from the environment, by field, keyed by the server: tells whether they are others now.
    Column("fingerprints", JsonValue, nullable=False, info=NAMES_NO_BLOB),
    Column("at", UtcTime, nullable=False),
    Index(None, "project", "stack"),
)
"""What is declared, and by which stack: only these are ever removed."""

pipeline = Table(
    "delivery_pipeline",
    metadata,
    Column("project", Name, primary_key=True),
    Column("name", Name, primary_key=True),
    Column("pipeline", String(512), nullable=False),
    Column("directory", Text, nullable=False),
    Column("params", JsonValue, nullable=False, info=NAMES_NO_BLOB),
    Column("description", Text, nullable=False),
)

record = Table(
    "delivery_record",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("stack", Name, nullable=False),
    Column("what", String(16), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", Uid, nullable=False),
    Column("actor_name", Name, nullable=False),
    Column("path", String(1024), nullable=False),
    Column("source_digest", Digest, nullable=False, info=NAMES_NO_BLOB),
    Column("plan", Digest, nullable=False, info=NAMES_NO_BLOB),
    Column("serial", Integer, nullable=False),
    Column("counts", JsonValue, nullable=False, info=NAMES_NO_BLOB),
    Column("body", JsonValue, nullable=False, info=NAMES_NO_BLOB),
    Index(None, "project", "stack", "what"),
    Index(None, "project", "plan"),
)
"""Every application, and the newest plans."""
