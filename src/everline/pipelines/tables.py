"""Columns of this slice: the steps of runs, and the results that are kept for reuse."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from everline.storage.schema import NAMES_NO_BLOB, Digest, JsonValue, Name, Uid, UtcTime, metadata, uid_pk

STEP_NAME_CHARS_MAX = 512

pipeline_run = Table(
    "pipeline_run",
    metadata,
    Column("run", String(32), primary_key=True),
    Column("project", Name, nullable=False),
    Column("pipeline", Name, nullable=False),
    Column("state", String(16), nullable=False),
    Column("driver", String(256), nullable=False),
    Column("directory", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("lease_until", UtcTime, nullable=False),
    Column("cancelled_by", Name),
    Column("plan", JsonValue, nullable=False),
    Index("ix_pipeline_run_state", "project", "state"),
    Index("ix_pipeline_run_pipeline", "project", "pipeline", "run"),
)

pipeline_step = Table(
    "pipeline_step",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("run", String(32), nullable=False),
    Column("pipeline", Name, nullable=False),
    Column("name", String(STEP_NAME_CHARS_MAX), nullable=False),
    Column("position", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("key", Digest, info=NAMES_NO_BLOB),
    Column("material", JsonValue),
    Column("outputs", JsonValue, nullable=False),
    Column("cached_from", String(32)),
    Column("attempts", Integer, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("reason", Text, nullable=False),
    Column("needs", JsonValue, nullable=False),
    Column("error", JsonValue),
    Index("ix_pipeline_step_run", "project", "run", "position"),
    Index("ix_pipeline_step_pipeline", "project", "pipeline", "uid"),
)

step_cache = Table(
    "step_cache",
    metadata,
    Column("project", Name, nullable=False),
    Column("key", Digest, nullable=False, info=NAMES_NO_BLOB),
    Column("outputs", JsonValue, nullable=False),
    Column("run", String(32), nullable=False),
    Column("step", Uid, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("used_at", UtcTime, nullable=False),
    Column("seconds", Float, nullable=False),
    PrimaryKeyConstraint("project", "key"),
)

pipeline_output = Table(
    "pipeline_output",
    metadata,
    uid_pk(),
    Column("run", String(32), nullable=False),
    Column("step", Uid, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("text", Text, nullable=False),
    Index("ix_pipeline_output_step", "run", "step", "uid"),
)

pipeline_approval = Table(
    "pipeline_approval",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("run", String(32), nullable=False),
    Column("pipeline", Name, nullable=False),
    Column("step", String(STEP_NAME_CHARS_MAX), nullable=False),
    Column("question", Text, nullable=False),
    Column("role", String(32), nullable=False),
    Column("others", Boolean, nullable=False),
    Column("material", Digest, nullable=False, info=NAMES_NO_BLOB),
    Column("shown", JsonValue, nullable=False, info=NAMES_NO_BLOB),
    Column("asked_by", Name, nullable=False),
    Column("asked_by_uid", String(64), nullable=False),
    Column("asked_at", UtcTime, nullable=False),
    Column("approved", Boolean),
    Column("answered_by", Name),
    Column("answered_at", UtcTime),
    Column("reason", Text, nullable=False),
    UniqueConstraint("run", "step", "material"),
    Index("ix_pipeline_approval_open", "project", "answered_at"),
)
