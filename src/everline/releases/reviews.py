"""What open reviews say at the gate: nothing else is released to an endpoint whose glass is broken."""

from __future__ import annotations

from sqlalchemy import select

from everline.access.unit_of_work import UnitOfWork
from everline.clock import rfc3339
from everline.governance.types import ClauseVerdict, Outcome, RuleVerdict, Seen, Verdict
from everline.ids import digest_bytes
from everline.releases import tables

BREAK_GLASS = "break-glass"
RULE = "review-closed"
_EXPRESSION = "reviews.all(r, r.closed)"
_REASON = "What went live past its policies is reviewed by another person before anything else follows it."
_SOURCE = "Everline: breaking the glass opens a review"


def verdict(uow: UnitOfWork, *, project: str, endpoint: str, release: str) -> Verdict | None:
    """A verdict that fails while a review of another release to this endpoint is open; None if none is."""
    column = tables.release_review.c
    query = select(tables.release_review).where(
        column.project == project, column.endpoint == endpoint, column.release != release, column.closed_at.is_(None)
    )
    found = uow.conn.execute(query.order_by(column.uid)).all()
    if not found:
        return None
    seen = [
        Seen(
            path=f"reviews[{place}]",
            value={
                "review": row.uid, "release": row.release, "opened_by": row.opened_by_name,
                "opened_at": rfc3339(row.opened_at), "closed": False,
            },
        )
        for place, row in enumerate(found[:5])
    ]  # fmt: skip
    clause = ClauseVerdict(text=_EXPRESSION, outcome=Outcome.FAIL, values=seen)
    rule = RuleVerdict(
        name=RULE, reason=_REASON, source=_SOURCE, expression=_EXPRESSION, outcome=Outcome.FAIL, clauses=[clause]
    )
    return Verdict(
        policy=BREAK_GLASS, version=1, title="The glass is broken", reason=_REASON,
        digest=digest_bytes(f"{_EXPRESSION}\n{_REASON}".encode()), outcome=Outcome.FAIL, rules=[rule],
    )  # fmt: skip
