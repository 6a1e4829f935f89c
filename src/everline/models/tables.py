"""Columns of the model registry."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from everline.runs.tables import ArtifactPath
from everline.storage.schema import (
    NAMES_BLOB,
    NAMES_MANIFEST,
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

Key = String(250)
Alias = String(255)

model = Table(
    "model",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("name", Name, nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("latest_version", Integer, nullable=False, default=0),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    # Empty while the model lives, then its uid: a name may be used again, and what it meant before stays known.
    Column("retired", Uid, nullable=False, default=""),
    UniqueConstraint("project", "name", "retired"),
)

model_tag = Table(
    "model_tag",
    metadata,
    Column("model", Uid, ForeignKey("model.uid"), primary_key=True),
    Column("key", Key, primary_key=True),
    Column("value", Text, nullable=False),
)

model_version = Table(
    "model_version",
    metadata,
    uid_pk(),
    Column("model", Uid, ForeignKey("model.uid"), nullable=False),
    Column("project", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("package", Digest, nullable=True, info=NAMES_MANIFEST),
    Column("signature", Digest, nullable=True, info=NAMES_BLOB),
    Column("model_signature", JsonValue, nullable=True),
    Column("run", String(256), nullable=True),
    Column("run_link", String(500), nullable=False, default=""),
    Column("source", Text, nullable=True),
    # Where the files of `source` were when the version was made, if that says it only by way of another version.
    Column("storage", Text, nullable=True),
    # The logged model that it was registered from, and the digest of the list of files that lay there.
    Column("logged_model", String(34), nullable=True),
    Column("contents", Digest, nullable=True, info=NAMES_BLOB),
    Column("author", Uid, nullable=False),
    Column("author_name", Name, nullable=False),
    Column("status", String(16), nullable=False),
    Column("stage", String(16), nullable=False, default="None"),
    Column("description", Text, nullable=False, default=""),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("deleted", Boolean, nullable=False, default=False),
    UniqueConstraint("model", "version"),
    Index(None, "project", "updated_at"),
    Index(None, "run"),
    Index(None, "package"),
)

model_version_tag = Table(
    "model_version_tag",
    metadata,
    Column("model_version", Uid, ForeignKey("model_version.uid"), primary_key=True),
    Column("key", Key, primary_key=True),
    Column("value", Text, nullable=False),
)

# The files of a version without a package, as they were when it was registered.
model_version_file = Table(
    "model_version_file",
    metadata,
    Column("model_version", Uid, ForeignKey("model_version.uid"), primary_key=True),
    Column("path", ArtifactPath, primary_key=True),
    Column("digest", Digest, nullable=False, info=NAMES_BLOB),
    Column("bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

model_alias = Table(
    "model_alias",
    metadata,
    Column("model", Uid, ForeignKey("model.uid"), primary_key=True),
    Column("alias", Alias, primary_key=True),
    Column("version", Integer, nullable=False),
)

# The history of the above: one row whenever an alias came to point elsewhere, with no version when to nothing.
alias_move = Table(
    "alias_move",
    metadata,
    uid_pk(),
    Column("model", Uid, ForeignKey("model.uid"), nullable=False),
    Column("alias", Alias, nullable=False),
    Column("version", Integer, nullable=True),
    Column("at", UtcTime, nullable=False),
    Column("actor", Name, nullable=False),
    Column("actor_name", Name, nullable=False),
    Column("release", Uid, nullable=True),
    Index(None, "model", "alias", "at"),
)

# Aliases that releases move instead of people.
alias_follow = Table(
    "alias_follow",
    metadata,
    Column("model", Uid, ForeignKey("model.uid"), primary_key=True),
    Column("alias", Alias, primary_key=True),
    Column("project", Name, nullable=False),
    Column("endpoint", Name, nullable=False),
    Index(None, "project", "endpoint"),
)

logged_model = Table(
    "logged_model",
    metadata,
    id_pk(),
    Column("uid", String(34), nullable=False, unique=True),
    Column("project", Name, nullable=False),
    Column("experiment", BigId, ForeignKey("experiment.id"), nullable=False),
    Column("name", String(500), nullable=False),
    Column("status", String(16), nullable=False),
    Column("model_type", String(500), nullable=False, default=""),
    # What a client says, as in MLflow: the run may be one of another server.
    Column("source_run", String(256), nullable=False, default=""),
    Column("artifact_uri", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("deleted", Boolean, nullable=False, default=False),
    Index(None, "experiment", "deleted", "created_ms"),
    Index(None, "source_run"),
)

logged_model_param = Table(
    "logged_model_param",
    metadata,
    Column("logged_model", BigId, ForeignKey("logged_model.id"), primary_key=True, autoincrement=False),
    Column("key", String(255), primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

logged_model_tag = Table(
    "logged_model_tag",
    metadata,
    Column("logged_model", BigId, ForeignKey("logged_model.id"), primary_key=True, autoincrement=False),
    Column("key", String(255), primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

# Beside the run's own history, not instead of it: what a model was measured at is asked for by model.
logged_model_metric = Table(
    "logged_model_metric",
    metadata,
    Column("logged_model", BigId, ForeignKey("logged_model.id"), primary_key=True, autoincrement=False),
    Column("key", BigId, ForeignKey("metric_key.id"), primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("run", BigId, ForeignKey("run.id"), primary_key=True, autoincrement=False),
    Column("value", Double, nullable=False),
    Column("is_nan", Boolean, nullable=False),
    Column("dataset_name", String(500), nullable=True),
    Column("dataset_digest", String(128), nullable=True),
    sqlite_with_rowid=False,
)
