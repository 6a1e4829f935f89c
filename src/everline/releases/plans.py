"""The rollout plan of an endpoint: how releases to it reach all traffic, unless their opener says otherwise."""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, select

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError
from everline.governance import audit
from everline.releases import tables
from everline.releases.types import Plan
from everline.serving import service as serving
from everline.storage.db import upsert

CANARY_SHARE_MAX = 0.5


def check_plan(plan: Plan) -> Plan:
    """Return `plan` if it can be followed.

    Raises:
        InvalidInputError: the canary would take less than nothing, or more than half.
    """
    if not 0.0 <= plan.canary_share <= CANARY_SHARE_MAX:
        raise InvalidInputError(
            f"A canary cannot take {plan.canary_share:g} of the traffic.",
            hint=f"Give 0 (none) to {CANARY_SHARE_MAX:g}.",
            field="plan.canary_share",
        )
    return plan


@read
def get_plan(uow: UnitOfWork, endpoint: str, *, project: str) -> Plan | None:
    """The plan that the endpoint has of its own, or None."""
    uow.require(Permission.ENDPOINT_READ, project)
    column = tables.rollout_plan.c
    query = select(column.plan).where(column.project == project, column.endpoint == endpoint)
    kept = uow.conn.execute(query).scalar()
    return None if kept is None else msgspec.convert(kept, Plan)


@act
def set_plan(uow: UnitOfWork, endpoint: str, plan: Plan | None, *, project: str) -> None:
    """Give an endpoint a plan for the releases to come, or take it away; releases that are open keep theirs.

    Raises:
        NotFoundError: the project has no such endpoint.
        InvalidInputError: the plan cannot be followed.
    """
    uow.require(Permission.ENDPOINT_WRITE, project)
    found = serving.get_endpoint(uow, endpoint, project=project, lock=True)
    before = get_plan(uow, endpoint, project=project)
    if before == (plan and check_plan(plan)):
        uow.unchanged()
        return
    table, at = tables.rollout_plan, uow.clock.now()
    if plan is None:
        uow.conn.execute(delete(table).where(table.c.project == project, table.c.endpoint == endpoint))
    else:
        row = {"project": project, "endpoint": endpoint, "plan": msgspec.to_builtins(plan), "at": at}
        upsert(uow.conn, table, [row], keys=["project", "endpoint"], update=["plan", "at"])
    audit.record(
        uow, "endpoint.plan", subject=f"endpoint:{found.uid}", project=project, name=endpoint,
        before=msgspec.to_builtins(before), after=msgspec.to_builtins(plan),
    )  # fmt: skip
