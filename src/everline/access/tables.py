"""Columns of users, tokens, sessions, projects and role grants."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, LargeBinary, String, Table, UniqueConstraint

from everline.storage.schema import Name, Uid, UtcTime, metadata, uid_pk

project = Table(
    "project",
    metadata,
    uid_pk(),
    Column("name", Name, nullable=False, unique=True),
    Column("description", String(2000), nullable=False, default=""),
    Column("created_at", UtcTime, nullable=False),
)

user = Table(
    "access_user",
    metadata,
    uid_pk(),
    Column("name", Name, nullable=False, unique=True),
    Column("full_name", String(256), nullable=False, default=""),
    Column("password", String(256), nullable=True),
    Column("active", Boolean, nullable=False, default=True),
    Column("created_at", UtcTime, nullable=False),
)

role_grant = Table(
    "access_role_grant",
    metadata,
    uid_pk(),
    Column("user", Uid, ForeignKey("access_user.uid"), nullable=False),
    Column("project", Name, nullable=False),
    Column("role", String(32), nullable=False),
    Column("granted_at", UtcTime, nullable=False),
    UniqueConstraint("user", "project", "role"),
)

token = Table(
    "access_token",
    metadata,
    uid_pk(),
    Column("user", Uid, ForeignKey("access_user.uid"), nullable=False),
    Column("name", Name, nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=True),
    Column("revoked_at", UtcTime, nullable=True),
    Column("last_used_at", UtcTime, nullable=True),
    Index(None, "user"),
)

session = Table(
    "access_session",
    metadata,
    uid_pk(),
    Column("user", Uid, ForeignKey("access_user.uid"), nullable=False),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
)
