"""Columns of experiments, runs and everything that is logged to them.

Built for many metrics: rows are narrow (two integers, a double, a step, a time), keys are interned in
`metric_key`, and the newest value of each metric is kept beside the history, so that a search never reads
the history. The primary key of `metric` is MLflow's own rule for duplicates and, in that order, the order
in which a history is read; on SQLite the table is its index (no rowid).
Times are whole milliseconds, as MLflow clients send them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
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

HEAD_CHARACTERS = 64
"""How much of a parameter's or tag's value is in an index; PostgreSQL refuses long ones there."""


def _head() -> Column[str]:
    """The beginning of a value, kept by the database itself."""
    return Column("head", String(HEAD_CHARACTERS), Computed(f"substr(value, 1, {HEAD_CHARACTERS})", persisted=True))


RunUid = String(32)
Key = String(250)
# Ordered by code point on PostgreSQL too, whatever its locale: folders are ranges of paths.
ArtifactPath = String(1024).with_variant(String(1024, collation="C"), "postgresql")

experiment = Table(
    "experiment",
    metadata,
    id_pk(),
    Column("project", Name, nullable=False),
    Column("name", String(500), nullable=False),
    Column("artifact_location", Text, nullable=False, default=""),
    Column("deleted", Boolean, nullable=False, default=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    UniqueConstraint("project", "name"),
)

experiment_tag = Table(
    "experiment_tag",
    metadata,
    Column("experiment", BigId, ForeignKey("experiment.id"), primary_key=True, autoincrement=False),
    Column("key", Key, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

run = Table(
    "run",
    metadata,
    id_pk(),
    Column("uid", RunUid, nullable=False, unique=True),
    Column("experiment", BigId, ForeignKey("experiment.id"), nullable=False),
    Column("project", Name, nullable=False),
    Column("name", String(8000), nullable=False),
    Column("status", String(16), nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=True),
    Column("deleted", Boolean, nullable=False, default=False),
    Column("deleted_ms", BigInteger, nullable=True),
    Column("user_name", String(256), nullable=False, default=""),
    Column("author", Uid, nullable=False),
    Column("artifact_uri", Text, nullable=False),
    Column("pipeline", String(512), nullable=True),
    Column("record", Digest, nullable=True, info=NAMES_MANIFEST),
    Column("summary", JsonValue, nullable=True),
    Index(None, "experiment", "deleted", "started_ms"),
    Index(None, "project", "started_ms"),
    Index(None, "project", "pipeline"),
)

metric_key = Table(
    "metric_key",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("name", Key, nullable=False, unique=True),
)

metric = Table(
    "metric",
    metadata,
    # No foreign keys: whoever adds a point adds its row of `latest_metric` in the same transaction, whose foreign
    # keys say the same once a metric instead of once a point.
    Column("run", BigId, primary_key=True, autoincrement=False),
    Column("key", BigId, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Double, primary_key=True, autoincrement=False),
    Column("is_nan", Boolean, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

latest_metric = Table(
    "latest_metric",
    metadata,
    Column("run", BigId, ForeignKey("run.id"), primary_key=True, autoincrement=False),
    Column("key", BigId, ForeignKey("metric_key.id"), primary_key=True, autoincrement=False),
    Column("value", Double, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("is_nan", Boolean, nullable=False),
    Index(None, "key", "is_nan", "value"),
    sqlite_with_rowid=False,
)

run_stream = Table(
    "run_stream",
    metadata,
    Column("run", BigId, ForeignKey("run.id"), primary_key=True, autoincrement=False),
    Column("stream", RunUid, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

run_param = Table(
    "run_param",
    metadata,
    Column("run", BigId, ForeignKey("run.id"), primary_key=True, autoincrement=False),
    Column("key", Key, primary_key=True),
    Column("value", Text, nullable=False),
    _head(),
    Index(None, "key", "head"),
    sqlite_with_rowid=False,
)

run_tag = Table(
    "run_tag",
    metadata,
    Column("run", BigId, ForeignKey("run.id"), primary_key=True, autoincrement=False),
    Column("key", Key, primary_key=True),
    Column("value", Text, nullable=False),
    _head(),
    Index(None, "key", "head"),
    sqlite_with_rowid=False,
)

run_input = Table(
    "run_input",
    metadata,
    Column("run", BigId, ForeignKey("run.id"), primary_key=True, autoincrement=False),
    Column("name", String(500), primary_key=True),
    Column("digest", String(128), primary_key=True),
    Column("version", Integer, nullable=True),
    Column("context", String(500), nullable=False, default=""),
    Column("source_type", String(64), nullable=False, default=""),
    Column("source", Text, nullable=False, default=""),
    Column("schema", Text, nullable=True),
    Column("profile", Text, nullable=True),
    Column("tags", JsonValue, nullable=True),
    Index(None, "digest"),
)

run_output = Table(
    "run_output",
    metadata,
    Column("run", BigId, ForeignKey("run.id"), primary_key=True, autoincrement=False),
    Column("name", String(500), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("digest", String(128), nullable=False),
    Column("facts", JsonValue, nullable=True),
    Index(None, "digest"),
)

artifact = Table(
    "run_artifact",
    metadata,
    Column("project", Name, primary_key=True),
    Column("path", ArtifactPath, primary_key=True),
    Column("digest", Digest, nullable=False, info=NAMES_BLOB),
    Column("bytes", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

saved_view = Table(
    "saved_view",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    # Whose it is: the uid of an actor, or empty for everybody in the project.
    Column("owner", Uid, nullable=False),
    Column("name", String(200), nullable=False),
    Column("query", Text, nullable=False),
    Column("author", Uid, nullable=False),
    Column("author_name", String(256), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    UniqueConstraint("project", "owner", "name"),
)

artifact_upload = Table(
    "run_artifact_upload",
    metadata,
    Column("uid", Uid, primary_key=True),
    Column("project", Name, nullable=False),
    Column("path", ArtifactPath, nullable=False),
    Column("secret", Digest, nullable=False, info=NAMES_NO_BLOB),
    Column("parts", Integer, nullable=False),
    # The whole, once it was put together; the row stays a while, so that asking again is no error.
    Column("digest", Digest, nullable=True, info=NAMES_BLOB),
    Column("at_ms", BigInteger, nullable=False, index=True),
)
