"""Keeps what witnesses signed beside the log's own checkpoints."""

from __future__ import annotations

from sqlalchemy import select

from everline.access.declare import act
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import IntegrityError, InvalidInputError
from everline.governance import audit
from everline.governance.signing import server_keys
from everline.governance.tables import audit_checkpoint
from everline.governance.tree import merkle
from everline.governance.tree.checkpoint import open_checkpoint
from everline.governance.tree.cosignature import WitnessKey, cosigned_at, lines_of
from everline.governance.types import CheckpointInfo
from everline.storage.db import upsert


@act
def keep_cosigned(uow: UnitOfWork, note: str, *, witness: str) -> CheckpointInfo:
    """Keep a checkpoint of this log that a witness cosigned; exports carry it from then on.

    Args:
        note: our checkpoint with the witness's signature line.
        witness: the witness's public key in text.

    Raises:
        IntegrityError: it is not a checkpoint of this log as it is, or the witness did not sign it.
        InvalidInputError: the key is not one of a witness.
    """
    uow.require_anywhere(Permission.AUDIT_READ)
    key = WitnessKey.parse(witness)
    found = open_checkpoint(note, server_keys(uow.settings))
    head = audit.read_head(uow)
    if not 0 < found.size <= head.size:
        raise InvalidInputError(f"The log has {head.size} events, not {found.size}.", field="note")
    if merkle.root(found.size, audit.node_reader(uow)) != found.root:
        raise IntegrityError("The checkpoint is not one of this log as it is: the log was rewritten since.")
    when = cosigned_at(note, key)
    if when is None:
        raise IntegrityError(f"The witness {key.name!r} did not sign this checkpoint.", hint="Is it the right key?")
    kept = uow.conn.execute(select(audit_checkpoint).where(audit_checkpoint.c.size == found.size)).first()
    whole = note if kept is None else _with_lines(kept.note, lines_of(note, key.name))
    at = uow.clock.now() if kept is None else kept.at
    row = {"size": found.size, "root": found.root, "note": whole, "at": at}
    upsert(uow.conn, audit_checkpoint, [row], keys=["size"], update=["note"])
    audit.record(
        uow, "audit.cosign", subject=f"witness:{key.name}", project=audit.SERVER, size=found.size,
        root=found.root.hex(), cosigned_at=when, witness=key.text,
    )  # fmt: skip
    return CheckpointInfo(size=found.size, root=found.root.hex(), note=whole, at=at)


def _with_lines(note: str, lines: str) -> str:
    return note + "".join(f"{line}\n" for line in lines.splitlines() if f"{line}\n" not in note)
