"""Columns of datasets. Files and profiles are blobs: their digests stand in the version's row."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, String, Table, Text, UniqueConstraint

from everline.storage.schema import (
    NAMES_BLOB,
    NAMES_MANIFEST,
    NAMES_NO_BLOB,
    Digest,
    JsonValue,
    Name,
    Uid,
    UtcTime,
    metadata,
    uid_pk,
)

dataset = Table(
    "dataset",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("name", Name, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("project", "name"),
)

version = Table(
    "dataset_version",
    metadata,
    uid_pk(),
    Column("dataset", Uid, ForeignKey("dataset.uid"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", Digest, nullable=False, info=NAMES_BLOB),
    Column("files_digest", Digest, nullable=False, info=NAMES_MANIFEST),
    Column("table_digest", Digest, nullable=True, info=NAMES_BLOB),
    Column("profile_digest", Digest, nullable=True, info=NAMES_BLOB),
    Column("files", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=True),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Name, nullable=False),
    Column("run", String(32), nullable=True),
    Column("step", Name, nullable=True),
    UniqueConstraint("dataset", "number", name="uq_dataset_version_number"),
    UniqueConstraint("dataset", "digest", name="uq_dataset_version_digest"),
)

contract = Table(
    "dataset_contract",
    metadata,
    Column("dataset", Uid, ForeignKey("dataset.uid"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", Digest, nullable=False, info=NAMES_NO_BLOB),
    Column("body", JsonValue, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Name, nullable=False),
)

label = Table(
    "dataset_label",
    metadata,
    Column("dataset", Uid, ForeignKey("dataset.uid"), primary_key=True),
    Column("label", Name, primary_key=True),
    Column("version", Uid, ForeignKey("dataset_version.uid"), nullable=False, index=True),
)

dataset_tag = Table(
    "dataset_tag",
    metadata,
    Column("dataset", Uid, ForeignKey("dataset.uid"), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("value", Text, nullable=False),
)

version_tag = Table(
    "dataset_version_tag",
    metadata,
    Column("version", Uid, ForeignKey("dataset_version.uid"), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("value", Text, nullable=False),
)
