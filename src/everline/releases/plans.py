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
from everline.releases.steps import Step, parse_steps
from everline.releases.types import Guards, Plan
from everline.serving import service as serving
from everline.storage.db import upsert

CANARY_SHARE_MAX = 0.5


REQUESTS_MIN_MAX = 10_000_000


def check_plan(plan: Plan) -> Plan:
    """Return `plan` if it can be followed; of one with steps, the first one's share is the canary's.

    Raises:
        InvalidInputError: the canary would take less than nothing, or more than half; a step or guard is wrong.
    """
    if plan.guards:
        _check_guards(plan.guards)
    if plan.steps:
        return msgspec.structs.replace(plan, canary_share=parse_steps(plan.steps)[0].share)
    if not 0.0 <= plan.canary_share <= CANARY_SHARE_MAX:
        raise InvalidInputError(
            f"A canary cannot take {plan.canary_share:g} of the traffic.",
            hint=f"Give 0 (none) to {CANARY_SHARE_MAX:g}.",
            field="plan.canary_share",
        )
    return plan


def steps_of(plan: Plan) -> list[Step]:
    """The steps that a plan is followed by; none where people alone decide.

    Example:
        >>> [step.share for step in steps_of(Plan(canary_share=0.1, guards=Guards()))]
        [0.1]
    """
    if plan.steps:
        return parse_steps(plan.steps)
    return [Step(share=plan.canary_share, hold_s=0.0)] if plan.guards and plan.canary_share else []


def _check_guards(guards: Guards) -> None:
    limits = {
        "requests_min": (1, REQUESTS_MIN_MAX), "error_rate_over": (0, 1), "error_rate_max": (0, 1),
        "p99_ratio_max": (1, 1000), "p99_ms_max": (0.001, 3_600_000),
    }  # fmt: skip
    for name, (low, high) in limits.items():
        value = getattr(guards, name)
        if value is not None and not low <= value <= high:
            raise InvalidInputError(
                f"The guard {name} cannot be {value:g}.", hint=f"Give {low:g} to {high:g}.", field=f"plan.guards.{name}"
            )


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
    before, plan = get_plan(uow, endpoint, project=project), plan and check_plan(plan)
    if before == plan:
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
