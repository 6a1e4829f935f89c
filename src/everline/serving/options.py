"""What can be changed of an endpoint beside who answers: its guard, who may ask, and how its predictions are logged."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from sqlalchemy import update

from everline.access.declare import act
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError
from everline.governance import audit
from everline.serving import tables
from everline.serving.service import get_endpoint, next_generation, set_guard
from everline.serving.types import ChangeEndpoint, DurabilitySpec, Endpoint, LogSpec

LOG_SHARE_MIN = 0.0001
DURABILITY_S_MIN, DURABILITY_S_MAX = 0.001, 60.0


@act
def change_endpoint(uow: UnitOfWork, name: str, change: ChangeEndpoint, *, project: str) -> Endpoint:
    """Change what is given, from now on; data planes follow within a second.

    Raises:
        NotFoundError: the project has no such endpoint.
        InvalidInputError: a share or a time is out of range.
    """
    uow.require(Permission.ENDPOINT_WRITE, project)
    found = get_endpoint(uow, name, project=project, lock=True)
    values: dict[str, Any] = {}
    if change.access is not None:
        values["access"] = change.access.value
    if change.log is not None:
        values["log_share"] = _share(change.log)
    if change.durability is not None:
        values["durability_s"] = _seconds(change.durability)
    if change.guard is not None:
        set_guard(uow, name, project=project, guard=change.guard)
    known = {"access": found.access.value, "log_share": _share(found.log), "durability_s": _seconds(found.durability)}
    changed = {key: value for key, value in values.items() if known[key] != value}
    if not changed:
        uow.unchanged()
        return get_endpoint(uow, name, project=project)
    column = tables.endpoint.c
    uow.conn.execute(update(tables.endpoint).where(column.uid == found.uid).values(**changed))
    next_generation(uow)
    after = get_endpoint(uow, name, project=project)
    before, now = (
        {key: msgspec.to_builtins(getattr(one, key)) for key in ("access", "log", "durability")}
        for one in (found, after)
    )
    audit.record(
        uow, "endpoint.change", subject=f"endpoint:{found.uid}", project=project, name=name, before=before, after=now
    )
    return after


def _share(log: LogSpec) -> float:
    share = 1.0 if isinstance(log, str) else log
    if not LOG_SHARE_MIN <= share <= 1.0:
        raise InvalidInputError(
            f"A share of {share:g} of the requests cannot be logged.",
            hint=f"Give 'full', or {LOG_SHARE_MIN:g} to 1.",
            field="log",
        )
    return round(share, 6)


def _seconds(durability: DurabilitySpec) -> float:
    if isinstance(durability, str):
        return 0.0
    if not (math.isfinite(durability) and DURABILITY_S_MIN <= durability <= DURABILITY_S_MAX):
        raise InvalidInputError(
            f"Rows cannot wait {durability:g} s in memory.",
            hint=f"Give 'every' (none waits), or {DURABILITY_S_MIN:g} to {DURABILITY_S_MAX:g} seconds.",
            field="durability",
        )
    return durability
