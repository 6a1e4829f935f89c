"""What was live at a moment, since when, who allowed it, and on what evidence: one question."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, select

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError
from everline.governance import approvals, waivers
from everline.releases import tables
from everline.releases.rows import latest_check, transitions
from everline.releases.states import State
from everline.releases.types import LiveAt
from everline.serving import service as serving
from everline.serving.types import Revision


@read
def live_at(uow: UnitOfWork, moment: datetime, *, project: str, endpoint: str | None = None) -> list[LiveAt]:
    """What answered at a moment, with everything that was known then and nothing that came later.

    Args:
        moment: by the control plane's clock, with a time zone, not in the future.
        endpoint: None for all of the project.

    Returns:
        One item per revision with traffic; empty if nothing was live.
    """
    uow.require(Permission.RELEASE_READ, project)
    if moment.tzinfo is None:
        raise InvalidInputError("The time has no zone.", hint="Write it like 2026-06-01T05:00:00Z.", field="time")
    if moment > uow.clock.now():
        raise InvalidInputError(
            f"{moment.isoformat()} is in the future.", hint="Ask for a moment that has passed.", field="time"
        )
    found = serving.traffic_at(uow, moment, project=project, endpoint=endpoint)
    return [_live(uow, one, moment) for one in found]


def _live(uow: UnitOfWork, one: Revision, moment: datetime) -> LiveAt:
    row: Row[Any] = uow.conn.execute(select(tables.release).where(tables.release.c.uid == one.release)).one()
    decisions = approvals.list_approvals(uow, subject=f"release:{row.uid}", project=row.project, digest=None)
    aside = waivers.list_waivers(uow, subject=f"release:{row.uid}", project=row.project)
    moves = [step for step in transitions(uow, row.uid) if step.at <= moment]
    live = [step for step in moves if step.after in (State.CANARY, State.PROMOTED)]
    return LiveAt(
        project=one.project,
        endpoint=one.endpoint,
        at=moment,
        role=one.role,
        share=one.share,
        since=one.since,
        until=one.until,
        revision=one.revision,
        release=one.release,
        model=one.model,
        version=one.version,
        model_version=one.model_version,
        package=one.package,
        author_name=row.author_name,
        approvals=[decision for decision in decisions if decision.at <= moment],
        waivers=[item for item in aside if item.at <= moment],
        check=latest_check(uow, row.uid, until=moment),
        moved=live[-1] if live else None,
    )
