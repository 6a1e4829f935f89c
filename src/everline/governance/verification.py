"""Checks the stored audit log against itself and its signatures, and exports it for others to check."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec
from sqlalchemy import func, select

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.governance import audit
from everline.governance.bundle import Leaf, write_bundle
from everline.governance.signing import server_key, server_keys
from everline.governance.tables import audit_checkpoint, audit_event, audit_head, audit_node
from everline.governance.tree import merkle
from everline.governance.tree.walk import Walk, compare
from everline.governance.types import LogReport
from everline.storage.schema import microseconds


class _Filed(msgspec.Struct, frozen=True):
    """What a leaf says that columns repeat."""

    at: datetime
    actor: str
    actor_name: str
    action: str
    subject: str
    project: str


_FILED = msgspec.json.Decoder(_Filed)


@read
def verify(uow: UnitOfWork, *, project: str | None = None) -> LogReport:
    """Recompute the whole log from its leaves and compare everything that is stored about it.

    Args:
        project: where the actor's permission is asked for; the check itself is always of the whole log.
    """
    if project is None:
        uow.require_anywhere(Permission.AUDIT_READ)
    else:
        uow.require(Permission.AUDIT_READ, project)
    keys = server_keys(uow.settings)
    # Checkpoints before the head: on PostgreSQL others go on writing, and a signature over events that came
    # after our look at the head would seem to be one over events that are gone.
    notes = _notes(uow)
    head = audit.read_head(uow)
    walk = Walk(notes, keys)
    claimed, found = _recompute(uow, walk, head.size)
    compare(walk, claimed=claimed, found=found)
    if (walk.tree.size, walk.tree.root, walk.tree.peaks) != (head.size, head.root, head.peaks):
        walk.report("rewritten", None, f"The log's head says {head.size} events and another root than these have.")
    end = select(audit_head.c.size).scalar_subquery()
    beyond = uow.conn.execute(select(func.count()).where(audit_event.c.position >= end)).scalar_one()
    if beyond:
        walk.report("invented", head.size, f"{beyond} events stand behind the log's end.")
    walk.finish()
    return LogReport(
        verified=not walk.problems,
        size=walk.tree.size,
        root=walk.tree.root.hex(),
        checkpoint_size=walk.agreed,
        checkpoints=len(walk.checkpoints),
        key=keys[0].text,
        problems=walk.problems,
    )


def _recompute(uow: UnitOfWork, walk: Walk, size: int) -> tuple[list[bytes], list[bytes]]:
    """Walk over the stored rows; return the stored hashes and those of the leaves, in order."""
    claimed: list[bytes] = []
    found: list[bytes] = []
    expected = 0
    for rows in audit.iterate_rows(uow, size=size):
        hashes: list[bytes] = []
        for row in rows:
            if row.position != expected:
                walk.report("removed", expected, f"The events {expected} to {row.position - 1} are gone.")
            expected = row.position + 1
            leaf = row.leaf.encode()
            hashes.append(merkle.leaf_hash(leaf))
            if hashes[-1] == row.hash and not _columns_agree(row):
                walk.report("altered", row.position, f"Event {row.position} is filed under another name than it has.")
        claimed += [row.hash for row in rows]
        found += hashes
        _compare_nodes(uow, walk, walk.feed(hashes))
    if expected < size:
        walk.report("truncated", expected, f"The log ends after {expected} of {size} events.")
    return claimed, found


def _columns_agree(row: audit.StoredEvent) -> bool:
    try:
        said = _FILED.decode(row.leaf)
    except msgspec.MsgspecError:
        return False
    told = (microseconds(said.at), said.actor, said.actor_name, said.action, said.subject, said.project)
    return told == row[3:]


def _compare_nodes(uow: UnitOfWork, walk: Walk, nodes: list[tuple[merkle.Node, bytes]]) -> None:
    """Compare the nodes that became complete with the stored ones, a level at a time."""
    levels: dict[int, dict[int, bytes]] = {}
    for (level, index), value in nodes:
        if level:
            levels.setdefault(level, {})[index] = value
    for level, expected in levels.items():
        query = select(audit_node.c.position, audit_node.c.hash).where(
            audit_node.c.level == level, audit_node.c.position.between(min(expected), max(expected))
        )
        stored = {row.position: row.hash for row in uow.conn.execute(query)}
        for index, value in expected.items():
            if stored.get(index) != value:
                first, last = index << level, ((index + 1) << level) - 1
                walk.report("rewritten", first, f"The stored tree over the events {first} to {last} is another one.")


@read
def export(uow: UnitOfWork, target: Path) -> int:
    """Write the whole log with a fresh signature over it; return the number of events.

    The file is written on the machine where this runs; the web face hands it on.
    """
    uow.require_anywhere(Permission.AUDIT_READ)
    head = audit.sign_head(uow)
    return write_bundle(
        target,
        leaves=_leaves(uow, head.size),
        note=head.note,
        earlier=_notes(uow, size=head.size),
        key=server_key(uow.settings).verify_key,
    )


def _leaves(uow: UnitOfWork, size: int) -> Iterator[Leaf]:
    for rows in audit.iterate_rows(uow, size=size):
        for row in rows:
            yield Leaf(row.leaf.encode(), row.hash)


def _notes(uow: UnitOfWork, *, size: int | None = None) -> list[str]:
    query = select(audit_checkpoint.c.note).order_by(audit_checkpoint.c.size)
    if size is not None:
        query = query.where(audit_checkpoint.c.size <= size)
    return list(uow.conn.execute(query).scalars())
