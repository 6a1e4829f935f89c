"""The audit log: what happened, who did it, and a Merkle tree that shows if anyone rewrites it.

The rules that hold here, and nowhere else can break:
    1. An event is written in the transaction of the change that it records: both are there, or neither.
    2. Events are numbered without gaps in the order of their commits, one writer at a time.
    3. A leaf is canonical JSON; its hash, and every node above it, is written once and never again.
    4. The order is that of the index. A clock that goes backwards shows in `at` and changes nothing else.
    5. Secrets never enter: their names are refused here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import and_, or_, select

from everline.access.declare import read, stream
from everline.access.types import Permission
from everline.access.unit_of_work import Event, UnitOfWork
from everline.canonical import canonical_json
from everline.clock import rfc3339
from everline.errors import IntegrityError, InvalidInputError, NotFoundError, TooLargeError
from everline.governance.tables import audit_checkpoint, audit_event, audit_head, audit_node
from everline.governance.tree import merkle
from everline.governance.types import AuditEvent, CheckpointInfo, InclusionProof
from everline.loader import late
from everline.storage.db import insert_rows, insert_values, select_rows, upsert

if TYPE_CHECKING:
    from everline.governance import signing
    from everline.governance.tree import checkpoint as checkpoints
else:  # cryptography takes long to load, and only a checkpoint needs it
    signing, checkpoints = late("everline.governance.signing"), late("everline.governance.tree.checkpoint")

SCHEMA = 1
EVENT_BYTES_MAX = 65_535
"""What an entry of a tile holds, too."""
SERVER = "*"
"""The project of events that belong to the whole server."""

_HEAD_ID = 1
_READ_ROWS = 5_000
_NODES_PER_QUERY = 200
_READ = (
    "SELECT position, leaf, hash, at, actor, actor_name, action, subject, project FROM audit_event "
    "WHERE position > ? AND position < ? ORDER BY position LIMIT ?"
)
_NODE = ("level", "position", "hash")
_HEAD = "SELECT size, root, peaks FROM audit_head WHERE id = ?"
_MOVE_HEAD = "UPDATE audit_head SET size = ?, root = ?, peaks = ? WHERE id = ? RETURNING size"
_SECRET_NAMES = frozenset({"password", "secret", "api_key", "private_key", "signing_key", "authorization", "cookie"})


class Head(msgspec.Struct, frozen=True):
    """Where the tree stands."""

    size: int
    root: bytes
    peaks: tuple[bytes, ...]


def record(uow: UnitOfWork, action: str, *, subject: str, project: str, **data: Any) -> None:
    """Leave an event of this unit of work; `append` writes it when the work ends.

    Args:
        action: `<word>.<verb>`, at most 64 characters.
        subject: `<kind>:<uid or name>`, at most 320 characters.
        project: the project's name, or `*` for what belongs to the whole server.
        data: what else belongs to it, before and after, the reason: anything with a JSON form, no secrets.
    """
    uow.record(action, subject=subject, project=project, **data)


def append(uow: UnitOfWork) -> None:
    """Write a unit of work's events into the log: last in its transaction, since the head's lock makes others wait.

    Raises:
        TooLargeError: an event passes the limit; the whole change is refused.
    """
    at = uow.clock.now()
    events = [*uow.events]
    leaves = [_leaf(event, rfc3339(at)) for event in events]
    uow.events.clear()
    if not leaves:
        return
    head = _lock_head(uow)
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    growth = merkle.grow(head.size, head.peaks, hashes)
    rows = [
        _row(head.size + offset, event, leaf, value, at)
        for offset, (event, leaf, value) in enumerate(zip(events, leaves, hashes, strict=True))
    ]
    insert_values(uow.conn, audit_event, rows)
    nodes = [(level, index, value) for (level, index), value in growth.nodes if level]
    insert_rows(uow.conn, audit_node, _NODE, nodes, keys=())
    select_rows(uow.conn, _MOVE_HEAD, (growth.size, growth.root, b"".join(growth.peaks), _HEAD_ID))


def _leaf(event: Event, at: str) -> bytes:
    if "." not in event.action or len(event.action) > 64 or ":" not in event.subject or len(event.subject) > 320:
        raise ValueError(f"not an audit event: action {event.action!r}, subject {event.subject!r}")
    if found := _SECRET_NAMES & event.data.keys():
        raise ValueError(f"secrets never enter the audit log: {sorted(found)}")
    leaf = canonical_json({"schema": SCHEMA, "at": at} | msgspec.to_builtins(event))
    if len(leaf) > EVENT_BYTES_MAX:
        raise TooLargeError(
            f"The audit event {event.action!r} has {len(leaf)} bytes; {EVENT_BYTES_MAX} are allowed.",
            hint="Send less in one change: the event repeats what was given.",
        )
    return leaf


def _row(index: int, event: Event, leaf: bytes, value: bytes, at: datetime) -> dict[str, Any]:
    return {
        "position": index,
        "leaf": leaf.decode(),
        "hash": value,
        "at": at,
        "actor": event.actor,
        "actor_name": event.actor_name,
        "action": event.action,
        "subject": event.subject,
        "project": event.project,
    }


def _lock_head(uow: UnitOfWork) -> Head:
    """Take the writers' turn: a row lock on PostgreSQL; SQLite has one writer at a time anyway."""
    found = select_rows(uow.conn, _HEAD, (_HEAD_ID,), lock=True)
    if not found:
        empty = {"id": _HEAD_ID, "size": 0, "root": merkle.EMPTY_ROOT, "peaks": b""}
        upsert(uow.conn, audit_head, [empty], keys=["id"])
        found = select_rows(uow.conn, _HEAD, (_HEAD_ID,), lock=True)
    return _head(*found[0])


