"""From approval to traffic and back: canary, promotion, rollback, each one step and one transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select, update

from everline.access.declare import act
from everline.access.types import SYSTEM, Permission
from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_json
from everline.clock import rfc3339
from everline.errors import ConflictError, InvalidInputError, StaleError
from everline.governance.signing import dsse_sign, server_key
from everline.releases import following, progress, tables
from everline.releases.gate import current_champion, require_intact, require_open
from everline.releases.rows import move, recording_refusals, require_row, to_champion, to_release
from everline.releases.states import Move, State, after
from everline.releases.types import Champion, Check, Release
from everline.serving import service as serving
from everline.serving.types import RevisionRole

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/svr/v0.1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
RELEASED = "EVERLINE_RELEASED"
BROKEN_GLASS = "EVERLINE_BREAK_GLASS"


@act
def start_canary(uow: UnitOfWork, uid: str) -> Release:
    """Let an approved release answer its plan's share of the traffic, beside the champion.

    Raises:
        GateClosedError: a policy no longer holds.
        StaleError: another champion answers than the one it was checked against.
        ConflictError: the endpoint has no champion, or another canary.
    """
    row = require_row(uow, uid, lock=True)
    with recording_refusals(uow, row, "canary"):
        uow.require(Permission.RELEASE_OPERATE, row.project)
        after(State(row.state), Move.START_CANARY)
        champion = _require_same_champion(uow, row)
        share = float(row.plan["canary_share"])
        if champion is None or share == 0.0:
            raise ConflictError(
                "There is nothing to stand beside: the endpoint has no champion, or the plan no canary.",
                hint=f"`everline release promote {uid}`.",
                field="plan.canary_share",
            )
        _refuse_other(uow, row, State.CANARY)
        require_intact(uow, row)
        row, check = require_open(uow, row)
    row, revision = _serve(uow, row, check)
    place(uow, row, champion, share=share, reason=f"canary of release {uid}")
    row = move(uow, row, Move.START_CANARY, revision=revision, share=share, champion=champion.package)
    progress.begin(uow, row)
    return to_release(uow, row, whole=True)


@act
def start_shadow(uow: UnitOfWork, uid: str, *, share: float = 1.0) -> Release:
    """Let an approved release answer a share of the requests beside the champion, without being heard.

    What it says is logged beside what was answered; nobody is told it.

    Args:
        share: part of the requests that it is asked too, above 0 to 1.

    Raises:
        GateClosedError: a policy no longer holds.
        StaleError: another champion answers than the one it was checked against.
        ConflictError: the endpoint has no champion, or another shadow.
        InvalidInputError: the share is out of range.
    """
    row = require_row(uow, uid, lock=True)
    with recording_refusals(uow, row, "shadow"):
        uow.require(Permission.RELEASE_OPERATE, row.project)
        after(State(row.state), Move.START_SHADOW)
        if not 0.0 < share <= 1.0:
            raise InvalidInputError(
                f"A shadow cannot be asked {share:g} of the requests.", hint="Give above 0 to 1.", field="share"
            )
        if _require_same_champion(uow, row) is None:
            raise ConflictError(
                "There is nothing to shadow: the endpoint has no champion.", hint=f"`everline release promote {uid}`."
            )
        _refuse_other(uow, row, State.SHADOW)
        require_intact(uow, row)
        row, check = require_open(uow, row)
    row, revision = _serve(uow, row, check)
    _put_beside(uow, row, share=share, reason=f"shadow of release {uid}")
    return to_release(uow, move(uow, row, Move.START_SHADOW, revision=revision, share=share), whole=True)


def _put_beside(uow: UnitOfWork, row: Row[Any], *, share: float | None, reason: str) -> None:
    """Put a shadow beside whoever answers, or take it away; nobody else's share moves."""
    found = serving.get_endpoint(uow, row.endpoint, project=row.project, lock=True)
    placements = {one.revision: (one.role, one.share) for one in found.revisions if one.revision != row.revision}
    if share is not None:
        placements[row.revision] = (RevisionRole.SHADOW, share)
    primary = next((one.revision for one in found.revisions if one.role is RevisionRole.PRIMARY), None)
    serving.set_traffic(
        uow, placements, project=row.project, endpoint=row.endpoint, reason=reason,
        warm=None if primary is None else _before(uow, primary),
    )  # fmt: skip


def _answer(
    uow: UnitOfWork, row: Row[Any], placements: dict[str, serving.Placement], *, reason: str, warm: str | None
) -> None:
    """Say who answers; shadows of other releases stay beside them."""
    found = serving.get_endpoint(uow, row.endpoint, project=row.project, lock=True)
    beside = {
        one.revision: (one.role, one.share)
        for one in found.revisions
        if one.role is RevisionRole.SHADOW and one.revision not in (row.revision, *placements)
    }
    serving.set_traffic(
        uow, {**placements, **beside}, project=row.project, endpoint=row.endpoint, reason=reason, warm=warm
    )


