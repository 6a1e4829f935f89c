"""Endpoints, their traffic, and who answered when; `desired` is what data planes follow.

Who may move traffic is decided one floor up, by releases; here it is only kept consistent:
the shares of primary and canary add up to 1, there is at most one of each, and each change
gives routing a new generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, insert, or_, select, update

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, InvalidInputError, NotFoundError
from everline.governance import audit
from everline.ids import check_name, new_uid
from everline.serving import tables
from everline.serving.types import Endpoint, EndpointAccess, Guard, Revision, RevisionRole
from everline.storage.db import upsert

_GENERATION_ID = 1
_SHARE_DIGITS = 6

Placement = tuple[RevisionRole, float]
"""A revision's role, and its share of the requests (0 to 1)."""


# --- endpoints ------------------------------------------------------------------------------------


@act
def create_endpoint(uow: UnitOfWork, name: str, *, project: str, guard: Guard = Guard.REJECT) -> Endpoint:
    """Create an endpoint without traffic; the first release of an endpoint also creates it.

    Raises:
        ConflictError: the project has one of that name.
    """
    uow.require(Permission.ENDPOINT_WRITE, project)
    check_name(name, field="endpoint")
    if _find(uow, project, name) is not None:
        raise ConflictError(f"The endpoint {name!r} exists already.", hint="`everline endpoints show`.", field="name")
    row = {
        "uid": new_uid(), "project": project, "name": name, "guard": Guard(guard).value,
        "created_at": uow.clock.now(), "created_by": uow.actor.uid,
    }  # fmt: skip
    uow.conn.execute(insert(tables.endpoint).values(**row))
    next_generation(uow)
    audit.record(uow, "endpoint.create", subject=f"endpoint:{row['uid']}", project=project, name=name, guard=guard)
    return get_endpoint(uow, name, project=project)


@act
def set_guard(uow: UnitOfWork, name: str, *, project: str, guard: Guard) -> Endpoint:
    """Say what the endpoint does from now on with rows that its signature does not allow.

    Raises:
        NotFoundError: the project has none of that name.
    """
    uow.require(Permission.ENDPOINT_WRITE, project)
    row = _require_endpoint(uow, project, name, lock=True)
    if row.guard == Guard(guard).value:
        uow.unchanged()
        return _endpoint(uow, row)
    column = tables.endpoint.c
    uow.conn.execute(update(tables.endpoint).where(column.uid == row.uid).values(guard=Guard(guard).value))
    next_generation(uow)
    audit.record(
        uow, "endpoint.guard", subject=f"endpoint:{row.uid}", project=project, name=name,
        before=row.guard, after=Guard(guard).value,
    )  # fmt: skip
    return _endpoint(uow, _require_endpoint(uow, project, name))


@read
def get_endpoint(uow: UnitOfWork, name: str, *, project: str, lock: bool = False) -> Endpoint:
    """An endpoint with the revisions that answer now.

    Args:
        lock: hold off everybody else who wants to move its traffic until this transaction ends.

    Raises:
        NotFoundError: the project has none of that name.
    """
    uow.require(Permission.ENDPOINT_READ, project)
    return _endpoint(uow, _require_endpoint(uow, project, name, lock=lock))


@read
def list_endpoints(uow: UnitOfWork, *, project: str) -> list[Endpoint]:
    """The project's endpoints by name, at most `page_items_max`."""
    uow.require(Permission.ENDPOINT_READ, project)
    query = select(tables.endpoint).where(tables.endpoint.c.project == project).order_by(tables.endpoint.c.name)
    rows = uow.conn.execute(query.limit(uow.settings.page_items_max)).all()
    return [_endpoint(uow, row) for row in rows]


# --- revisions and traffic ------------------------------------------------------------------------


@act
def add_revision(
    uow: UnitOfWork,
    *,
    project: str,
    endpoint: str,
    release: str,
    model: str,
    version: int,
    model_version: str,
    package: str,
    signature: str,
    statement: dict[str, Any],
) -> str:
    """Put a released model version behind an endpoint, without traffic yet; return the revision's uid.

    Args:
        statement: the release decision as a signed DSSE envelope; data planes load nothing without it.
    """
    uow.require(Permission.RELEASE_OPERATE, project)
    row = _require_endpoint(uow, project, endpoint)
    uid = new_uid()
    uow.conn.execute(
        insert(tables.revision).values(
            uid=uid,
            endpoint=row.uid,
            release=release,
            model=model,
            version=version,
            model_version=model_version,
            package=package,
            signature=signature,
            statement=statement,
            created_at=uow.clock.now(),
        )
    )
    audit.record(
        uow, "revision.create", subject=f"revision:{uid}", project=project,
        endpoint=endpoint, release=release, model=model, version=version, package=package,
    )  # fmt: skip
    return uid


