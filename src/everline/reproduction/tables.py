"""Columns of certificates; the signed envelopes are blobs."""

from __future__ import annotations

from sqlalchemy import Column, Index, String, Table

from everline.storage.schema import NAMES_BLOB, Digest, Name, UtcTime, metadata, uid_pk

certificate = Table(
    "reproduction_certificate",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("subject", Name, nullable=False),
    Column("level", String(2), nullable=True),
    Column("verdict", String(32), nullable=False),
    Column("digest", Digest, nullable=False, info=NAMES_BLOB),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Name, nullable=False),
    Index("ix_reproduction_certificate_subject", "project", "subject"),
)
