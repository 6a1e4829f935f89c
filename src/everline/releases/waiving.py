"""Setting a rule aside for one release, and taking that back; the release is judged again at once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row

from everline.access.declare import act
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, InvalidInputError
from everline.governance import waivers
from everline.releases import service
from everline.releases.reviews import BREAK_GLASS
from everline.releases.rows import latest_check, recording_refusals, require_row, to_release
from everline.releases.states import Move, State, after
from everline.releases.types import Release


@act
def waive(
    uow: UnitOfWork, uid: str, *, policy: str, rule: str, reason: str, expires_at: datetime, owner: str = ""
) -> Release:
    """Let a release pass one rule that it does not hold, until a time.

    A waiver binds to the release's digest: a new champion voids it, as it voids an approval. Once it has expired, the
    release gets no further; what is live by then stays so, and shows the waiver as expired.

    Args:
        expires_at: at most 90 days ahead.
        owner: name of who answers for mending what the rule asks for; whoever waives it, if empty.

    Raises:
        ForbiddenError: the actor made the version or opened the release, or may not approve; this is recorded.
        InvalidInputError: the rule passes, or no policy in force has it.
        ConflictError: the release is live or has ended.
    """
    row = require_row(uow, uid, lock=True)
    with recording_refusals(uow, row, "waive"):
        uow.require(Permission.RELEASE_APPROVE, row.project)
        after(State(row.state), Move.CHECK)
        _require_unmet(uow, row, policy, rule)
        waivers.grant(
            uow, subject=f"release:{row.uid}", project=row.project, digest=row.digest, policy=policy, rule=rule,
            reason=reason, expires_at=expires_at, owner=owner, author=[row.author, row.created_by],
        )  # fmt: skip
    return service.judge_again(uow, row)


@act
def revoke_waiver(uow: UnitOfWork, uid: str, waiver: str, *, reason: str) -> Release:
    """Take a waiver back; a release that is not live yet is judged again at once.

    Raises:
        NotFoundError: there is no such waiver.
    """
    row = require_row(uow, uid, lock=True)
    uow.require(Permission.RELEASE_APPROVE, row.project)
    known = {one.uid for one in waivers.list_waivers(uow, subject=f"release:{row.uid}", project=row.project)}
    if waiver not in known:
        raise InvalidInputError(f"Release {uid} has no waiver {waiver[:80]!r}.", field="waiver")
    waivers.revoke(uow, waiver, project=row.project, reason=reason)
    try:
        after(State(row.state), Move.CHECK)
    except ConflictError:
        return to_release(uow, row, whole=True)
    return service.judge_again(uow, row)


def _require_unmet(uow: UnitOfWork, row: Row[Any], policy: str, rule: str) -> None:
    check = latest_check(uow, row.uid)
    if policy == BREAK_GLASS:
        raise InvalidInputError("A review is closed, not waived.", hint="`everline release review`.", field="policy")
    found = {(one.policy, item.name): item for one in check.verdicts for item in one.rules} if check else {}
    known = found.get((policy, rule))
    if known is None:
        unmet = [f"{by} {name}" for (by, name), item in found.items() if not item.stands]
        raise InvalidInputError(
            f"No policy in force named {policy!r} has a rule {rule!r} for this release.",
            hint=f"Not met are: {'; '.join(unmet) or 'none'}.",
            field="rule",
        )
    if known.stands:
        raise InvalidInputError(f"The rule {rule!r} lets this release through already.", field="rule")