def read_head(uow: UnitOfWork) -> Head:
    """Where the log stands, as far as it is committed."""
    found = select_rows(uow.conn, _HEAD, (_HEAD_ID,))
    return _head(*found[0]) if found else Head(0, merkle.EMPTY_ROOT, ())


def _head(size: int, root: bytes, peaks: bytes) -> Head:
    step = merkle.HASH_BYTES
    return Head(size, root, tuple(peaks[start : start + step] for start in range(0, len(peaks), step)))


@read
def list_events(
    uow: UnitOfWork,
    *,
    project: str | None,
    subject: str | None = None,
    actor: str | None = None,
    action: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[AuditEvent]:
    """List events, the newest first.

    Args:
        project: only this project's events; None for all, which needs the permission everywhere.
        actor: uid or name.
        action: exact, or a word and a dot for all its actions, such as `release.`.
        since, until: by the writer's clock, from the first up to, without, the second.
        before: an index; only older events. The last index of a page fetches the next one.
    """
    _require(uow, project)
    conditions = [
        audit_event.c.project == project if project is not None else None,
        audit_event.c.subject == subject if subject else None,
        or_(audit_event.c.actor == actor, audit_event.c.actor_name == actor) if actor else None,
        _matches_action(action) if action else None,
        audit_event.c.at >= since if since else None,
        audit_event.c.at < until if until else None,
        audit_event.c.position < before if before is not None else None,
    ]
    wanted = and_(True, *(condition for condition in conditions if condition is not None))
    size = max(1, min(limit, uow.settings.page_items_max))
    query = select(audit_event.c.position, audit_event.c.leaf).where(wanted).order_by(audit_event.c.position.desc())
    return [parse_event(row.position, row.leaf) for row in uow.conn.execute(query.limit(size))]


def _matches_action(action: str) -> Any:
    if action.endswith("."):
        return audit_event.c.action.startswith(action, autoescape=True)
    return audit_event.c.action == action


@read
def get_event(uow: UnitOfWork, index: int) -> AuditEvent:
    """Return the event at an index.

    Raises:
        NotFoundError: the log has no such index.
    """
    return parse_event(index, _read_leaf(uow, index))


@read
def prove(uow: UnitOfWork, index: int) -> InclusionProof:
    """Prove that an event is in the log, under a signed root.

    The newest stored checkpoint serves if it covers the event; otherwise the committed root is signed now.

    Raises:
        NotFoundError: the log has no such index.
    """
    leaf = _read_leaf(uow, index)
    latest = _latest_checkpoint(uow)
    if latest is None or latest.size <= index or not _is_of_now(uow, latest):
        latest = _sign(uow, read_head(uow))
    path = merkle.inclusion_proof(index, latest.size, node_reader(uow))
    return InclusionProof(
        index=index, size=latest.size, leaf=leaf, path=[value.hex() for value in path], checkpoint=latest.note
    )


@read
def prove_consistency(
    uow: UnitOfWork, first: int, *, second: int | None = None, project: str | None = None
) -> list[str]:
    """Prove that the log of `second` events, or today's, continues the one of `first`, whose root somebody kept."""
    _require(uow, project)
    size = read_head(uow).size
    until = size if second is None else second
    if not 0 < first <= until <= size:
        raise InvalidInputError(f"The log has {size} events, not {max(first, until)}.", field="first")
    return [value.hex() for value in merkle.consistency_proof(first, until, node_reader(uow))]


@stream
def checkpoint(uow: UnitOfWork) -> CheckpointInfo | None:
    """Sign the committed root and keep the note; None when the log has not grown since the last one.

    The worker calls this on a clock. It leaves no event: the log would never come to rest.
    """
    uow.require_anywhere(Permission.AUDIT_READ)
    head, latest = read_head(uow), _latest_checkpoint(uow)
    if head.size == 0 or (latest is not None and latest.size == head.size):
        return None
    signed = _sign(uow, head)
    row = {"size": head.size, "root": head.root, "note": signed.note, "at": uow.clock.now()}
    upsert(uow.conn, audit_checkpoint, [row], keys=["size"])
    return signed


@read
def latest_checkpoint(uow: UnitOfWork, *, project: str | None = None, fresh: bool = False) -> CheckpointInfo:
    """The newest stored checkpoint, or one of all events signed now, where there is none or a `fresh` one is wanted."""
    _require(uow, project)
    stored = None if fresh else _latest_checkpoint(uow)
    return stored or _sign(uow, read_head(uow))


def sign_head(uow: UnitOfWork) -> CheckpointInfo:
    """Sign the committed root without keeping the note."""
    return _sign(uow, read_head(uow))


def _sign(uow: UnitOfWork, head: Head) -> CheckpointInfo:
    note = checkpoints.sign_checkpoint(signing.server_key(uow.settings), size=head.size, root=head.root)
    return CheckpointInfo(size=head.size, root=head.root.hex(), note=note, at=uow.clock.now())


def _is_of_now(uow: UnitOfWork, info: CheckpointInfo) -> bool:
    """Whether a stored checkpoint is signed by the key in force."""
    try:
        checkpoints.open_checkpoint(info.note, signing.server_key(uow.settings).verify_key)
    except IntegrityError:
        return False
    return True


def _latest_checkpoint(uow: UnitOfWork) -> CheckpointInfo | None:
    row = uow.conn.execute(select(audit_checkpoint).order_by(audit_checkpoint.c.size.desc()).limit(1)).first()
    return CheckpointInfo(size=row.size, root=row.root.hex(), note=row.note, at=row.at) if row else None


class StoredEvent(NamedTuple):
    """One row of the log as the database has it; `at` in microseconds since 1970."""

    position: int
    leaf: str
    hash: bytes
    at: int
    actor: str
    actor_name: str
    action: str
    subject: str
    project: str


def iterate_rows(uow: UnitOfWork, *, size: int) -> Iterator[list[StoredEvent]]:
    """The rows of the first `size` events in pieces, in order; rows beyond `size` are left out."""
    position = -1
    while True:
        rows = select_rows(uow.conn, _READ, (position, size, _READ_ROWS))
        if not rows:
            return
        yield [StoredEvent(*row) for row in rows]
        position = rows[-1][0]


def parse_event(index: int, leaf: str | bytes) -> AuditEvent:
    """Read a leaf."""
    return msgspec.convert(msgspec.json.decode(leaf) | {"index": index}, AuditEvent)


def node_reader(uow: UnitOfWork) -> merkle.NodeReader:
    """Fetches nodes of the stored tree: leaf hashes from the events, the rest from the nodes."""

    def fetch(nodes: Sequence[merkle.Node], /) -> Mapping[merkle.Node, bytes]:
        found: dict[merkle.Node, bytes] = {}
        leaves = [index for level, index in nodes if level == 0]
        inner = [(level, index) for level, index in nodes if level]
        for start in range(0, len(leaves), _NODES_PER_QUERY):
            part = leaves[start : start + _NODES_PER_QUERY]
            marks = ", ".join("?" * len(part))
            query = f"SELECT position, hash FROM audit_event WHERE position IN ({marks})"  # noqa: S608 - marks only
            found |= {(0, position): value for position, value in select_rows(uow.conn, query, part)}
        for start in range(0, len(inner), _NODES_PER_QUERY):
            pairs = inner[start : start + _NODES_PER_QUERY]
            wanted = " OR ".join(["level = ? AND position = ?"] * len(pairs))
            query = f"SELECT level, position, hash FROM audit_node WHERE {wanted}"  # noqa: S608 - marks only
            values = [number for pair in pairs for number in pair]
            found |= {(level, position): value for level, position, value in select_rows(uow.conn, query, values)}
        return found

    return fetch


def _read_leaf(uow: UnitOfWork, index: int) -> str:
    row = uow.conn.execute(
        select(audit_event.c.leaf, audit_event.c.project).where(audit_event.c.position == index)
    ).first()
    if row is None:
        uow.require_anywhere(Permission.AUDIT_READ)
        raise NotFoundError(
            f"The audit log has no event {index}.", hint="`everline audit log` shows the newest ones.", field="index"
        )
    _require(uow, None if row.project == SERVER else row.project)
    return str(row.leaf)


def _require(uow: UnitOfWork, project: str | None) -> None:
    if project is None:
        uow.require_anywhere(Permission.AUDIT_READ)
    else:
        uow.require(Permission.AUDIT_READ, project)
