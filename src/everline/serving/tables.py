"""Columns of this slice."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
)

from everline.storage.schema import (
    NAMES_BLOB,
    NAMES_MANIFEST,
    NAMES_NO_BLOB,
    BigId,
    Digest,
    JsonValue,
    Name,
    Uid,
    UtcTime,
    id_pk,
    metadata,
    uid_pk,
)

endpoint = Table(
    "endpoint",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("name", Name, nullable=False),
    Column("guard", String(16), nullable=False),
    Column("access", String(16), nullable=False, server_default="open"),
    Column("log_share", Float, nullable=False, server_default="1"),
    Column("durability_s", Float, nullable=False, server_default="0"),
    Column("warm", Uid),  # the revision that a rollback would go back to: loaded, without traffic
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Name, nullable=False),
    UniqueConstraint("project", "name"),
)

revision = Table(
    "revision",
    metadata,
    uid_pk(),
    Column("endpoint", Uid, ForeignKey("endpoint.uid"), nullable=False),
    Column("release", Uid, nullable=False, unique=True),
    Column("model", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("model_version", Uid, nullable=False),
    Column("package", Digest, nullable=False, info=NAMES_MANIFEST),
    Column("signature", Digest, nullable=False, info=NAMES_BLOB),
    Column("statement", JsonValue, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

endpoint_key = Table(
    "endpoint_key",
    metadata,
    uid_pk(),
    Column("endpoint", Uid, ForeignKey("endpoint.uid"), nullable=False, index=True),
    Column("name", Name, nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("hash", Digest, nullable=False, unique=True, info=NAMES_NO_BLOB),
    Column("requests_per_s", Float),
    Column("requests_per_day", BigInteger),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Name, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
)
"""Whoever may ask an endpoint; the secret is shown once, its hash is kept."""

# The history of who answered which share, and at its open end (`until` is null) the present: one truth for both.
traffic = Table(
    "traffic",
    metadata,
    uid_pk(),
    Column("endpoint", Uid, ForeignKey("endpoint.uid"), nullable=False),
    Column("revision", Uid, ForeignKey("revision.uid"), nullable=False),
    Column("role", String(16), nullable=False),
    Column("share", Float, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("until", UtcTime),
    Index(None, "endpoint", "since"),
)

# One row: a number that grows with every change of routing, so that data planes can ask "anything newer?".
generation = Table(
    "generation",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("number", BigInteger, nullable=False),
)

replica = Table(
    "replica",
    metadata,
    Column("replica", Name, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("body", JsonValue, nullable=False),
)

replica_sample = Table(
    "replica_sample",
    metadata,
    id_pk(),
    Column("at", UtcTime, nullable=False, index=True),
    Column("replica", Name, nullable=False),
    Column("project", Name, nullable=False),
    Column("endpoint", Name, nullable=False),
    Column("revision", Uid, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("p50_ms", Float),
    Column("p95_ms", Float),
    Column("p99_ms", Float),
)

prediction_segment = Table(
    "prediction_segment",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("endpoint", Name, nullable=False),
    Column("digest", Digest, nullable=False, info=NAMES_BLOB),
    Column("shadow", Boolean, nullable=False),  # what shadows said, which nobody was told
    Column("rows", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("first_prediction", Uid, nullable=False),
    Column("last_prediction", Uid, nullable=False),
    Column("at_start", UtcTime, nullable=False),
    Column("at_end", UtcTime, nullable=False),
    Column("event_start", UtcTime, nullable=False),
    Column("event_end", UtcTime, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    UniqueConstraint("project", "endpoint", "digest"),
    Index(None, "project", "endpoint", "last_prediction"),
    Index(None, "project", "endpoint", "event_end"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("project", Name, primary_key=True),
    Column("endpoint", Name, primary_key=True),
    Column("prediction", Uid, primary_key=True),
    Column("outcome", JsonValue, nullable=False, info=NAMES_NO_BLOB),
    Column("event_time", UtcTime),
    Column("at", UtcTime, nullable=False),
    Column("replaced", Integer, nullable=False, server_default="0"),
)