@act
def set_traffic(
    uow: UnitOfWork,
    placements: Mapping[str, Placement],
    *,
    project: str,
    endpoint: str,
    reason: str = "",
    warm: str | None = None,
) -> Endpoint:
    """Say who answers from now on; a revision that is left out answers nothing any more.

    Args:
        warm: a revision that data planes keep loaded although it answers nothing, so that going back is quick.
        placements: role and share by revision uid; the shares of primary and canary add up to 1, shadows have 0.

    Raises:
        InvalidInputError: the shares do not add up, or a role is given twice.
    """
    uow.require(Permission.RELEASE_OPERATE, project)
    _check_placements(placements)
    row = _require_endpoint(uow, project, endpoint, lock=True)
    now, traffic = uow.clock.now(), tables.traffic.c
    before = {old.revision: old for old in _open_traffic(uow, row.uid)}
    after = {uid: (role, round(share, _SHARE_DIGITS)) for uid, (role, share) in placements.items()}
    kept = {uid for uid, (role, share) in after.items() if _same(before.get(uid), role, share)}
    if len(kept) == len(before) == len(after) and row.warm == warm:
        uow.unchanged()
        return _endpoint(uow, row)
    uow.conn.execute(update(tables.endpoint).where(tables.endpoint.c.uid == row.uid).values(warm=warm))
    for uid in before.keys() - kept:
        uow.conn.execute(update(tables.traffic).where(traffic.uid == before[uid].uid).values(until=now))
    opened = [
        {"uid": new_uid(), "endpoint": row.uid, "revision": uid, "role": role.value, "share": share, "since": now}
        for uid, (role, share) in after.items()
        if uid not in kept
    ]
    if opened:
        uow.conn.execute(insert(tables.traffic), opened)
    audit.record(
        uow, "endpoint.traffic", subject=f"endpoint:{row.uid}", project=project, name=endpoint, reason=reason,
        before=[{"revision": old.revision, "role": old.role, "share": old.share} for old in before.values()],
        after=[{"revision": uid, "role": role.value, "share": share} for uid, (role, share) in after.items()],
        warm=warm, generation=next_generation(uow),
    )  # fmt: skip
    return _endpoint(uow, row)


@read
def traffic_at(uow: UnitOfWork, moment: datetime, *, project: str, endpoint: str | None = None) -> list[Revision]:
    """The revisions that answered at a moment, the primary of each endpoint first."""
    uow.require(Permission.ENDPOINT_READ, project)
    traffic, column = tables.traffic.c, tables.endpoint.c
    query = _revisions().where(
        column.project == project,
        traffic.since <= moment,
        or_(traffic.until.is_(None), traffic.until > moment),
    )
    if endpoint is not None:
        query = query.where(column.name == _require_endpoint(uow, project, endpoint).name)
    rows = uow.conn.execute(query.limit(uow.settings.page_items_max)).all()
    return sorted((_revision(row) for row in rows), key=lambda one: (one.endpoint, -one.share, one.revision))


@read
def get_revision(uow: UnitOfWork, uid: str, *, project: str) -> Revision:
    """A revision with the role and share that it has now, or had last.

    Raises:
        NotFoundError: the project has no such revision, or it never had traffic.
    """
    uow.require(Permission.ENDPOINT_READ, project)
    query = _revisions().where(tables.revision.c.uid == uid, tables.endpoint.c.project == project)
    row = uow.conn.execute(query.order_by(tables.traffic.c.since.desc()).limit(1)).first()
    if row is None:
        raise NotFoundError(
            f"There is no revision {uid!r}.", hint="`everline endpoints show` lists them.", field="revision"
        )
    return _revision(row)


@read
def traffic_history(uow: UnitOfWork, endpoint: str, *, project: str, limit: int = 100) -> list[Revision]:
    """Who answered when, newest first: one item for each time that a revision got a role and share."""
    uow.require(Permission.ENDPOINT_READ, project)
    row = _require_endpoint(uow, project, endpoint)
    query = _revisions().where(tables.endpoint.c.uid == row.uid).order_by(tables.traffic.c.uid.desc())
    return [_revision(found) for found in uow.conn.execute(query.limit(min(limit, uow.settings.page_items_max)))]


