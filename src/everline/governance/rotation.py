"""Changing the server's key: an event of the log, signed by the old key and by the new one.

The rules that hold here:
    1. A rotation is a statement under both keys: whoever trusts one of them is led to the other.
    2. The event is in the log, under a checkpoint of the old key, before the new key signs anything.
    3. A retired key signs nothing more. It stays in `retired/` beside the key: what it signed is verified for ever, and
       the first one still derives the keys that seal secrets.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from everline.access.declare import act
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_json
from everline.clock import rfc3339
from everline.errors import InvalidInputError
from everline.governance import audit
from everline.governance.rotations import PAYLOAD_TYPE, PREDICATE_TYPE, ROTATIONS_MAX
from everline.governance.signing import SigningKey, dsse_sign, server_key
from everline.governance.tables import audit_event
from everline.governance.types import KeyRotation

ACTION = "key.rotate"
_REASON_CHARS_MAX = 2000


@act
def record_rotation(uow: UnitOfWork, new: SigningKey, *, reason: str) -> KeyRotation:
    """Leave the event of a rotation, signed by both keys; whoever calls puts the new key into place after the commit.

    Raises:
        ForbiddenError: the actor does not administer the whole server.
        InvalidInputError: no reason.
    """
    uow.require_anywhere(Permission.ACCESS_WRITE)
    if not 1 <= len(reason.strip()) <= _REASON_CHARS_MAX or "\0" in reason:
        raise InvalidInputError("A rotation needs a reason.", hint="Say why, in 1 to 2,000 characters.", field="reason")
    old, at = server_key(uow.settings), uow.clock.now()
    payload = canonical_json({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": new.public_text, "digest": {"sha256": new.keyid.removeprefix("sha256:")}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"previous": old.public_text, "next": new.public_text, "at": rfc3339(at)},
    })  # fmt: skip
    envelope = dsse_sign(old, PAYLOAD_TYPE, payload)
    envelope["signatures"] += dsse_sign(new, PAYLOAD_TYPE, payload)["signatures"]
    audit.record(
        uow, ACTION, subject=f"key:{new.keyid}", project=audit.SERVER, previous=old.public_text, next=new.public_text,
        reason=reason.strip(), statement=envelope,
    )  # fmt: skip
    return KeyRotation(previous=old.public_text, next=new.public_text, reason=reason.strip(), at=at)


def statements(uow: UnitOfWork) -> list[dict[str, Any]]:
    """The statements of every rotation in the log, the oldest first; asks for no permission."""
    query = select(audit_event.c.position, audit_event.c.leaf).where(audit_event.c.action == ACTION)
    rows = uow.conn.execute(query.order_by(audit_event.c.position).limit(ROTATIONS_MAX))
    return [audit.parse_event(row.position, row.leaf).data["statement"] for row in rows]
