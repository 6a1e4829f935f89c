"""Columns of this slice."""

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, Text

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

release = Table(
    "release",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("endpoint", Name, nullable=False),
    Column("model", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("model_version", Uid, nullable=False),
    Column("package", Digest, nullable=False, info=NAMES_MANIFEST),
    Column("signature", Digest, nullable=False, info=NAMES_BLOB),
    Column("author", Name, nullable=False),
    Column("author_name", Name, nullable=False),
    Column("created_by", Name, nullable=False),
    Column("created_by_name", Name, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("plan", JsonValue, nullable=False),
    Column("digest", Digest, nullable=False, info=NAMES_NO_BLOB),  # of all of the above: what an approval is bound to
    Column("state", String(32), nullable=False),
    Column("champion", JsonValue),  # what answered when the release was last checked
    Column("revision", Uid),  # what serves it, from its first traffic on
    Column("previous", Uid),  # the revision that this one replaced when it was promoted
    Column("updated_at", UtcTime, nullable=False),
    Index(None, "project", "endpoint", "state"),
)

rollout_plan = Table(
    "rollout_plan",
    metadata,
    Column("project", Name, primary_key=True),
    Column("endpoint", Name, primary_key=True),
    Column("plan", JsonValue, nullable=False),
    Column("at", UtcTime, nullable=False),
)
"""How releases to an endpoint are rolled out when their opener says nothing else."""

rollout = Table(
    "rollout",
    metadata,
    Column("release", Uid, ForeignKey("release.uid"), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("step", Integer, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("next_look", UtcTime, nullable=False, index=True),
    Column("looked_at", UtcTime),
    Column("readings", JsonValue, nullable=False),
    Column("counters", JsonValue, nullable=False, info=NAMES_NO_BLOB),
    Column("problem", Text, nullable=False),
)
"""How far the canary of a release with steps or guards has come."""

release_check = Table(
    "release_check",
    metadata,
    uid_pk(),
    Column("release", Uid, ForeignKey("release.uid"), nullable=False, index=True),
    Column("at", UtcTime, nullable=False),
    Column("by_name", Name, nullable=False),
    Column("gate", String(32), nullable=False),
    Column("verdicts", JsonValue, nullable=False),
    Column("evidence", JsonValue, nullable=False),
    Column("champion", JsonValue),
    Column("change", JsonValue),
)

release_review = Table(
    "release_review",
    metadata,
    uid_pk(),
    Column("project", Name, nullable=False),
    Column("endpoint", Name, nullable=False),
    Column("release", Uid, ForeignKey("release.uid"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("opened_by", Uid, nullable=False),
    Column("opened_by_name", Name, nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("closed_by", Uid),
    Column("closed_by_name", Name),
    Column("closed_at", UtcTime),
    Column("finding", Text),
    Index(None, "project", "endpoint", "closed_at"),
)
"""What was opened when somebody broke the glass; nothing else is released to the endpoint until it is closed."""

release_transition = Table(
    "release_transition",
    metadata,
    uid_pk(),
    Column("release", Uid, ForeignKey("release.uid"), nullable=False, index=True),
    Column("at", UtcTime, nullable=False),
    Column("actor", Name, nullable=False),
    Column("actor_name", Name, nullable=False),
    Column("move", String(32), nullable=False),
    Column("before", String(32), nullable=False),
    Column("after", String(32), nullable=False),
    Column("reason", Text, nullable=False),
)
