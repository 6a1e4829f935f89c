"""The desired state that data planes follow: everything that they need to answer with the control plane away."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, and_, select

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, InvalidInputError
from everline.governance import rotation
from everline.serving import tables
from everline.serving.keys import desired_keys
from everline.serving.types import (
    DesiredEndpoint,
    DesiredRevision,
    DesiredState,
    EndpointAccess,
    Guard,
    RevisionRole,
)


@read
def read_generation(uow: UnitOfWork) -> int:
    """The number of the routing in force; 0 before there is any."""
    uow.require_anywhere(Permission.DATAPLANE)
    return _generation(uow)


@read
def desired_state(uow: UnitOfWork) -> DesiredState:
    """Everything that a data plane must serve now, over all projects."""
    uow.require_anywhere(Permission.DATAPLANE)
    # Read first: a change that commits in between gives newer content under an older number, which is asked for again.
    number = _generation(uow)
    endpoints, traffic = tables.endpoint, tables.traffic
    rows = uow.conn.execute(select(endpoints).order_by(endpoints.c.project, endpoints.c.name)).all()
    behind: dict[str, list[DesiredRevision]] = {row.uid: [] for row in rows}
    query = (
        select(tables.revision, traffic.c.role, traffic.c.share)
        .join(traffic, and_(traffic.c.revision == tables.revision.c.uid, traffic.c.until.is_(None)))
        .order_by(traffic.c.share.desc(), tables.revision.c.uid)
    )
    for row in uow.conn.execute(query):
        behind.get(row.endpoint, []).append(_revision(row, role=RevisionRole(row.role), share=row.share))
    for row in uow.conn.execute(select(tables.revision).join(endpoints, endpoints.c.warm == tables.revision.c.uid)):
        if all(one.revision != row.uid for one in behind.get(row.endpoint, [])):
            behind.get(row.endpoint, []).append(_revision(row, role=RevisionRole.WARM, share=0.0))
    keys = desired_keys(uow)
    return DesiredState(
        generation=number,
        rotations=rotation.statements(uow),
        endpoints=[
            DesiredEndpoint(
                endpoint=row.name,
                project=row.project,
                guard=Guard(row.guard),
                revisions=behind[row.uid],
                access=EndpointAccess(row.access),
                keys=keys.get(row.uid, []),
                log_share=row.log_share,
                durability_s=row.durability_s,
            )
            for row in rows
        ],
    )


@read
def desired_alone(uow: UnitOfWork, *, project: str, model_version: str, endpoint: str | None = None) -> DesiredEndpoint:
    """An endpoint as a data plane of its own must serve it, with one model version that answers there now.

    Args:
        model_version: uid of the version.
        endpoint: where it answers; None where that is one endpoint only.

    Raises:
        ConflictError: no release of the version is live: nothing may be served that nobody released.
        InvalidInputError: it answers several endpoints.
    """
    uow.require(Permission.ENDPOINT_READ, project)
    revision, traffic, point = tables.revision, tables.traffic.c, tables.endpoint.c
    query = (
        select(
            revision, point.name.label("endpoint_name"), point.guard, point.access, point.log_share, point.durability_s
        )
        .join(tables.traffic, and_(traffic.revision == revision.c.uid, traffic.until.is_(None)))
        .join(tables.endpoint, point.uid == revision.c.endpoint)
        .where(point.project == project, revision.c.model_version == model_version, traffic.role != RevisionRole.SHADOW)
        .order_by(point.name)
    )
    rows = [row for row in uow.conn.execute(query) if endpoint in (None, row.endpoint_name)]
    if not rows:
        where = f" to {endpoint!r}" if endpoint else ""
        raise ConflictError(
            f"No release{where} of this version is live, and nothing is served that nobody released.",
            hint="Open one with `everline release create`, have it approved, and promote it.",
            field="endpoint",
        )
    if len(rows) > 1:
        names = ", ".join(row.endpoint_name for row in rows)
        raise InvalidInputError(
            f"The version answers several endpoints: {names}.", hint="Name one with --endpoint.", field="endpoint"
        )
    (row,) = rows
    one = _revision(row, role=RevisionRole.PRIMARY, share=1.0)
    return DesiredEndpoint(
        endpoint=row.endpoint_name, project=project, guard=Guard(row.guard), revisions=[one],
        access=EndpointAccess(row.access), keys=desired_keys(uow).get(row.endpoint, []), log_share=row.log_share,
        durability_s=row.durability_s,
    )  # fmt: skip


def _revision(row: Row[Any], *, role: RevisionRole, share: float) -> DesiredRevision:
    known = {name: getattr(row, name) for name in ("model", "version", "package", "signature", "release", "statement")}
    return DesiredRevision(revision=row.uid, role=role, share=share, **known)


def _generation(uow: UnitOfWork) -> int:
    found = uow.conn.execute(select(tables.generation.c.number)).scalar()
    return int(found or 0)
