"""Columns of this slice: the steps of runs, and the results that are kept for reuse."""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Integer, PrimaryKeyConstraint, String, Table, Text

from everline.storage.schema import NAMES_NO_BLOB, Digest, JsonValue, Name, Uid, UtcTime, metadata, uid_pk

pipeline_step = Table(
    "pipeline_step",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("run", String(32), nullable=False),
    Column("pipeline", Name, nullable=False),
    Column("name", Name, nullable=False),
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
    Column("seconds", Float, nullable=False),
    PrimaryKeyConstraint("project", "key"),
)
