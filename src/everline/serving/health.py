"""What data planes say of themselves: the latest word of each replica, and an hour of samples for the console."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from sqlalchemy import delete, insert, select

from everline.access.declare import read, stream
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError, TooLargeError
from everline.ids import check_name, check_uid
from everline.serving import tables
from everline.serving.service import get_endpoint
from everline.serving.types import Health, HealthSample
from everline.storage.db import upsert

_REPLICA_CHARACTERS_MAX = 128
_REVISIONS_MAX = 1000
SILENT_S = 30
"""A replica that has said nothing for so long counts as gone."""


@stream
def report_health(uow: UnitOfWork, health: Health) -> Health:
    """Keep a replica's word, under the control plane's own time.

    Raises:
        InvalidInputError: the replica has no usable name.
        TooLargeError: it reports more than 1,000 revisions.
    """
    uow.require_anywhere(Permission.DATAPLANE)
    if not 1 <= len(health.replica) <= _REPLICA_CHARACTERS_MAX or not health.replica.isprintable():
        raise InvalidInputError(
            "The replica's name is empty, too long or not printable.", hint="Use 1 to 128 characters.", field="replica"
        )
    if len(health.revisions) > _REVISIONS_MAX:
        raise TooLargeError(f"A replica reports at most {_REVISIONS_MAX} revisions.", field="revisions")
    for place, one in enumerate(health.revisions):
        for name in ("project", "endpoint"):
            check_name(getattr(one, name), field=f"revisions[{place}].{name}")
        check_uid(one.revision, field=f"revisions[{place}].revision")
    kept = msgspec.structs.replace(health, at=uow.clock.now())
    row = {"replica": kept.replica, "at": kept.at, "body": msgspec.to_builtins(kept)}
    upsert(uow.conn, tables.replica, [row], keys=["replica"], update=["at", "body"])
    names = ("project", "endpoint", "revision", "requests", "errors", "p50_ms", "p95_ms", "p99_ms")
    samples = [
        {"at": kept.at, "replica": kept.replica} | {name: getattr(one, name) for name in names}
        for one in kept.revisions
    ]
    if samples:
        uow.conn.execute(insert(tables.replica_sample), samples)
    oldest = uow.clock.now() - timedelta(seconds=uow.settings.health_keep_s)
    uow.conn.execute(delete(tables.replica_sample).where(tables.replica_sample.c.at < oldest))
    uow.conn.execute(delete(tables.replica).where(tables.replica.c.at < oldest))
    return kept


@read
def list_replicas(uow: UnitOfWork, *, project: str) -> list[Health]:
    """The latest word of each replica, the most recent first, with only this project's revisions in it.

    A replica that has been silent for `SILENT_S` seconds is still listed; its `at` tells.
    """
    uow.require(Permission.ENDPOINT_READ, project)
    query = select(tables.replica).order_by(tables.replica.c.at.desc()).limit(uow.settings.page_items_max)
    found = [msgspec.convert(row.body, Health) for row in uow.conn.execute(query)]
    return [
        msgspec.structs.replace(one, revisions=[item for item in one.revisions if item.project == project])
        for one in found
    ]


@read
def list_samples(uow: UnitOfWork, endpoint: str, *, project: str, limit: int = 1000) -> list[HealthSample]:
    """The newest samples of an endpoint's revisions, oldest first, at most `limit` and one hour back."""
    get_endpoint(uow, endpoint, project=project)
    column = tables.replica_sample.c
    query = select(tables.replica_sample).where(column.project == project, column.endpoint == endpoint)
    rows = uow.conn.execute(query.order_by(column.id.desc()).limit(min(limit, 10_000))).all()
    return [HealthSample(**{name: getattr(row, name) for name in HealthSample.__struct_fields__}) for row in rows[::-1]]


@read
def dataplane_address(uow: UnitOfWork, endpoint: str, *, project: str) -> str | None:
    """The base URL of the replica that last spoke and serves the endpoint; None if none did lately."""
    uow.require(Permission.ENDPOINT_READ, project)
    oldest = uow.clock.now() - timedelta(seconds=SILENT_S)
    for one in list_replicas(uow, project=project):
        serves = any(item.endpoint == endpoint and item.ready for item in one.revisions)
        if one.address and serves and one.at is not None and one.at >= oldest:
            return one.address
    return None
