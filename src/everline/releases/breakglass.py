"""Breaking the glass: a release goes live at once, past its policies, and a review is open until somebody closes it.

The rules that hold here:
    1. Policies and approvals are passed over; what they said is kept. The package's integrity is never passed over.
    2. It is loud: events of its own, a mark in the signed statement, a banner on the console, a state of its own in the
       history of the release.
    3. It opens a review. Until another person closes it, with what was found, no other release to the endpoint gets
       through the gate. Rolling back stays possible, as ever.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, insert, select, update

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from everline.governance import audit
from everline.ids import check_name, new_uid
from everline.releases import tables
from everline.releases.gate import current_champion, judge, require_intact
from everline.releases.rollout import bring_live, check_reason
from everline.releases.rows import recording_refusals, require_row, to_release
from everline.releases.states import Move, State, after
from everline.releases.types import Release, Review


@act
def break_glass(uow: UnitOfWork, uid: str, *, reason: str) -> Release:
    """Let a release answer everything now, whatever its policies say; a review is open until somebody closes it.

    Args:
        reason: what makes it an emergency, for whoever reviews it; 1 to 2,000 characters.

    Raises:
        ForbiddenError: the actor may not; this is recorded.
        ConflictError: the release has ended, or is live already.
        IntegrityError: the package was altered: no emergency lets that through.
    """
    row = require_row(uow, uid, lock=True)
    with recording_refusals(uow, row, "break-glass"):
        uow.require(Permission.RELEASE_BREAK_GLASS, row.project)
        reason = check_reason(reason, what="Breaking the glass")
        after(State(row.state), Move.BREAK_GLASS)
        require_intact(uow, row)
    champion = current_champion(uow, row.project, row.endpoint, lock=True)
    row, check = judge(uow, row)
    review: dict[str, Any] = {
        "uid": new_uid(), "project": row.project, "endpoint": row.endpoint, "release": row.uid, "reason": reason,
        "opened_by": uow.actor.uid, "opened_by_name": uow.actor.name, "opened_at": uow.clock.now(),
    }  # fmt: skip
    uow.conn.execute(insert(tables.release_review).values(**review))
    row = bring_live(uow, row, check, champion, step=Move.BREAK_GLASS, reason=reason)
    audit.record(
        uow, "review.open", subject=f"release:{row.uid}", project=row.project, review=review["uid"], reason=reason,
        gate=check.gate.value, endpoint=row.endpoint, package=row.package,
    )  # fmt: skip
    return to_release(uow, row, whole=True)


@act
def close_review(uow: UnitOfWork, uid: str, *, finding: str) -> Review:
    """Close the review of a release that broke the glass; releases to its endpoint get through again.

    Args:
        finding: what was found and done about it; 1 to 2,000 characters.

    Raises:
        NotFoundError: there is no such review.
        ForbiddenError: the actor broke the glass, or may not approve.
        ConflictError: it is closed already.
    """
    row = uow.conn.execute(select(tables.release_review).where(tables.release_review.c.uid == uid)).first()
    if row is None or not uow.actor.roles_in(row.project):
        uow.checks += 1
        raise NotFoundError(f"There is no review {uid}.", hint="`everline release reviews` lists them.", field="review")
    uow.require(Permission.RELEASE_APPROVE, row.project)
    if uow.actor.uid == row.opened_by:
        raise ForbiddenError(
            f"{uow.actor.name} broke this glass and cannot review it: four eyes are needed.",
            hint="Ask another person with the role approver.",
        )
    if row.closed_at is not None:
        raise ConflictError(f"This review was closed by {row.closed_by_name} already.")
    if not 1 <= len(finding.strip()) <= 2000 or "\0" in finding:
        raise InvalidInputError(
            "A review is closed with what was found.", hint="1 to 2,000 characters.", field="finding"
        )
    values = {"finding": finding.strip(), "closed_by": uow.actor.uid, "closed_by_name": uow.actor.name, "closed_at": uow.clock.now()}  # fmt: skip  # noqa: E501
    uow.conn.execute(update(tables.release_review).where(tables.release_review.c.uid == uid).values(**values))
    audit.record(
        uow, "review.close", subject=f"release:{row.release}", project=row.project, review=uid,
        finding=values["finding"],
    )  # fmt: skip
    return _review(uow.conn.execute(select(tables.release_review).where(tables.release_review.c.uid == uid)).one())


@read
def list_reviews(
    uow: UnitOfWork, *, project: str, endpoint: str | None = None, release: str | None = None, open_only: bool = False
) -> list[Review]:
    """The reviews of releases that broke the glass, the newest first."""
    uow.require(Permission.RELEASE_READ, project)
    column = tables.release_review.c
    query = select(tables.release_review).where(column.project == project)
    if endpoint is not None:
        query = query.where(column.endpoint == check_name(endpoint, field="endpoint"))
    if release is not None:
        query = query.where(column.release == release)
    if open_only:
        query = query.where(column.closed_at.is_(None))
    rows = uow.conn.execute(query.order_by(column.uid.desc()).limit(uow.settings.page_items_max))
    return [_review(row) for row in rows]


def _review(row: Row[Any]) -> Review:
    return Review(**row._mapping)
