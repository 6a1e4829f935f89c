"""Approvals: a person's yes or no to exactly one digest, signed, given once, and never by the author.

The rules that hold here:
    1. An approval names the digest of what was approved: one changed byte, and it belongs to something else.
    2. Four eyes: the author's own word is refused, not merely ignored.
    3. One person decides once on one digest.
    4. The server signs what the person said (in-toto statement in DSSE) with its key; a row in the database that
       says otherwise is found when it is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_json
from everline.clock import rfc3339
from everline.errors import ConflictError, ForbiddenError, IntegrityError, InvalidInputError
from everline.governance import audit
from everline.governance.evidence import check_subject
from everline.governance.signing import dsse_sign, dsse_verify, server_key, server_keys
from everline.governance.tables import approval as table
from everline.governance.types import Approval
from everline.ids import check_digest, new_uid

DECISIONS = ("approve", "reject")
MEANINGS = ("author", "reviewer", "validator", "owner")
REASON_CHARS_MAX = 4000
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:everline:approval:v1"


@act
def record(
    uow: UnitOfWork,
    *,
    subject: str,
    project: str,
    digest: str,
    decision: str,
    author: str | Sequence[str],
    meaning: str = "reviewer",
    reason: str = "",
) -> Approval:
    """Record the acting person's decision on exactly this content.

    Args:
        subject: what is decided on, `release:<uid>`.
        digest: of its content; the decision holds for nothing else.
        decision: approve or reject.
        author: uids of the people who made it, whose approval does not count.
        meaning: in which capacity: reviewer, validator, owner (or author, which never counts).
        reason: why; needed to reject.

    Raises:
        ForbiddenError: the person is an author, or may not approve.
        ConflictError: the person has decided on this digest already.
    """
    uow.require(Permission.RELEASE_APPROVE, project)
    check_subject(subject)
    check_digest(digest)
    _check(decision, meaning, reason)
    _require_other_eyes(uow, [author] if isinstance(author, str) else author, subject, decision)
    _require_first(uow, subject, digest)
    at = uow.clock.now()
    roles = sorted(role.value for role in uow.actor.roles_in(project))
    said = {
        "decision": decision,
        "meaning": meaning,
        "reason": reason,
        "project": project,
        "at": rfc3339(at),
        "person": {"uid": uow.actor.uid, "name": uow.actor.name, "roles": roles},
    }
    envelope = dsse_sign(server_key(uow.settings), PAYLOAD_TYPE, canonical_json(_statement(subject, digest, said)))
    row: dict[str, Any] = {
        "uid": new_uid(),
        "project": project,
        "subject": subject,
        "digest": digest,
        "decision": decision,
        "meaning": meaning,
        "reason": reason,
        "person": uow.actor.uid,
        "person_name": uow.actor.name,
        "roles": roles,
        "at": at,
        "statement": uow.blobs.put_bytes(canonical_json(envelope)),
    }
    uow.conn.execute(insert(table).values(row))
    audit.record(
        uow,
        f"approval.{decision}",
        subject=subject,
        project=project,
        approval=row["uid"],
        digest=digest,
        meaning=meaning,
        reason=reason,
        roles=roles,
        statement=row["statement"],
    )
    return Approval(**row)


@read
def list_approvals(uow: UnitOfWork, *, subject: str, project: str, digest: str | None = None) -> list[Approval]:
    """List the decisions on a subject, the oldest first; with a digest, only those bound to it."""
    uow.require(Permission.RELEASE_READ, project)
    query = select(table).where(table.c.subject == subject, table.c.project == project).order_by(table.c.uid)
    if digest is not None:
        query = query.where(table.c.digest == digest)
    return [_approval(row) for row in uow.conn.execute(query)]


def verify_statement(uow: UnitOfWork, approval: Approval) -> None:
    """Hold a stored approval against what was signed.

    Raises:
        IntegrityError: the statement is not signed by this server, or says something else than the row.
    """
    envelope = msgspec.json.decode(uow.blobs.get_bytes(approval.statement))
    payload = dsse_verify(envelope, server_keys(uow.settings), payload_type=PAYLOAD_TYPE)
    said = {
        "decision": approval.decision,
        "meaning": approval.meaning,
        "reason": approval.reason,
        "project": approval.project,
        "at": rfc3339(approval.at),
        "person": {"uid": approval.person, "name": approval.person_name, "roles": approval.roles},
    }
    if payload != canonical_json(_statement(approval.subject, approval.digest, said)):
        raise IntegrityError(
            f"The approval {approval.uid} by {approval.person_name} is not what was signed: it was altered in the "
            "database, or moved here from another release.",
            hint="`everline audit log` has the event of the real one; restore the database from a backup.",
        )


def _statement(subject: str, digest: str, said: dict[str, Any]) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": subject, "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": said,
    }


def _check(decision: str, meaning: str, reason: str) -> None:
    if decision not in DECISIONS:
        raise InvalidInputError(f"A decision is approve or reject, not {decision!r}.", field="decision")
    if meaning not in MEANINGS:
        raise InvalidInputError(f"The meaning is one of {', '.join(MEANINGS)}, not {meaning!r}.", field="meaning")
    if len(reason) > REASON_CHARS_MAX:
        raise InvalidInputError(f"The reason is longer than {REASON_CHARS_MAX} characters.", field="reason")
    if decision == "reject" and not reason.strip():
        raise InvalidInputError("A rejection needs a reason.", hint="Say what is to be mended.", field="reason")


def _require_other_eyes(uow: UnitOfWork, authors: Sequence[str], subject: str, decision: str) -> None:
    if uow.actor.uid in authors and decision == "approve":
        raise ForbiddenError(
            f"{uow.actor.name} is an author of {subject} and cannot approve it: four eyes are needed, and these "
            "would be the same two.",
            hint="Ask another person with the role approver.",
        )


def _require_first(uow: UnitOfWork, subject: str, digest: str) -> None:
    given = uow.conn.execute(
        select(table.c.decision, table.c.at).where(
            table.c.subject == subject, table.c.digest == digest, table.c.person == uow.actor.uid
        )
    ).first()
    if given is not None:
        raise ConflictError(
            f"{uow.actor.name} has decided on this already: {given.decision} at {rfc3339(given.at)}.",
            hint="A decision stands; open a new release to decide anew.",
        )


def _approval(row: Row[Any]) -> Approval:
    return Approval(**row._mapping)