def place(uow: UnitOfWork, row: Row[Any], champion: Champion, *, share: float, reason: str) -> None:
    """Divide the requests between champion and canary; asks for the permission to operate releases.

    Args:
        share: the canary's, above 0 and below 1.
    """
    placements = {
        champion.revision: (RevisionRole.PRIMARY, 1.0 - share),
        row.revision: (RevisionRole.CANARY, share),
    }
    _answer(uow, row, placements, reason=reason, warm=_before(uow, champion.revision))


@act
def promote(uow: UnitOfWork, uid: str) -> Release:
    """Let a release answer everything: compare-and-set on the champion that it was compared with.

    An approved release with a canary in its plan is promoted from its canary; the first release of an
    endpoint, and one without a canary in its plan, directly.

    Raises:
        StaleError: the champion changed since the comparison was made; nothing is changed.
        GateClosedError: a policy no longer holds.
        ConflictError: it is not approved, or its plan asks for a canary first.
    """
    row = require_row(uow, uid, lock=True)
    with recording_refusals(uow, row, "promote"):
        uow.require(Permission.RELEASE_OPERATE, row.project)
        after(State(row.state), Move.PROMOTE)
        champion = _require_same_champion(uow, row)
        if row.state != State.CANARY.value and champion is not None and row.plan["canary_share"] > 0:
            raise ConflictError(
                f"The plan of release {uid} asks for a canary of {row.plan['canary_share']:.0%} first.",
                hint=f"`everline release canary {uid}`, watch it with `everline release watch {uid}`, then promote.",
                field="plan.canary_share",
            )
        _refuse_hurry(uow, row)
        _refuse_other(uow, row, State.CANARY)
        require_intact(uow, row)
        row, check = require_open(uow, row)
    return to_release(uow, bring_live(uow, row, check, champion), whole=True)


def bring_live(
    uow: UnitOfWork,
    row: Row[Any],
    check: Check,
    champion: Champion | None,
    *,
    step: Move = Move.PROMOTE,
    reason: str = "",
) -> Row[Any]:
    """Give a release all of the endpoint's requests, in the champion's place; whoever calls has judged it."""
    move_name = "promotion" if step is Move.PROMOTE else "broken glass"
    if step is Move.BREAK_GLASS:
        _end_canary(uow, row, f"release {row.uid} broke the glass")
    row, revision = _serve(uow, row, check, glass=step is Move.BREAK_GLASS)
    before = champion.revision if champion else None
    reached = {revision: (RevisionRole.PRIMARY, 1.0)}
    _answer(uow, row, reached, reason=f"{move_name} of release {row.uid}", warm=before)
    following.champion_changed(
        uow, project=row.project, endpoint=row.endpoint, version=row.model_version, release=row.uid
    )
    previous = None if champion is None else champion.revision
    uow.conn.execute(update(tables.release).where(tables.release.c.uid == row.uid).values(previous=previous))
    if champion is not None:
        old = require_row(uow, champion.release, lock=True)
        move(uow, old, Move.SUPERSEDE, reason=f"superseded by release {row.uid}")
    return move(uow, row, step, reason=reason, revision=revision, previous=previous)


@act
def rollback(uow: UnitOfWork, uid: str, *, reason: str) -> Release:
    """Take a release back: the champion answers everything again, or the revision before it does.

    Args:
        reason: why, for whoever reads it; 1 to 2,000 characters.

    Raises:
        ConflictError: the release is not live, or there was nothing before it.
        InvalidInputError: there is no reason.
    """
    row = require_row(uow, uid, lock=True)
    with recording_refusals(uow, row, "rollback"):
        uow.require(Permission.RELEASE_OPERATE, row.project)
    check_reason(reason, what="A rollback")
    after(State(row.state), Move.ROLL_BACK)
    champion = current_champion(uow, row.project, row.endpoint, lock=True)
    if row.state == State.SHADOW.value:
        _put_beside(uow, row, share=None, reason=f"rollback of release {uid}: {reason}")
        return to_release(uow, move(uow, row, Move.ROLL_BACK, reason=reason), whole=True)
    if row.state == State.CANARY.value:
        if champion is None:
            raise ConflictError(f"The endpoint {row.endpoint!r} has no champion to go back to.")
        target = champion.revision
    else:
        if row.previous is None:
            raise ConflictError(
                f"Nothing answered {row.endpoint!r} before release {uid}.",
                hint="Release another version; it replaces this one.",
            )
        target = row.previous
        _end_canary(uow, row, f"its champion was rolled back: {reason}")
        before = uow.conn.execute(select(tables.release).where(tables.release.c.revision == target)).one()
        require_intact(uow, before)
        move(uow, before, Move.RESTORE, reason=f"rollback of release {uid}: {reason}", revision=target)
        following.champion_changed(
            uow, project=row.project, endpoint=row.endpoint, version=before.model_version, release=before.uid
        )
    why, back = f"rollback of release {uid}: {reason}", {target: (RevisionRole.PRIMARY, 1.0)}
    _answer(uow, row, back, reason=why, warm=_before(uow, target))
    return to_release(uow, move(uow, row, Move.ROLL_BACK, reason=reason, restored=target), whole=True)