def _check_placements(placements: Mapping[str, Placement]) -> None:
    serving = [share for role, share in placements.values() if role is not RevisionRole.SHADOW]
    roles = [role for role, _ in placements.values() if role is not RevisionRole.SHADOW]
    if len(roles) != len(set(roles)):
        raise InvalidInputError("An endpoint has one primary and one canary at most.", field="role")
    if serving and (round(sum(serving), _SHARE_DIGITS) != 1.0 or RevisionRole.PRIMARY not in roles):
        raise InvalidInputError(
            f"The shares add up to {sum(serving):g}, not to 1.", hint="Give a primary and the rest of 1.", field="share"
        )
    if any(not 0.0 <= share <= 1.0 for _, share in placements.values()):
        raise InvalidInputError("A share lies in 0 to 1.", field="share")


def _same(old: Row[Any] | None, role: RevisionRole, share: float) -> bool:
    return old is not None and old.role == role.value and old.share == share


def _open_traffic(uow: UnitOfWork, endpoint_uid: str) -> list[Row[Any]]:
    traffic = tables.traffic.c
    query = select(tables.traffic).where(traffic.endpoint == endpoint_uid, traffic.until.is_(None))
    return list(uow.conn.execute(query.order_by(traffic.share.desc(), traffic.uid)))


def _revisions() -> Select[Any]:
    revision, endpoint, traffic = tables.revision, tables.endpoint, tables.traffic
    return (
        select(
            revision, traffic.c.role, traffic.c.share, traffic.c.since, traffic.c.until,
            endpoint.c.project, endpoint.c.name.label("endpoint_name"),
        )
        .join(traffic, traffic.c.revision == revision.c.uid)
        .join(endpoint, endpoint.c.uid == revision.c.endpoint)
    )  # fmt: skip


def _revision(row: Row[Any]) -> Revision:
    return Revision(
        revision=row.uid,
        project=row.project,
        endpoint=row.endpoint_name,
        model=row.model,
        version=row.version,
        model_version=row.model_version,
        package=row.package,
        signature=row.signature,
        release=row.release,
        role=RevisionRole(row.role),
        share=row.share,
        since=row.since,
        until=row.until,
    )


def _find(uow: UnitOfWork, project: str, name: str, *, lock: bool = False) -> Row[Any] | None:
    if "\0" in name:  # PostgreSQL would not even look
        return None
    column = tables.endpoint.c
    query = select(tables.endpoint).where(column.project == project, column.name == name)
    return uow.conn.execute(query.with_for_update() if lock else query).first()


def _require_endpoint(uow: UnitOfWork, project: str, name: str, *, lock: bool = False) -> Row[Any]:
    row = _find(uow, project, name, lock=lock)
    if row is None:
        raise NotFoundError(
            f"There is no endpoint {name[:128]!r} in project {project!r}.",
            hint="`everline endpoints list` shows them; the first release of an endpoint creates it.",
            field="endpoint",
        )
    return row


def _endpoint(uow: UnitOfWork, row: Row[Any]) -> Endpoint:
    query = _revisions().where(tables.endpoint.c.uid == row.uid, tables.traffic.c.until.is_(None))
    revisions = [_revision(found) for found in uow.conn.execute(query)]
    order = list(RevisionRole)
    return Endpoint(
        uid=row.uid,
        project=row.project,
        name=row.name,
        guard=Guard(row.guard),
        access=EndpointAccess(row.access),
        log="full" if row.log_share == 1.0 else row.log_share,
        durability="every" if row.durability_s == 0.0 else row.durability_s,
        created_at=row.created_at,
        revisions=sorted(revisions, key=lambda one: (order.index(one.role), one.revision)),
    )


def next_generation(uow: UnitOfWork) -> int:
    """Let data planes know that there is something newer; asks for no permission."""
    upsert(uow.conn, tables.generation, [{"id": _GENERATION_ID, "number": 0}], keys=["id"])
    column = tables.generation.c
    change = update(tables.generation).where(column.id == _GENERATION_ID).values(number=column.number + 1)
    return int(uow.conn.execute(change.returning(column.number)).scalar_one())
