"""Waivers: a rule set aside for exactly one release, by a person, for a reason, until a time.

The rules that hold here:
    1. A waiver names the digest of the release and one rule of one policy; it lets nothing else pass.
    2. It has an owner, who answers for mending what the rule asks for, and it expires: within `DAYS_MAX` days.
    3. Four eyes: who made the version or opened the release cannot set a rule aside for it.
    4. The verdict keeps its outcome; the waiver stands beside it, signed as an approval is.
    5. Approvals are never waived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_json
from everline.clock import rfc3339
from everline.errors import ConflictError, ForbiddenError, IntegrityError, InvalidInputError, NotFoundError
from everline.governance import audit
from everline.governance.evidence import check_subject
from everline.governance.signing import dsse_sign, dsse_verify, server_key, server_keys
from everline.governance.tables import waiver as table
from everline.governance.types import RuleVerdict, Waived, Waiver
from everline.ids import check_digest, check_name, new_uid

DAYS_MAX = 90
REASON_CHARS_MAX = 4000
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:everline:waiver:v1"
_SAID = ("policy", "rule", "reason", "owner", "project")


@act
def grant(
    uow: UnitOfWork,
    *,
    subject: str,
    project: str,
    digest: str,
    policy: str,
    rule: str,
    reason: str,
    expires_at: datetime,
    author: Sequence[str],
    owner: str = "",
) -> Waiver:
    """Set a rule aside for exactly this content.

    Args:
        subject: what is let through, `release:<uid>`; `digest` of its content.
        expires_at: until when it counts, at most 90 days ahead.
        author: uids of the people who made it, who cannot waive.
        owner: name of who answers for it; whoever grants it, if empty.

    Raises:
        ForbiddenError: the person is an author, or may not approve.
        InvalidInputError: no reason, or an expiry that is past or too far.
        ConflictError: the rule is waived for this content already.
    """
    uow.require(Permission.RELEASE_APPROVE, project)
    check_subject(subject)
    check_digest(digest)
    check_name(policy, field="policy")
    check_name(rule, field="rule")
    if uow.actor.uid in author:
        raise ForbiddenError(
            f"{uow.actor.name} is an author of {subject} and cannot set a rule aside for it: four eyes are needed.",
            hint="Ask another person with the role approver.",
        )
    now = uow.clock.now()
    _check(reason, expires_at, now)
    for one in list_waivers(uow, subject=subject, project=project, digest=digest):
        if (one.policy, one.rule) == (policy, rule) and one.revoked_at is None and one.expires_at > now:
            raise ConflictError(
                f"The rule {rule!r} is waived already, until {rfc3339(one.expires_at)}.",
                hint=f"Revoke that one first: {one.uid}.",
            )
    row: dict[str, Any] = {
        "uid": new_uid(), "project": project, "subject": subject, "digest": digest, "policy": policy, "rule": rule,
        "reason": reason.strip(), "owner": owner or uow.actor.name, "person": uow.actor.uid,
        "person_name": uow.actor.name, "at": now, "expires_at": expires_at,
    }  # fmt: skip
    envelope = dsse_sign(server_key(uow.settings), PAYLOAD_TYPE, canonical_json(_statement(row)))
    row["statement"] = uow.blobs.put_bytes(canonical_json(envelope))
    uow.conn.execute(insert(table).values(row))
    audit.record(
        uow, "waiver.grant", subject=subject, project=project, waiver=row["uid"], digest=digest, policy=policy,
        rule=rule, reason=row["reason"], owner=row["owner"], expires_at=rfc3339(expires_at),
        statement=row["statement"],
    )  # fmt: skip
    return Waiver(**row)


@act
def revoke(uow: UnitOfWork, uid: str, *, project: str, reason: str) -> Waiver:
    """Take a waiver back: the rule counts again, from the next check on.

    Raises:
        NotFoundError: the project has no such waiver.
        ConflictError: it was taken back before.
    """
    uow.require(Permission.RELEASE_APPROVE, project)
    if not reason.strip() or len(reason) > REASON_CHARS_MAX:
        raise InvalidInputError("Taking a waiver back needs a reason.", field="reason")
    row = uow.conn.execute(select(table).where(table.c.uid == uid, table.c.project == project)).first()
    if row is None:
        raise NotFoundError(f"There is no waiver {uid} here.", field="waiver")
    if row.revoked_at is not None:
        raise ConflictError(f"The waiver {uid} was taken back by {row.revoked_by} already.")
    values = {"revoked_at": uow.clock.now(), "revoked_by": uow.actor.name}
    uow.conn.execute(update(table).where(table.c.uid == uid).values(**values))
    audit.record(
        uow, "waiver.revoke", subject=row.subject, project=project, waiver=uid, policy=row.policy, rule=row.rule,
        reason=reason.strip(),
    )  # fmt: skip
    return msgspec.structs.replace(_waiver(row), **values)


@read
def list_waivers(uow: UnitOfWork, *, subject: str, project: str, digest: str | None = None) -> list[Waiver]:
    """List the waivers of a subject, expired and revoked ones too, the oldest first."""
    uow.require(Permission.RELEASE_READ, project)
    query = select(table).where(table.c.subject == subject, table.c.project == project).order_by(table.c.uid)
    if digest is not None:
        query = query.where(table.c.digest == digest)
    return [_waiver(row) for row in uow.conn.execute(query)]


def in_force(uow: UnitOfWork, *, subject: str, project: str, digest: str) -> list[Waiver]:
    """The waivers that count now, each held against what was signed.

    Raises:
        IntegrityError: a row says something else than its signed statement.
    """
    now = uow.clock.now()
    found = list_waivers(uow, subject=subject, project=project, digest=digest)
    counting = [one for one in found if one.revoked_at is None and one.expires_at > now]
    for one in counting:
        _verify(uow, one)
    return counting


def apply(policy: str, rules: Sequence[RuleVerdict], aside: Sequence[Mapping[str, Any]]) -> list[RuleVerdict]:
    """Put the waivers, as the facts of a release give them, beside the rules that do not pass."""
    by_rule = {one["rule"]: one for one in aside if one["policy"] == policy}
    found = []
    for rule in rules:
        one = None if rule.stands else by_rule.get(rule.name)
        if one is not None:
            said = {name: one[name] for name in ("uid", "owner", "reason", "expires_at")}
            waived = msgspec.convert(said | {"by": one["person_name"]}, Waived)
            rule = msgspec.structs.replace(rule, waiver=waived)
        found.append(rule)
    return found


def _verify(uow: UnitOfWork, one: Waiver) -> None:
    envelope = msgspec.json.decode(uow.blobs.get_bytes(one.statement))
    payload = dsse_verify(envelope, server_keys(uow.settings), payload_type=PAYLOAD_TYPE)
    if payload != canonical_json(_statement(msgspec.structs.asdict(one))):
        raise IntegrityError(
            f"The waiver {one.uid} by {one.person_name} is not what was signed: it was altered in the database.",
            hint="`everline audit log` has the event of the real one; restore the database from a backup.",
        )


def _statement(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": row["subject"], "digest": {"sha256": row["digest"].removeprefix("sha256:")}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {name: row[name] for name in _SAID}
        | {
            "uid": row["uid"],
            "at": rfc3339(row["at"]),
            "expires_at": rfc3339(row["expires_at"]),
            "person": {"uid": row["person"], "name": row["person_name"]},
        },
    }


def _check(reason: str, expires_at: datetime, now: datetime) -> None:
    if not reason.strip() or len(reason) > REASON_CHARS_MAX or "\0" in reason:
        raise InvalidInputError(
            f"A waiver needs a reason of 1 to {REASON_CHARS_MAX} characters.", field="reason",
            hint="Say why the rule may be set aside, and what makes that safe for a while.",
        )  # fmt: skip
    if expires_at.tzinfo is None:
        raise InvalidInputError("The expiry has no zone.", hint="Write 2026-12-31T00:00:00Z.", field="expires_at")
    if not now < expires_at <= now + timedelta(days=DAYS_MAX):
        raise InvalidInputError(
            f"A waiver expires within {DAYS_MAX} days from now, not at {rfc3339(expires_at)}.", field="expires_at",
            hint="Mend what the rule asks for until then, or waive it again.",
        )  # fmt: skip


def _waiver(row: Row[Any]) -> Waiver:
    return Waiver(**row._mapping)