def check_reason(reason: str, *, what: str) -> str:
    """Return a reason that can be read later.

    Raises:
        InvalidInputError: there is none, or too much of it.
    """
    if not 1 <= len(reason.strip()) <= 2000 or "\0" in reason:
        raise InvalidInputError(f"{what} needs a reason.", hint="Say why, in 1 to 2,000 characters.", field="reason")
    return reason.strip()


def _before(uow: UnitOfWork, revision: str) -> str | None:
    """What a rollback of this revision would go back to: data planes keep it loaded."""
    query = select(tables.release.c.previous).where(tables.release.c.revision == revision)
    return uow.conn.execute(query).scalar()


def _require_same_champion(uow: UnitOfWork, row: Row[Any]) -> Champion | None:
    now = current_champion(uow, row.project, row.endpoint, lock=True)
    then = to_champion(row.champion)
    if (now and now.revision) != (then and then.revision):
        names = [f"{one.model}/{one.version}" if one else "nothing" for one in (then, now)]
        raise StaleError(
            f"Release {row.uid} was checked against {names[0]}, and {names[1]} answers {row.endpoint!r} now.",
            hint=f"Compare with the new champion, then `everline release check {row.uid}`.",
            field="champion",
        )
    return now


def _refuse_hurry(uow: UnitOfWork, row: Row[Any]) -> None:
    """People approved a plan with its steps: what its guards have not seen yet is not promoted past them."""
    found = progress.find(uow, row.uid)
    if row.state != State.CANARY.value or found is None or progress.is_last(row, found):
        return
    known = progress.to_rollout(row, found)
    if known.step + 1 == known.steps and found.readings and uow.actor.uid == SYSTEM.uid:
        return
    raise ConflictError(
        f"Release {row.uid} is at step {known.step} of {known.steps} of its plan, and goes on by itself.",
        hint=f"`everline release show {row.uid}` says what it waits for; to go faster, release with another plan.",
        field="plan.steps",
    )


def _refuse_other(uow: UnitOfWork, row: Row[Any], state: State) -> None:
    other = _beside(uow, row, state)
    if other is not None:
        raise ConflictError(
            f"The endpoint {row.endpoint!r} has a {state.value} already: release {other.uid}.",
            hint=f"Promote it, or `everline release rollback {other.uid}`.",
            field="endpoint",
        )


def _end_canary(uow: UnitOfWork, row: Row[Any], reason: str) -> None:
    other = _beside(uow, row, State.CANARY)
    if other is not None:
        move(uow, other, Move.ROLL_BACK, reason=reason)


def _beside(uow: UnitOfWork, row: Row[Any], state: State) -> Row[Any] | None:
    """Another release to the same endpoint that is in a state of which there is one at a time."""
    column = tables.release.c
    query = select(tables.release).where(
        column.project == row.project,
        column.endpoint == row.endpoint,
        column.state == state.value,
        column.uid != row.uid,
    )
    return uow.conn.execute(query).first()


def _serve(uow: UnitOfWork, row: Row[Any], check: Check, *, glass: bool = False) -> tuple[Row[Any], str]:
    """Put the release behind its endpoint, unless its canary did so; return its row and revision."""
    if row.revision is not None:
        return row, row.revision
    revision = serving.add_revision(
        uow,
        project=row.project,
        endpoint=row.endpoint,
        release=row.uid,
        model=row.model,
        version=row.version,
        model_version=row.model_version,
        package=row.package,
        signature=row.signature,
        statement=sign_statement(uow, row, check, glass=glass),
    )
    column = tables.release.c
    uow.conn.execute(update(tables.release).where(column.uid == row.uid).values(revision=revision))
    return uow.conn.execute(select(tables.release).where(column.uid == row.uid)).one(), revision


def sign_statement(uow: UnitOfWork, row: Row[Any], check: Check, *, glass: bool = False) -> dict[str, Any]:
    """The release decision as an in-toto statement, signed: data planes load nothing without it.

    Source: in-toto Statement v1 and the simple verification result predicate, github.com/in-toto/attestation.
    """
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": f"{row.model}/{row.version}", "digest": {"sha256": row.package.removeprefix("sha256:")}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "verifier": {"id": "everline"},
            "timeVerified": rfc3339(check.at),
            "properties": [RELEASED, *([BROKEN_GLASS] if glass else [])],
            "project": row.project,
            "endpoint": row.endpoint,
            "release": row.uid,
            "releaseDigest": row.digest,
            "policies": {one.policy: one.digest for one in check.verdicts},
            "evidence": {one.kind: one.digest for one in check.evidence},
            "waivers": [rule.waiver.uid for one in check.verdicts for rule in one.rules if rule.waiver is not None],
        },
    }
    return dsse_sign(server_key(uow.settings), PAYLOAD_TYPE, canonical_json(statement))
