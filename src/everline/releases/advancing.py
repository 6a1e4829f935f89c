"""Rollouts that go on, or back, by themselves: looked at by the control plane's worker, one transaction a look.

Each look locks the release and writes when the next one is due. With any number of replicas each look happens
once, and one that died in the middle of it has changed nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, Select, select

from everline.access.declare import act
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, EverlineError, InvalidInputError
from everline.monitoring.opening import open_for_endpoint
from everline.releases import guards, progress, tables
from everline.releases.plans import steps_of
from everline.releases.progress import ADVANCING, PAUSED, STALLED
from everline.releases.rollout import check_reason, place, promote, rollback
from everline.releases.rows import move, recording_refusals, require_row, to_champion, to_release, transitions
from everline.releases.states import Move, State
from everline.releases.steps import Step
from everline.releases.types import Champion, Guards, Reading, Release
from everline.serving import predictions

_SHARE_DIGITS = 6


# --- by itself ------------------------------------------------------------------------------------


def due(uow: UnitOfWork) -> list[str]:
    """The releases whose rollout is to be looked at now; takes no lock and asks for no permission."""
    return [row.uid for row in uow.conn.execute(_due(uow.clock.now()))]


def _due(now: datetime) -> Select[Any]:
    kept, column = tables.rollout.c, tables.release.c
    return (
        select(column.uid)
        .join(tables.rollout, kept.release == column.uid)
        .where(column.state == State.CANARY.value, kept.status == ADVANCING, kept.next_look <= now)
        .order_by(kept.next_look)
        .limit(100)
    )


def look(uow: UnitOfWork, uid: str) -> None:
    """Judge the guards of a rollout, then go on, back, or wait; the worker calls it, as the server itself."""
    row = require_row(uow, uid, lock=True)
    found = progress.find(uow, uid, lock=True)
    now = uow.clock.now()
    if found is None or row.state != State.CANARY.value or found.status != ADVANCING or found.next_look > now:
        return  # another replica was first, or a person
    champion = to_champion(row.champion)
    if champion is None:
        return
    counters = progress.add_up(found.counters, progress.counted(uow, row.project))
    readings = _read(uow, row, found, champion, counters["sums"])
    next_look = now + timedelta(seconds=uow.settings.rollout_look_s)
    progress.change(
        uow, uid, counters=counters, readings=msgspec.to_builtins(readings), looked_at=now, next_look=next_look
    )
    broken = [one for one in readings if one.verdict == guards.BROKEN]
    if broken:
        _go_back(uow, row, broken)
        return
    held = (now - found.since).total_seconds() >= _step(row, found).hold_s
    if held and not progress.is_last(row, found) and all(one.verdict == guards.HOLDS for one in readings):
        _go_on(uow, row, found, champion, readings)


def stumbled(uow: UnitOfWork, uid: str, *, error: str) -> None:
    """Note that a look failed, in a transaction of its own, and look again after a longer pause."""
    pause = timedelta(seconds=max(uow.settings.rollout_look_s, 30.0))
    progress.change(uow, uid, problem=error[:500], next_look=uow.clock.now() + pause)


def _read(
    uow: UnitOfWork, row: Row[Any], found: Row[Any], champion: Champion, sums: dict[str, list[int]]
) -> list[Reading]:
    plan = progress.plan_of(row)
    started = next(step.at for step in transitions(uow, row.uid) if step.after is State.CANARY)
    revisions = {"canary": row.revision, "champion": champion.revision}
    since = {name: _rows(uow, row, revisions, since=at) for name, at in (("step", found.since), ("all", started))}
    canary, old = (sums.get(revision, [0, 0]) for revision in (row.revision, champion.revision))
    return guards.judge(
        plan.guards or Guards(), canary=(canary[0], canary[1]), champion=(old[0], old[1]), rows=since["step"],
        labelled=since["all"],
    )  # fmt: skip


def _rows(uow: UnitOfWork, row: Row[Any], revisions: dict[str, str], *, since: datetime) -> dict[str, Any]:
    limit = min(uow.settings.rollout_rows_max, uow.settings.window_rows_max)
    table = predictions.newest(uow, row.endpoint, project=row.project, limit=limit, since=since)
    return {name: guards.of_revision(table, revision) for name, revision in revisions.items()}


def _step(row: Row[Any], found: Row[Any]) -> Step:
    return steps_of(progress.plan_of(row))[int(found.step)]


def _go_on(uow: UnitOfWork, row: Row[Any], found: Row[Any], champion: Champion, readings: list[Reading]) -> None:
    step, now = steps_of(progress.plan_of(row))[found.step + 1], uow.clock.now()
    told = "; ".join(f"{one.guard}: {one.text}" for one in readings)
    if step.share == 1.0:
        recorded = len(uow.events)
        try:
            with uow.conn.begin_nested():
                promote(uow, row.uid)
        except EverlineError as error:
            del uow.events[recorded:]
            # What the gate says now is for people: looked at again and again it would only fill the log.
            progress.change(uow, row.uid, status=STALLED, problem=error.message[:500])
        return
    place(uow, row, champion, share=step.share, reason=f"step {found.step + 2} of release {row.uid}")
    move(
        uow, row, Move.ADVANCE, reason=f"to {step.share:.4g} of the requests; every guard holds: {told}"[:2000],
        share=step.share, number=found.step + 2, readings=msgspec.to_builtins(readings),
    )  # fmt: skip
    counters = {"last": progress.counted(uow, row.project), "sums": {}}
    progress.change(uow, row.uid, step=found.step + 1, since=now, counters=counters, problem="")


def _go_back(uow: UnitOfWork, row: Row[Any], broken: list[Reading]) -> None:
    told = "; ".join(f"{one.guard}: {one.text}" for one in broken)
    rollback(uow, row.uid, reason=f"by its guards: {told}"[:2000])
    open_for_endpoint(
        uow, project=row.project, endpoint=row.endpoint, cause="rollout", about=row.uid,
        sentence=f"{row.model}/{row.version} was rolled back from {row.endpoint} by its guards: {told}"[:2000],
    )  # fmt: skip


# --- by people ------------------------------------------------------------------------------------


@act
def pause(uow: UnitOfWork, uid: str, *, reason: str) -> Release:
    """Keep a rollout at its step; the guards say nothing meanwhile.

    Raises:
        ConflictError: the release has no rollout that goes on.
    """
    row, found = _require_rollout(uow, uid, "pause")
    if found.status != ADVANCING:
        raise ConflictError(f"The rollout of release {uid} is {found.status} already.", field="status")
    progress.change(uow, uid, status=PAUSED, problem=check_reason(reason, what="A pause"))
    uow.record("release.pause", subject=f"release:{uid}", project=row.project, endpoint=row.endpoint, reason=reason)
    return to_release(uow, row, whole=True)


@act
def resume(uow: UnitOfWork, uid: str) -> Release:
    """Let a rollout go on from the beginning of its step, with that step's share.

    Raises:
        ConflictError: the release has no rollout, or it goes on already.
    """
    row, found = _require_rollout(uow, uid, "resume")
    champion = to_champion(row.champion)
    if found.status == ADVANCING or champion is None:
        raise ConflictError(f"The rollout of release {uid} goes on already.", field="status")
    place(uow, row, champion, share=_step(row, found).share, reason=f"release {uid} goes on")
    now = uow.clock.now()
    progress.change(
        uow, uid, status=ADVANCING, problem="", since=now, readings=[],
        next_look=now + timedelta(seconds=uow.settings.rollout_look_s),
        counters={"last": progress.counted(uow, row.project), "sums": {}},
    )  # fmt: skip
    uow.record("release.resume", subject=f"release:{uid}", project=row.project, endpoint=row.endpoint)
    return to_release(uow, row, whole=True)


@act
def set_share(uow: UnitOfWork, uid: str, *, share: float, reason: str = "") -> Release:
    """Move a canary's share by hand; a rollout with steps is paused by it, and may only be slowed down.

    Args:
        share: above 0 and below 1; with steps at most that of the step, for people approved the plan.

    Raises:
        InvalidInputError: the share is out of range.
        ConflictError: the release is no canary.
    """
    row = require_row(uow, uid, lock=True)
    with recording_refusals(uow, row, "share"):
        uow.require(Permission.RELEASE_OPERATE, row.project)
    champion, found = to_champion(row.champion), progress.find(uow, uid, lock=True)
    if row.state != State.CANARY.value or champion is None:
        raise ConflictError(
            f"Release {uid} is no canary, so that it has no share to move.",
            hint=f"`everline release canary {uid}` starts one.",
            field="state",
        )
    most = 1.0 if found is None else _step(row, found).share
    if not 0.0 < share <= most or share == 1.0:
        raise InvalidInputError(
            f"The canary of release {uid} cannot take {share:g} of the requests.",
            hint="Give more than 0 and less than 1."
            if found is None
            else f"Its plan, which people approved, allows {most:g} at this step; less is possible.",
            field="share",
        )
    share = round(share, _SHARE_DIGITS)
    place(uow, row, champion, share=share, reason=reason or f"by hand, release {uid}")
    row = move(uow, row, Move.ADVANCE, reason=f"to {share:.4g} of the requests by hand. {reason}".strip(), share=share)
    if found is not None and share != most:
        progress.change(uow, uid, status=PAUSED, problem="A person moved the share.")
    return to_release(uow, row, whole=True)


def _require_rollout(uow: UnitOfWork, uid: str, attempt: str) -> tuple[Row[Any], Row[Any]]:
    row = require_row(uow, uid, lock=True)
    with recording_refusals(uow, row, attempt):
        uow.require(Permission.RELEASE_OPERATE, row.project)
    found = progress.find(uow, uid, lock=True)
    if found is None or row.state != State.CANARY.value:
        raise ConflictError(
            f"Release {uid} has no rollout that could go on.",
            hint="One begins with the canary of a release whose plan has steps or guards.",
            field="state",
        )
    return row, found
