"""The history of plans and applications: who, when, of which file, and what changed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, insert, select

from everline.access.declare import read, stream
from everline.access.types import ALL_PROJECTS, Permission
from everline.access.unit_of_work import UnitOfWork
from everline.delivery import tables
from everline.delivery.planning import KINDS
from everline.delivery.types import Change, Plan, Preview, Problem, Record
from everline.errors import NotFoundError
from everline.ids import check_uid, new_uid

PLANS_MAX = 200
"""Of each stack so many plans are kept; applications are kept for good."""


@stream
def keep_plan(uow: UnitOfWork, plan: Plan, *, project: str) -> str:
    """Enter a plan in the history, and let the oldest go; return its uid."""
    uow.require(Permission.DELIVERY_WRITE, project)
    uid = add(uow, plan, what="plan", project=project)
    column = tables.record.c
    plans = (column.project == project, column.stack == plan.stack, column.what == "plan")
    oldest = select(column.uid).where(*plans).order_by(column.uid.desc()).offset(PLANS_MAX - 1).limit(1)
    last = uow.conn.execute(oldest).scalar()
    if last is not None:
        uow.conn.execute(delete(tables.record).where(*plans, column.uid < last))
    return uid


def add(uow: UnitOfWork, plan: Plan, *, what: str, project: str) -> str:
    """Write one row; the caller has asked for its permission."""
    uid = new_uid()
    uow.conn.execute(
        insert(tables.record).values(
            uid=uid,
            project=project,
            stack=plan.stack,
            what=what,
            at=uow.clock.now(),
            actor=uow.actor.uid,
            actor_name=uow.actor.name,
            path=plan.path[:1024],
            source_digest=plan.source_digest,
            plan=plan.digest,
            serial=plan.serial,
            counts=counts(plan.changes),
            body={
                "changes": msgspec.to_builtins(plan.changes),
                "preview": msgspec.to_builtins(plan.preview),
                "missing": plan.missing,
                "problem": msgspec.to_builtins(plan.problem),
            },
        )
    )
    return uid


@read
def list_records(
    uow: UnitOfWork, *, project: str, stack: str | None = None, before: str | None = None, limit: int = 100
) -> list[Record]:
    """Plans and applications, the newest first, without their changes.

    Args:
        before: a record; only older ones. The last of a page fetches the next page.
    """
    uow.require(Permission.DELIVERY_READ, project)
    column = tables.record.c
    query = select(tables.record).where(column.project == project)
    if stack is not None:
        query = query.where(column.stack == stack)
    if before is not None:
        query = query.where(column.uid < check_uid(before, field="cursor"))
    limit = max(1, min(limit, uow.settings.page_items_max))
    rows = uow.conn.execute(query.order_by(column.uid.desc()).limit(limit)).all()
    followed = _followed(uow, project, [row.plan for row in rows])
    return [_record(uow, row, followed, whole=False) for row in rows]


@read
def get_record(uow: UnitOfWork, uid: str, *, project: str) -> Record:
    """One plan or application with its changes; fields of kinds that the actor may not see are left out.

    Raises:
        NotFoundError: the project has no such record.
    """
    uow.require(Permission.DELIVERY_READ, project)
    column = tables.record.c
    uid = check_uid(uid, field="record")
    row = uow.conn.execute(select(tables.record).where(column.project == project, column.uid == uid)).first()
    if row is None:
        raise NotFoundError(
            f"There is no plan or application {uid!r}.", hint="`everline delivery history` lists them.", field="record"
        )
    return _record(uow, row, _followed(uow, project, [row.plan]), whole=True)


def counts(changes: list[Change]) -> dict[str, int]:
    """How many changes of each kind."""
    return dict(Counter(change.action.value for change in changes))


def visible(uow: UnitOfWork, project: str, kind: str) -> bool:
    """Whether the actor may see things of a kind."""
    known = KINDS.get(kind)
    return known is not None and uow.actor.may(known.reads, ALL_PROJECTS if known.everywhere else project)


def _followed(uow: UnitOfWork, project: str, plans: list[str]) -> dict[str, str]:
    """The application that followed each plan."""
    column = tables.record.c
    query = (
        select(column.plan, func.max(column.uid))
        .where(column.project == project, column.what == "apply", column.plan.in_(plans))
        .group_by(column.plan)
    )
    return {row[0]: row[1] for row in uow.conn.execute(query)}


def _record(uow: UnitOfWork, row: Row[Any], followed: dict[str, str], *, whole: bool) -> Record:
    known = {
        name: getattr(row, name)
        for name in Record.__struct_fields__
        if name in row._fields and name not in ("changes", "preview")
    }
    record = Record(**known, applied=followed.get(row.plan) if row.what == "plan" else None)
    if not whole:
        return record
    changes = msgspec.convert(row.body["changes"], list[Change])
    return msgspec.structs.replace(
        record,
        changes=[
            one if visible(uow, row.project, one.kind) else msgspec.structs.replace(one, fields=[], note="not shown")
            for one in changes
        ],
        preview=msgspec.convert(row.body["preview"], list[Preview]),
        missing=row.body["missing"],
        problem=msgspec.convert(row.body["problem"], Problem | None),
    )
