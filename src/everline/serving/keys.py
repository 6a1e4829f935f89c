"""API keys of endpoints: made here, checked by data planes, also while this control plane is away.

A secret has 256 random bits, so that its plain SHA-256 is enough: nobody can try them all.
"""

from __future__ import annotations

import math
import secrets
from datetime import timedelta

from sqlalchemy import Row, func, insert, or_, select, update

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, InvalidInputError, NotFoundError
from everline.governance import audit
from everline.ids import check_name, check_uid, digest_bytes, new_uid
from everline.serving import tables
from everline.serving.service import get_endpoint, next_generation
from everline.serving.types import CreateEndpointKey, DesiredKey, EndpointKey, NewEndpointKey

KEYS_MAX = 1_000
DAYS_MAX = 3_650
MARK = "evk_"
"""What every secret begins with, so that scanners of repositories can know one."""
_PREFIX_CHARACTERS = 10


@act
def create_key(uow: UnitOfWork, endpoint: str, wanted: CreateEndpointKey, *, project: str) -> NewEndpointKey:
    """Make an API key; it is asked for once the endpoint's access is `key`.

    Raises:
        InvalidInputError: a quota or the days are out of range.
        ConflictError: the endpoint has a key of that name, or too many.
    """
    uow.require(Permission.ENDPOINT_WRITE, project)
    found = get_endpoint(uow, endpoint, project=project, lock=True)
    check_name(wanted.name, field="name")
    _check(wanted)
    column, now = tables.endpoint_key.c, uow.clock.now()
    valid = (column.endpoint == found.uid, column.revoked_at.is_(None))
    if uow.conn.execute(select(column.uid).where(*valid, column.name == wanted.name)).first() is not None:
        raise ConflictError(
            f"The endpoint {endpoint!r} has a key {wanted.name!r} already.",
            hint="Revoke it first, or choose another name: `everline endpoints keys list`.",
            field="name",
        )
    if uow.conn.execute(select(func.count()).where(*valid)).scalar_one() >= KEYS_MAX:
        raise ConflictError(f"The endpoint {endpoint!r} has {KEYS_MAX} keys, which is the most.", field="endpoint")
    secret = MARK + secrets.token_urlsafe(32)
    row = {
        "uid": new_uid(), "endpoint": found.uid, "name": wanted.name, "prefix": secret[:_PREFIX_CHARACTERS],
        "hash": digest_bytes(secret.encode()), "requests_per_s": wanted.requests_per_s,
        "requests_per_day": wanted.requests_per_day, "created_at": now, "created_by": uow.actor.uid,
        "expires_at": None if wanted.days is None else now + timedelta(days=wanted.days),
    }  # fmt: skip
    uow.conn.execute(insert(tables.endpoint_key).values(**row))
    next_generation(uow)
    audit.record(
        uow, "endpoint.key.create", subject=f"endpoint:{found.uid}", project=project, endpoint=endpoint,
        key=row["uid"], name=wanted.name, requests_per_s=wanted.requests_per_s,
        requests_per_day=wanted.requests_per_day,
    )  # fmt: skip
    made = uow.conn.execute(select(tables.endpoint_key).where(column.uid == row["uid"])).one()
    return NewEndpointKey(key=_key(made, endpoint), secret=secret)


@read
def list_keys(uow: UnitOfWork, endpoint: str, *, project: str) -> list[EndpointKey]:
    """The endpoint's keys, newest first, revoked ones too."""
    uow.require(Permission.ENDPOINT_READ, project)
    found = get_endpoint(uow, endpoint, project=project)
    column = tables.endpoint_key.c
    query = select(tables.endpoint_key).where(column.endpoint == found.uid).order_by(column.uid.desc())
    return [_key(row, endpoint) for row in uow.conn.execute(query.limit(uow.settings.page_items_max))]


@act
def revoke_key(uow: UnitOfWork, endpoint: str, key: str, *, project: str) -> EndpointKey:
    """End a key: data planes refuse it as soon as they hear of it.

    Raises:
        NotFoundError: the endpoint has no such key in force.
    """
    uow.require(Permission.ENDPOINT_WRITE, project)
    found = get_endpoint(uow, endpoint, project=project, lock=True)
    column, uid = tables.endpoint_key.c, check_uid(key, field="key")
    where = (column.uid == uid, column.endpoint == found.uid, column.revoked_at.is_(None))
    if uow.conn.execute(update(tables.endpoint_key).where(*where).values(revoked_at=uow.clock.now())).rowcount == 0:
        raise NotFoundError(
            f"The endpoint {endpoint!r} has no key {uid} in force.",
            hint=f"`everline endpoints keys list {endpoint}` shows them.",
            field="key",
        )
    next_generation(uow)
    row = uow.conn.execute(select(tables.endpoint_key).where(column.uid == uid)).one()
    audit.record(
        uow, "endpoint.key.revoke", subject=f"endpoint:{found.uid}", project=project, endpoint=endpoint, key=uid,
        name=row.name,
    )  # fmt: skip
    return _key(row, endpoint)


def desired_keys(uow: UnitOfWork) -> dict[str, list[DesiredKey]]:
    """The keys in force by endpoint's uid; asks for no permission."""
    column = tables.endpoint_key.c
    alive = or_(column.expires_at.is_(None), column.expires_at > uow.clock.now())
    query = select(tables.endpoint_key).where(column.revoked_at.is_(None), alive).order_by(column.uid)
    found: dict[str, list[DesiredKey]] = {}
    for row in uow.conn.execute(query):
        known = {name: getattr(row, name) for name in DesiredKey.__struct_fields__}
        found.setdefault(row.endpoint, []).append(DesiredKey(**known))
    return found


def _check(wanted: CreateEndpointKey) -> None:
    limits = {"requests_per_s": (0.001, 1e6), "requests_per_day": (1, 10**12), "days": (1, DAYS_MAX)}
    for name, (low, high) in limits.items():
        value = getattr(wanted, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise InvalidInputError(
                f"{name} cannot be {value:g}.", hint=f"Give {low:g} to {high:g}, or leave it out.", field=name
            )


def _key(row: Row[tuple[object, ...]], endpoint: str) -> EndpointKey:
    known = {name: getattr(row, name) for name in EndpointKey.__struct_fields__ if name != "endpoint"}
    return EndpointKey(endpoint=endpoint, **known)
