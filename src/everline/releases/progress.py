"""How far the rollout of a canary has come: one row, written by whoever looks, read by everybody."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, delete, insert, select, update

from everline.access.unit_of_work import UnitOfWork
from everline.releases import tables
from everline.releases.plans import steps_of
from everline.releases.states import State
from everline.releases.types import Plan, Reading, Rollout
from everline.serving import health

ADVANCING, PAUSED, STALLED = "advancing", "paused", "stalled"

Counters = dict[str, dict[str, list[int]]]
"""Requests and errors by revision by replica, as the replicas count them since their start."""


def begin(uow: UnitOfWork, row: Row[Any]) -> None:
    """Start to watch a canary whose plan has steps or guards; of another one nothing is kept."""
    if not steps_of(plan_of(row)):
        return
    now = uow.clock.now()
    uow.conn.execute(delete(tables.rollout).where(tables.rollout.c.release == row.uid))
    uow.conn.execute(
        insert(tables.rollout).values(
            release=row.uid,
            status=ADVANCING,
            step=0,
            since=now,
            readings=[],
            problem="",
            next_look=now + timedelta(seconds=uow.settings.rollout_look_s),
            counters={"last": counted(uow, row.project), "sums": {}},
        )
    )  # fmt: skip


def find(uow: UnitOfWork, release: str, *, lock: bool = False) -> Row[Any] | None:
    """The row of a release's rollout, if it has one."""
    query = select(tables.rollout).where(tables.rollout.c.release == release)
    return uow.conn.execute(query.with_for_update() if lock else query).first()


def change(uow: UnitOfWork, release: str, **values: Any) -> None:
    """Write what is known of a rollout now."""
    uow.conn.execute(update(tables.rollout).where(tables.rollout.c.release == release).values(**values))


def to_rollout(row: Row[Any], found: Row[Any]) -> Rollout:
    """The rollout of a release as a value.

    Args:
        row: of the release; `found` is that of its rollout.
    """
    steps = steps_of(plan_of(row))
    return Rollout(
        status=found.status if row.state == State.CANARY.value else "ended",
        step=found.step + 1,
        steps=len(steps),
        share=steps[found.step].share,
        since=found.since,
        hold_s=steps[found.step].hold_s,
        looked_at=found.looked_at,
        readings=msgspec.convert(found.readings, list[Reading]),
        problem=found.problem,
    )


def plan_of(row: Row[Any]) -> Plan:
    """The plan of a release's row."""
    return msgspec.convert(row.plan, Plan)


def is_last(row: Row[Any], found: Row[Any]) -> bool:
    """Whether the plan has no further step, so that a person promotes."""
    return bool(found.step + 1 >= len(steps_of(plan_of(row))))


def counted(uow: UnitOfWork, project: str) -> Counters:
    """What every replica has counted so far."""
    return {
        replica.replica: {one.revision: [one.requests, one.errors] for one in replica.revisions}
        for replica in health.list_replicas(uow, project=project)
    }


def add_up(counters: dict[str, Any], now: Counters) -> dict[str, Any]:
    """Add what replicas counted since the last look; one that started again has counted from nothing.

    Args:
        counters: `last` (what each replica said at the last look) and `sums` (by revision, since the step began).

    Example:
        >>> before = {"last": {"a": {"r": [10, 1]}}, "sums": {"r": [4, 0]}}
        >>> add_up(before, {"a": {"r": [15, 1]}, "b": {"r": [2, 1]}})["sums"]
        {'r': [11, 1]}
        >>> add_up(before, {"a": {"r": [3, 0]}})["sums"]
        {'r': [7, 0]}
    """
    sums = {revision: list(values) for revision, values in counters["sums"].items()}
    for replica, revisions in now.items():
        for revision, (requests, errors) in revisions.items():
            before = counters["last"].get(replica, {}).get(revision, [0, 0])
            if requests < before[0]:
                before = [0, 0]
            old = sums.get(revision, [0, 0])
            sums[revision] = [old[0] + requests - before[0], old[1] + max(errors - before[1], 0)]
    return {"last": counters["last"] | now, "sums": sums}
