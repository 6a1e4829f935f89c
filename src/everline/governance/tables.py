"""Columns of the audit log, evidence, policies and approvals."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, Text, UniqueConstraint

from everline.storage.schema import NAMES_BLOB, NAMES_NO_BLOB, Digest, JsonValue, Name, Uid, UtcTime, metadata, uid_pk

audit_event = Table(
    "audit_event",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    # The leaf is the truth; the columns after it repeat parts of it, to search by.
    Column("leaf", Text, nullable=False, info=NAMES_NO_BLOB),
    Column("hash", LargeBinary(32), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", Uid, nullable=False),
    Column("actor_name", Name, nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(320), nullable=False),
    Column("project", Name, nullable=False),
    Index(None, "subject"),
    Index(None, "actor"),
    Index(None, "action"),
    Index(None, "project"),
    Index(None, "at"),
)
"""One row per event: level 0 of the Merkle tree."""

audit_node = Table(
    "audit_node",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
)
"""Complete subtrees of level 1 and above; written once, never changed."""

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("peaks", LargeBinary, nullable=False),
)
"""One row: where the tree stands. Its lock puts writers in line."""

audit_checkpoint = Table(
    "audit_checkpoint",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("note", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
)
"""Signed roots."""

evidence = Table(
    "evidence",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("subject", String(320), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("body", JsonValue, nullable=False),
    Column("digest", Digest, nullable=False, info=NAMES_NO_BLOB),
    Column("at", UtcTime, nullable=False),
    Column("actor", Uid, nullable=False),
    Column("actor_name", Name, nullable=False),
    Index(None, "subject", "kind"),
)

policy = Table(
    "policy",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("name", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("action", String(64), nullable=False),
    Column("source", Text, nullable=False),
    Column("digest", Digest, nullable=False, info=NAMES_NO_BLOB),
    Column("at", UtcTime, nullable=False),
    Column("actor", Uid, nullable=False),
    Column("actor_name", Name, nullable=False),
    UniqueConstraint("project", "name", "version"),
)
"""Every version of every policy, as it was written; never changed."""

policy_activation = Table(
    "policy_activation",
    metadata,
    Column("project", Name, primary_key=True),
    Column("name", Name, primary_key=True),
    Column("version", Integer, nullable=True),
    Column("at", UtcTime, nullable=False),
)
"""Which version is in force; no version means that the policy was switched off."""

approval = Table(
    "approval",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("subject", String(320), nullable=False),
    Column("digest", Digest, nullable=False, info=NAMES_NO_BLOB),
    Column("decision", String(16), nullable=False),
    Column("meaning", String(64), nullable=False),
    Column("reason", String(4000), nullable=False),
    Column("person", Uid, nullable=False),
    Column("person_name", Name, nullable=False),
    Column("roles", JsonValue, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("statement", Digest, nullable=False, info=NAMES_BLOB),
    UniqueConstraint("subject", "digest", "person"),
)
"""A person's yes or no to exactly one digest."""

policy_proposal = Table(
    "policy_proposal",
    metadata,
    Column("project", Name, primary_key=True),
    Column("name", Name, primary_key=True),
    Column("version", Integer, nullable=True),
    Column("reason", String(4000), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", Uid, nullable=False),
    Column("actor_name", Name, nullable=False),
)
"""A change of what is in force that waits for a second person; no version means out of force."""

waiver = Table(
    "waiver",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("subject", String(320), nullable=False),
    Column("digest", Digest, nullable=False, info=NAMES_NO_BLOB),
    Column("policy", Name, nullable=False),
    Column("rule", Name, nullable=False),
    Column("reason", String(4000), nullable=False),
    Column("owner", Name, nullable=False),
    Column("person", Uid, nullable=False),
    Column("person_name", Name, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("statement", Digest, nullable=False, info=NAMES_BLOB),
    Column("revoked_at", UtcTime, nullable=True),
    Column("revoked_by", Name, nullable=True),
    Index(None, "subject", "digest"),
)
"""A rule set aside for exactly one digest, until a time."""
