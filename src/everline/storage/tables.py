"""Where blobs lie that are not files of their own: packs, what is in them, and what is about to be removed."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table

from everline.storage.schema import NAMES_NO_BLOB, Digest, Uid, UtcTime, metadata

pack = Table(
    "blob_pack",
    metadata,
    Column("uid", Uid, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("left_at", UtcTime, nullable=True),  # since when nothing in it is looked for here
)

piece = Table(
    "blob_piece",
    metadata,
    Column("digest", Digest, primary_key=True, info=NAMES_NO_BLOB),
    Column("pack", Uid, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Index("ix_blob_piece_pack", "pack"),
)

pieced = Table(
    "blob_pieced",
    metadata,
    Column("digest", Digest, primary_key=True, info=NAMES_NO_BLOB),
    Column("bytes", BigInteger, nullable=False),
    Column("recipe", Digest, nullable=False, info=NAMES_NO_BLOB),
    Column("pack", Uid, nullable=True),  # that is this blob, byte for byte
)

condemned = Table(
    "blob_condemned",
    metadata,
    Column("digest", Digest, primary_key=True, info=NAMES_NO_BLOB),
    Column("at", UtcTime, nullable=False),
)
