"""Columns of this slice."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from everline.storage.schema import NAMES_MANIFEST, Digest, JsonValue, Name, Uid, UtcTime, id_pk, metadata, uid_pk

monitor = Table(
    "monitor",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("name", Name, nullable=False),
    Column("endpoint", Name, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("config", JsonValue, nullable=False),
    # What the first window fixed: the features that are watched and the package that the baseline was scored with.
    Column("pinned", JsonValue, nullable=True),
    # Start of the next window to close; null until the endpoint has answered anything.
    Column("next_start", UtcTime, nullable=True),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Name, nullable=False),
    # Empty while it watches; its own uid afterwards, so that its windows and incidents stay and its name is free again.
    Column("retired", String(36), nullable=False, default="", server_default=""),
    UniqueConstraint("project", "name", "retired"),
)

window = Table(
    "monitor_window",
    metadata,
    Column("monitor", Uid, ForeignKey("monitor.uid"), primary_key=True),
    Column("start", UtcTime, primary_key=True),
    Column("until", UtcTime, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("outcomes", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("package", Digest, nullable=True, info=NAMES_MANIFEST),
    Column("closed_at", UtcTime, nullable=False),
)

signal = Table(
    "monitor_signal",
    metadata,
    id_pk(),
    Column("monitor", Uid, ForeignKey("monitor.uid"), nullable=False),
    Column("start", UtcTime, nullable=False),
    Column("feature", Name, nullable=False),
    Column("test", String(32), nullable=False),
    Column("p_value", Float, nullable=False),
    Column("effect", Float, nullable=False),
    Column("value", Float, nullable=True),
    Column("reference_value", Float, nullable=True),
    Column("unit", String(32), nullable=False),
    Column("distance", Float, nullable=False),
    Column("e_value", Float, nullable=False),
    Column("evidence", Float, nullable=False),
    Column("evidence_windows", Integer, nullable=False),
    Column("level", Float, nullable=False),
    Column("drifted", Boolean, nullable=False),
    Column("alarm", Boolean, nullable=False),
    UniqueConstraint("monitor", "feature", "start"),
    Index(None, "monitor", "start"),
)

evidence = Table(
    "monitor_evidence",
    metadata,
    Column("monitor", Uid, ForeignKey("monitor.uid"), primary_key=True),
    Column("feature", Name, primary_key=True),
    Column("value", Float, nullable=False),
    Column("windows", Integer, nullable=False),
)

incident = Table(
    "incident",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    # What found it: a monitor on an endpoint, or a schedule whose runs were missed or fail; never both.
    Column("monitor", Uid, ForeignKey("monitor.uid"), nullable=True),
    Column("endpoint", Name, nullable=True),
    Column("schedule", Uid, nullable=True),
    Column("schedule_name", Name, nullable=True),
    Column("cause", Name, nullable=False),
    # "<monitor or schedule>:<cause>" while open and null afterwards: the database keeps it at one incident per cause.
    Column("open_key", String(400), nullable=True, unique=True),
    Column("status", String(16), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("sentence", Text, nullable=False),
    Column("features", JsonValue, nullable=False),
    Column("diagnosis", JsonValue, nullable=True),
    Column("since", UtcTime, nullable=False),
    Column("window_start", UtcTime, nullable=False),
    Column("last_window", UtcTime, nullable=False),
    Column("windows", Integer, nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("acknowledged_at", UtcTime, nullable=True),
    Column("acknowledged_by", Name, nullable=True),
    Column("resolved_at", UtcTime, nullable=True),
    Column("resolved_by", Name, nullable=True),
    Column("note", Text, nullable=False),
    Column("job", Uid, nullable=True),
    Index(None, "project", "opened_at"),
    Index(None, "schedule", "cause"),
)

alert = Table(
    "alert",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("incident", Uid, ForeignKey("incident.uid"), nullable=False),
    Column("channel", String(32), nullable=False),
    Column("sentence", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index(None, "project", "at"),
)
