"""Releases: opened, checked under policy, decided by people. What happens to traffic is in `rollout`.

The rules that hold here:
    1. A release is about one exact package. Its digest, signature and files are verified when it is opened,
       when it is approved and each time before it gets traffic.
    2. Its state moves only along `states`; each move leaves history and an audit event.
    3. Missing evidence is unknown, and unknown blocks.
    4. Neither the author of the version nor whoever opened the release may approve it; that they tried is recorded.
    5. An approval binds to the release's digest, the champion that it is to replace included: a new champion
       asks for a new comparison and a new decision.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from everline.governance import approvals, audit
from everline.governance.types import GateState
from everline.ids import check_name, check_uid, new_uid
from everline.models import service as models
from everline.releases import tables
from everline.releases.deletion import require_kept
from everline.releases.gate import explain, judge, require_intact
from everline.releases.plans import check_plan, get_plan
from everline.releases.rows import digest_of, move, recording_refusals, require_row, to_release
from everline.releases.scanning import ensure_scanned
from everline.releases.states import PENDING, Move, State, after
from everline.releases.types import Check, Plan, Release
from everline.serving import service as serving

_REASON_CHARACTERS_MAX = 2000
_AFTER_CHECK = {
    GateState.BLOCKED: Move.BLOCK,
    GateState.AWAITING_APPROVAL: Move.ASK,
    GateState.OPEN: Move.ALLOW,
    GateState.REJECTED: Move.REJECT,
}


@act
def create(
    uow: UnitOfWork, *, project: str, endpoint: str, model: str, version: int | str, plan: Plan | None = None
) -> Release:
    """Open a release of one model version to one endpoint, and judge it at once.

    Args:
        endpoint: created if it is new.
        version: a number, `@alias` or `latest`; the release is bound to the package behind it now.
        plan: None follows the endpoint's own plan, and without one begins with a canary of 10 %.

    Raises:
        InvalidInputError: the version has no package of ours, or the plan cannot be followed.
        ConflictError: a release of this package to this endpoint is already on its way, or live.
        IntegrityError: the package does not match its digest or signature.
    """
    uow.require(Permission.RELEASE_CREATE, project)
    check_name(endpoint, field="endpoint")
    plan = check_plan(plan or get_plan(uow, endpoint, project=project) or Plan())
    found = models.get_version(uow, project, model, version)
    if found.package is None or found.signature is None:
        raise InvalidInputError(
            f"{found.model}/{found.version} has no signed package, so it cannot be released.",
            hint="Register it from an Everline package: `el.candidate(…)` in a pipeline.",
            field="version",
        )
    require_kept(uow, found.uid)
    _refuse_second(uow, project, endpoint, found.package)
    now = uow.clock.now()
    row = {
        "uid": new_uid(), "project": project, "endpoint": endpoint, "model": found.model, "version": found.version,
        "model_version": found.uid, "package": found.package, "signature": found.signature,
        "author": found.author, "author_name": found.author_name,
        "created_by": uow.actor.uid, "created_by_name": uow.actor.name, "created_at": now, "updated_at": now,
        "plan": msgspec.to_builtins(plan), "state": State.DRAFT.value,
    }  # fmt: skip
    row["digest"] = digest_of(SimpleNamespace(**row), None)
    _ensure_endpoint(uow, project, endpoint)
    uow.conn.execute(insert(tables.release).values(**row))
    audit.record(
        uow, "release.create", subject=f"release:{row['uid']}", project=project, endpoint=endpoint,
        model=found.model, version=found.version, package=found.package, digest=row["digest"], plan=row["plan"],
    )  # fmt: skip
    made = require_row(uow, str(row["uid"]))
    require_intact(uow, made)
    ensure_scanned(uow, made)
    return check(uow, str(row["uid"]))


def _refuse_second(uow: UnitOfWork, project: str, endpoint: str, package: str) -> None:
    column = tables.release.c
    query = select(column.uid, column.state).where(
        column.project == project,
        column.endpoint == endpoint,
        column.package == package,
        column.state.in_([state.value for state in PENDING | {State.PROMOTED}]),
    )
    found = uow.conn.execute(query).first()
    if found is not None:
        raise ConflictError(
            f"This package already has a release to {endpoint!r}: {found.uid}, {found.state.replace('_', ' ')}.",
            hint=f"`everline release show {found.uid}`.",
            field="version",
        )


def _ensure_endpoint(uow: UnitOfWork, project: str, endpoint: str) -> None:
    try:
        serving.get_endpoint(uow, endpoint, project=project)
    except NotFoundError:
        serving.create_endpoint(uow, endpoint, project=project)


@read
def get(uow: UnitOfWork, uid: str) -> Release:
    """A release with its newest verdicts, decisions and history."""
    return to_release(uow, require_row(uow, uid), whole=True)


@read
def list_releases(
    uow: UnitOfWork,
    *,
    project: str,
    endpoint: str | None = None,
    state: State | None = None,
    before: str | None = None,
    limit: int = 100,
) -> list[Release]:
    """The project's releases, newest first, without their verdicts.

    Args:
        before: a release; only older ones. The last of a page fetches the next page.
        limit: 1 to `page_items_max`.
    """
    uow.require(Permission.RELEASE_READ, project)
    column = tables.release.c
    query = select(tables.release).where(column.project == project)
    if endpoint is not None:
        query = query.where(column.endpoint == check_name(endpoint, field="endpoint"))
    if state is not None:
        query = query.where(column.state == State(state).value)
    if before is not None:
        query = query.where(column.uid < check_uid(before, field="before"))
    rows = uow.conn.execute(
        query.order_by(column.uid.desc()).limit(max(1, min(limit, uow.settings.page_items_max)))
    ).all()
    return [to_release(uow, row, whole=False) for row in rows]


@act
def check(uow: UnitOfWork, uid: str) -> Release:
    """Judge a release again, on the evidence, the champion and the policies of now.

    Raises:
        ConflictError: it is already serving, or ended.
    """
    row = require_row(uow, uid, lock=True)
    if not uow.actor.may(Permission.RELEASE_CREATE, row.project):
        uow.require(Permission.RELEASE_OPERATE, row.project)
    return judge_again(uow, row)


def judge_again(uow: UnitOfWork, row: Row[Any]) -> Release:
    """Judge a release whose row is locked, and move it to where its gate says."""
    row = move(uow, row, Move.CHECK)
    row, found = judge(uow, row)
    row = move(uow, row, _AFTER_CHECK[found.gate], reason=_why(found), **_seen(found))
    return to_release(uow, row, whole=True)


@act
def approve(uow: UnitOfWork, uid: str, *, meaning: str = "reviewer", reason: str = "") -> Release:
    """Say yes to exactly this release; when policy has all the decisions that it asks for, it is approved.

    Args:
        meaning: reviewer, validator or owner.

    Raises:
        ForbiddenError: the actor made the version or opened the release, or may not approve; this is recorded.
        ConflictError: it does not wait for approval, or this person has decided already.
        IntegrityError: the package was changed.
    """
    row = require_row(uow, uid, lock=True)
    with recording_refusals(uow, row, "approve"):
        _refuse_own(uow, row)
        uow.require(Permission.RELEASE_APPROVE, row.project)
        after(State(row.state), Move.APPROVE)
        require_intact(uow, row)
        approvals.record(
            uow,
            subject=f"release:{row.uid}",
            project=row.project,
            digest=row.digest,
            decision="approve",
            meaning=meaning,
            reason=_check_reason(reason),
            author=[row.author, row.created_by],
        )
    row, found = judge(uow, row)
    if found.gate is GateState.OPEN:
        row = move(uow, row, Move.APPROVE, reason=reason, **_seen(found))
    elif found.gate is not GateState.AWAITING_APPROVAL:
        row = move(uow, row, Move.CHECK)
        row = move(uow, row, _AFTER_CHECK[found.gate], reason=_why(found), **_seen(found))
    return to_release(uow, row, whole=True)


@act
def reject(uow: UnitOfWork, uid: str, *, reason: str, meaning: str = "reviewer") -> Release:
    """Say no to a release, for good.

    Raises:
        InvalidInputError: a no needs a reason.
    """
    row = require_row(uow, uid, lock=True)
    with recording_refusals(uow, row, "reject"):
        uow.require(Permission.RELEASE_APPROVE, row.project)
        if not _check_reason(reason):
            raise InvalidInputError(
                "A rejection needs a reason.", hint="Say why, for whoever reads it.", field="reason"
            )
        after(State(row.state), Move.REJECT)
        approvals.record(
            uow,
            subject=f"release:{row.uid}",
            project=row.project,
            digest=row.digest,
            decision="reject",
            meaning=meaning,
            reason=_check_reason(reason),
            author=[row.author, row.created_by],
        )
    return to_release(uow, move(uow, row, Move.REJECT, reason=reason), whole=True)


def _refuse_own(uow: UnitOfWork, row: Row[Any]) -> None:
    """Said before anything about roles: no role would help."""
    made, opened = uow.actor.uid == row.author, uow.actor.uid == row.created_by
    if made or opened:
        what = " and ".join(
            text for text, is_so in (("made this version", made), ("opened this release", opened)) if is_so
        )
        raise ForbiddenError(
            f"{uow.actor.name} {what}, and may not approve it: four eyes are needed, and these would be the same two.",
            hint="Ask another person with the role approver.",
        )


def _check_reason(reason: str) -> str:
    if len(reason) > _REASON_CHARACTERS_MAX or "\0" in reason:
        raise InvalidInputError(
            f"A reason has at most {_REASON_CHARACTERS_MAX} characters, none of them zero.",
            hint="Link to the rest.",
            field="reason",
        )
    return reason.strip()


def _why(found: Check) -> str:
    return "" if found.gate is GateState.OPEN else explain(found.verdicts)[:_REASON_CHARACTERS_MAX]


def _seen(found: Check) -> dict[str, object]:
    """What goes into the audit log about a judgement: whoever reads it can fetch the rest by digest."""
    return {
        "policies": {one.policy: {"digest": one.digest, "outcome": one.outcome.value} for one in found.verdicts},
        "evidence": {one.kind: one.digest for one in found.evidence},
        "waived": [rule.waiver.uid for one in found.verdicts for rule in one.rules if rule.waiver is not None],
        "change": None if found.change is None else found.change.kind.value,
    }
