"""Release rows: reading them, moving them, and noticing when somebody changed one behind our back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update

from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_digest
from everline.clock import rfc3339
from everline.errors import (
    ForbiddenError,
    GateClosedError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StaleError,
)
from everline.governance import approvals, audit, waivers
from everline.ids import check_uid, new_uid
from everline.releases import progress, tables
from everline.releases.states import Move, State, after, moves_of_people
from everline.releases.types import Champion, Check, Release, Transition


def require_row(uow: UnitOfWork, uid: str, *, lock: bool = False) -> Row[Any]:
    """The row of a release that the actor may see.

    Raises:
        NotFoundError: there is none.
        IntegrityError: what it asks for is no longer what was asked for.
    """
    try:
        query = select(tables.release).where(tables.release.c.uid == check_uid(uid))
    except InvalidInputError:
        raise _no_release(uid) from None
    row = uow.conn.execute(query.with_for_update() if lock else query).first()
    if row is None:
        uow.checks += 1
        raise _no_release(uid)
    if not uow.actor.roles_in(row.project):
        raise _no_release(uid)
    uow.require(Permission.RELEASE_READ, row.project)
    if digest_of(row, row.champion) != row.digest:
        raise IntegrityError(
            f"The record of release {uid} was altered: it no longer has the digest that it was checked under.",
            hint="Compare it with the audit log: `everline audit log`. Open a new release.",
        )
    return row


def digest_of(row: Any, champion: dict[str, Any] | None) -> str:
    """Name what a release asks for: which package, to which endpoint, how, in whose place."""
    return canonical_digest({
        "schema": 1,
        "release": row.uid,
        "project": row.project,
        "endpoint": row.endpoint,
        "model": row.model,
        "version": row.version,
        "model_version": row.model_version,
        "package": row.package,
        "signature": row.signature,
        "author": row.author,
        "created_by": row.created_by,
        "created_at": rfc3339(row.created_at),
        "plan": row.plan,
        "champion": champion and champion["package"],
    })  # fmt: skip


def move(uow: UnitOfWork, row: Row[Any], step: Move, *, reason: str = "", **data: Any) -> Row[Any]:
    """Take one step of the state machine, with its history and its audit event; return the new row.

    Raises:
        ConflictError: the step is not possible from the row's state.
        StaleError: somebody else took a step in between.
    """
    before = State(row.state)
    target = after(before, step)
    now = uow.clock.now()
    column = tables.release.c
    changed = uow.conn.execute(
        update(tables.release)
        .where(column.uid == row.uid, column.state == before.value)
        .values(state=target.value, updated_at=now)
    )
    if changed.rowcount != 1:
        raise StaleError(f"Release {row.uid} changed in between.", hint="Look again: `everline release show`.")
    uow.conn.execute(
        insert(tables.release_transition).values(
            uid=new_uid(),
            release=row.uid,
            at=now,
            actor=uow.actor.uid,
            actor_name=uow.actor.name,
            move=step.value,
            before=before.value,
            after=target.value,
            reason=reason,
        )
    )
    audit.record(
        uow, f"release.{step.value}", subject=f"release:{row.uid}", project=row.project,
        endpoint=row.endpoint, model=row.model, version=row.version, package=row.package, before=before.value,
        after=target.value, reason=reason, **data,
    )  # fmt: skip
    return uow.conn.execute(select(tables.release).where(column.uid == row.uid)).one()


@contextmanager
def recording_refusals(uow: UnitOfWork, row: Row[Any], attempt: str) -> Iterator[None]:
    """Leave an audit event when the gate says no to what was tried, although nothing else is kept of it."""
    try:
        yield
    except (ForbiddenError, GateClosedError, StaleError, IntegrityError) as error:
        uow.refuse(
            "release.refuse", subject=f"release:{row.uid}", project=row.project,
            attempt=attempt, code=error.code, reason=error.message, digest=row.digest,
        )  # fmt: skip
        raise


def to_release(uow: UnitOfWork, row: Row[Any], *, whole: bool) -> Release:
    """The row as a value; `whole` adds check, approvals and history."""
    known = {
        name: getattr(row, name)
        for name in Release.__struct_fields__
        if name not in ("plan", "state", "champion", "next", "rollout", "check", "approvals", "waivers", "history")
    }
    state = State(row.state)
    under_way = progress.find(uow, row.uid) if row.revision is not None else None
    found = Release(
        **known,
        plan=progress.plan_of(row),
        state=state,
        champion=to_champion(row.champion),
        next=[step for step in moves_of_people(state) if _fits_plan(row, step, under_way)],
        rollout=None if under_way is None else progress.to_rollout(row, under_way),
    )
    if not whole:
        return found
    return msgspec.structs.replace(
        found,
        check=latest_check(uow, row.uid),
        approvals=approvals.list_approvals(uow, subject=found.subject, project=row.project, digest=None),
        waivers=waivers.list_waivers(uow, subject=found.subject, project=row.project),
        history=transitions(uow, row.uid),
    )


def _fits_plan(row: Row[Any], step: Move, under_way: Row[Any] | None) -> bool:
    """Whether a step belongs to this release's plan: a canary needs a share, and a champion to stand beside."""
    if row.state == State.CANARY.value and step is Move.PROMOTE and under_way is not None:
        return progress.is_last(row, under_way)
    if step is Move.START_SHADOW:
        return row.champion is not None
    if row.state not in (State.APPROVED.value, State.SHADOW.value) or step not in (Move.START_CANARY, Move.PROMOTE):
        return True
    canary_first = row.champion is not None and row.plan["canary_share"] > 0
    return canary_first == (step is Move.START_CANARY)


def to_champion(value: dict[str, Any] | None) -> Champion | None:
    """A champion as it is kept in a row."""
    return None if value is None else msgspec.convert(value, Champion)


def latest_check(uow: UnitOfWork, release: str, *, until: Any = None) -> Check | None:
    """The newest judgement of a release, or the newest not after a moment."""
    column = tables.release_check.c
    query = select(tables.release_check).where(column.release == release)
    if until is not None:
        query = query.where(column.at <= until)
    row = uow.conn.execute(query.order_by(column.uid.desc()).limit(1)).first()
    return None if row is None else msgspec.convert(_values(row, Check), Check)


def transitions(uow: UnitOfWork, release: str) -> list[Transition]:
    """What happened to a release, oldest first."""
    column = tables.release_transition.c
    rows = uow.conn.execute(select(tables.release_transition).where(column.release == release).order_by(column.uid))
    return [msgspec.convert(_values(row, Transition), Transition) for row in rows]


def _values(row: Row[Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in kind.__struct_fields__}


def _no_release(uid: str) -> NotFoundError:
    return NotFoundError(f"There is no release {uid}.", hint="`everline release list` shows them.", field="release")
