"""Evidence: facts about a subject that others push to us, kept as given, named by digest."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Row, insert, select

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_json
from everline.errors import InvalidInputError, TooLargeError
from everline.governance import audit
from everline.governance.schemas import check_body
from everline.governance.tables import evidence as table
from everline.governance.types import Evidence
from everline.ids import check_name, digest_bytes, new_uid

BODY_BYTES_MAX = 1 << 20
LIST_MAX = 1000


@act
def attach(uow: UnitOfWork, *, subject: str, kind: str, body: dict[str, Any], project: str) -> Evidence:
    """Keep a fact about a subject; it is never changed afterwards, only followed by a newer one.

    Args:
        subject: `<kind>:<uid or name>`, such as `model-version:0192…`.
        kind: evaluation, comparison, lineage, signature, reproduction, card, or a name of your own.
        body: a JSON object; the known kinds have a form.

    Raises:
        InvalidInputError: the body has no JSON form, or not that of its kind.
        TooLargeError: the body passes the limit.
    """
    uow.require(Permission.EVIDENCE_WRITE, project)
    check_name(kind, field="kind")
    check_subject(subject)
    body = msgspec.to_builtins(body)
    check_body(kind, body)
    encoded = canonical_json(body)
    if len(encoded) > BODY_BYTES_MAX:
        raise TooLargeError(
            f"The evidence has {len(encoded)} bytes; {BODY_BYTES_MAX} are allowed.",
            hint="Store the details as a blob and put their digest into the evidence.",
            field="body",
        )
    uid, digest = new_uid(), digest_bytes(encoded)
    row: dict[str, Any] = {
        "uid": uid,
        "project": project,
        "subject": subject,
        "kind": kind,
        "body": body,
        "digest": digest,
        "at": uow.clock.now(),
        "actor": uow.actor.uid,
        "actor_name": uow.actor.name,
    }
    uow.conn.execute(insert(table).values(row))
    audit.record(uow, "evidence.attach", subject=subject, project=project, evidence=uid, kind=kind, digest=digest)
    return Evidence(**row)


@read
def list_evidence(
    uow: UnitOfWork, *, subject: str, project: str, kind: str | None = None, limit: int = LIST_MAX
) -> list[Evidence]:
    """List what is known about a subject, the newest first."""
    uow.require(Permission.EVIDENCE_READ, project)
    query = select(table).where(table.c.subject == subject, table.c.project == project)
    if kind is not None:
        query = query.where(table.c.kind == kind)
    # Uids are ordered in time also within a microsecond, and a clock may step back: they decide.
    rows = uow.conn.execute(query.order_by(table.c.uid.desc()).limit(min(limit, LIST_MAX)))
    return [_evidence(row) for row in rows]


def check_subject(subject: str) -> None:
    """Refuse a subject that is not `<kind>:<identifier>`."""
    kind, _, name = subject.partition(":")
    if not kind or not name or len(subject) > 320 or not subject.isprintable():
        raise InvalidInputError(
            f"The subject {subject[:80]!r} cannot be read.", hint="Write it like model-version:0192….", field="subject"
        )


def _evidence(row: Row[Any]) -> Evidence:
    return Evidence(**row._mapping)
