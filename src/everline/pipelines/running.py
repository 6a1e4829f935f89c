"""Who runs a run: its driver, for as long as that gives signs of life.

Rules:
1. A run has at most one driver. Another may take it when the lease has run out, when the driver is known to be gone, or
   when the run waits for people or has failed.
2. Each driver has an epoch. A report with another epoch than the run's is refused: whoever was taken for dead and is
   not learns it here, before it can record anything.
3. Whoever cancels a run that has a driver leaves word for it; a run without a living driver ends at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, func, select, update

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, InvalidInputError, NotFoundError, StaleError
from everline.ids import check_uid, new_uid
from everline.pipelines import tables
from everline.pipelines.types import (
    PLAN_MAX,
    Orders,
    PipelineRun,
    PlannedStep,
    PrintedPiece,
    RunState,
    Started,
    StartRun,
    StepOutput,
    StepStatus,
)
from everline.runs import service as runs
from everline.runs.types import RunStatus
from everline.storage.db import select_rows, upsert
from everline.storage.schema import microseconds

_HEARD = (
    "SELECT p.epoch, p.driver, p.state, p.cancelled_by, p.lease_until, r.status "
    "FROM pipeline_run p JOIN run r ON r.uid = p.run WHERE p.run = ? AND p.project = ?"
)
_OPEN = (RunStatus.RUNNING.value, RunStatus.SCHEDULED.value)


@act
def start(uow: UnitOfWork, project: str, run: str, *, body: StartRun) -> Started:
    """Make a driver the one that runs a run, for the first time or to go on where another stopped.

    Raises:
        NotFoundError: no such run in the project.
        ConflictError: the run came to its end, or another driver is alive.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    if len(body.plan) > PLAN_MAX:
        raise InvalidInputError(f"A plan shows at most {PLAN_MAX} steps, not {len(body.plan)}.", field="plan")
    found = runs.get_run(uow, project, run)
    if found.status is RunStatus.FINISHED:
        raise ConflictError(f"Run {run} came to its end.", hint="Start another run.", field="run")
    row = uow.conn.execute(
        select(tables.pipeline_run).where(tables.pipeline_run.c.run == run).with_for_update()
    ).first()
    alive = row is not None and row.state == RunState.RUNNING and row.lease_until > uow.clock.now()
    if row is not None and alive and body.replaces != row.driver:
        raise ConflictError(
            f"Run {run} is at work: {row.driver} runs it, and was heard of a moment ago.",
            hint="Wait for it, or cancel it: `everline runs cancel`.",
            field="run",
        )
    epoch = 1 if row is None else row.epoch + 1
    values = {
        "run": run, "project": project, "pipeline": body.pipeline, "state": RunState.RUNNING, "driver": body.driver,
        "directory": body.directory, "epoch": epoch, "lease_until": _lease(uow), "cancelled_by": None,
        "plan": msgspec.to_builtins(body.plan),
    }  # fmt: skip
    upsert(uow.conn, tables.pipeline_run, [values], keys=["run"], update=[name for name in values if name != "run"])
    if found.status is not RunStatus.RUNNING:
        runs.update_run(uow, project, run, status=RunStatus.RUNNING)
    uow.record(
        "pipeline.start", subject=f"run:{run}", project=project, pipeline=body.pipeline, driver=body.driver, epoch=epoch
    )
    return Started(epoch=epoch)


@act
def stop(uow: UnitOfWork, project: str, run: str, *, epoch: int, status: RunStatus) -> None:
    """A driver is done with a run: it ended, or (`scheduled`) it waits for people.

    Raises:
        StaleError: another driver has the run.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    row = _require(uow, project, run)
    if row.epoch != epoch:
        raise _replaced(run, row.driver)
    waits = status is RunStatus.SCHEDULED
    _set(uow, run, state=RunState.WAITING if waits else RunState.ENDED, lease_until=uow.clock.now())
    if waits:
        runs.update_run(uow, project, run, status=status)
    else:
        runs.finish_run(uow, project, run, status=status)
    uow.record("pipeline.stop", subject=f"run:{run}", project=project, status=status)


@act
def cancel(uow: UnitOfWork, project: str, run: str) -> PipelineRun:
    """Have a run stopped at once, with all its processes; what it kept stays kept.

    Raises:
        ConflictError: it has ended.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    row = _require(uow, project, run)
    if row.state == RunState.ENDED:
        raise ConflictError(f"Run {run} has ended.", field="run")
    alive = row.state == RunState.RUNNING and row.lease_until > uow.clock.now()
    _set(uow, run, cancelled_by=uow.actor.name)
    uow.record("pipeline.cancel", subject=f"run:{run}", project=project, driver=row.driver if alive else None)
    if not alive:
        now, step = uow.clock.now(), tables.pipeline_step
        open_ = step.c.status.in_([StepStatus.RUNNING, StepStatus.WAITING])
        uow.conn.execute(
            update(step)
            .where(step.c.project == project, step.c.run == run, open_)
            .values(status=StepStatus.CANCELLED, ended_at=now, reason="the run was cancelled")
        )
        _set(uow, run, state=RunState.ENDED)
        runs.finish_run(uow, project, run, status=RunStatus.KILLED)
    return _public(_require(uow, project, run))


@read
def get(uow: UnitOfWork, project: str, run: str) -> PipelineRun:
    """A run of a pipeline as the engine sees it."""
    uow.require(Permission.PIPELINE_READ, project)
    return _public(_require(uow, project, run))


@read
def output(
    uow: UnitOfWork, project: str, run: str, *, step: str, after: str = "", limit: int = 1_000
) -> list[PrintedPiece]:
    """What a step printed, piece by piece.

    Args:
        step: uid of the step.
        after: uid of the last piece that is known already.
    """
    uow.require(Permission.PIPELINE_READ, project)
    _require(uow, project, run)
    out = tables.pipeline_output.c
    query = select(out.uid, out.at, out.text).where(out.run == run, out.step == step, out.uid > after)
    rows = uow.conn.execute(query.order_by(out.uid).limit(max(1, min(limit, uow.settings.page_items_max))))
    return [PrintedPiece(uid=row.uid, at=row.at, text=row.text) for row in rows]


def heard(uow: UnitOfWork, project: str, run: str, *, epoch: int) -> Orders:
    """A sign of life of a run's driver; asks for no permission.

    Raises:
        StaleError: it is not the run's driver any more, or the run has ended.
    """
    found = select_rows(uow.conn, _HEARD, (run, project))
    if not found:
        raise _unknown(run)
    current, driver, state, cancelled_by, lease_until, status = found[0]
    if current != epoch:
        raise _replaced(run, driver)
    if status not in _OPEN or state == RunState.ENDED:
        raise StaleError(f"Run {run} has ended ({status}), so it takes no more steps.", hint="Start another run.")
    until = _lease(uow)
    if microseconds(until) - lease_until > uow.settings.pipeline_lease_s * 250_000:  # a quarter of it is over
        _set(uow, run, lease_until=until)
    return Orders(cancel=cancelled_by)


def keep_output(uow: UnitOfWork, run: str, pieces: Sequence[StepOutput]) -> None:
    """Keep what steps printed, as far as there is room; asks for no permission."""
    if not pieces:
        return
    out, now = tables.pipeline_output, uow.clock.now()
    joined: dict[str, str] = {}
    for piece in pieces:
        step = check_uid(piece.uid, field="output.uid")
        joined[step] = joined.get(step, "") + piece.text.replace("\0", "")  # PostgreSQL keeps no zero in a text
    kept = uow.conn.execute(
        select(out.c.step, func.sum(func.length(out.c.text)).label("chars"))
        .where(out.c.run == run, out.c.step.in_(list(joined)))
        .group_by(out.c.step)
    )
    used = {row.step: int(row.chars) for row in kept}
    most = uow.settings.step_output_bytes_max + 200  # the driver's own word on what it left out
    rows = [
        {"uid": new_uid(), "run": run, "step": step, "at": now, "text": text[: most - used.get(step, 0)]}
        for step, text in joined.items()
        if used.get(step, 0) < most
    ]
    if rows:
        uow.conn.execute(out.insert(), rows)


def resumable_directory(uow: UnitOfWork, run: str) -> str | None:
    """Where a worker finds the code of a run that waits for people; None if it does not wait."""
    row = uow.conn.execute(select(tables.pipeline_run).where(tables.pipeline_run.c.run == run)).first()
    return row.directory or None if row is not None and row.state == RunState.WAITING else None


def _lease(uow: UnitOfWork) -> Any:
    return uow.clock.now() + timedelta(seconds=uow.settings.pipeline_lease_s)


def _set(uow: UnitOfWork, run: str, **values: Any) -> None:
    uow.conn.execute(update(tables.pipeline_run).where(tables.pipeline_run.c.run == run).values(**values))


def _require(uow: UnitOfWork, project: str, run: str) -> Row[Any]:
    known = tables.pipeline_run
    row = uow.conn.execute(select(known).where(known.c.run == run, known.c.project == project)).first()
    if row is None:
        raise _unknown(run)
    return row


def _unknown(run: str) -> NotFoundError:
    return NotFoundError(
        f"There is no run {run[:80]!r} of a pipeline.", hint="`everline runs list` shows them.", field="run"
    )


def _replaced(run: str, driver: str) -> StaleError:
    return StaleError(
        f"Run {run} has another driver now: {driver}.", hint="Stop this one: its work is being done elsewhere."
    )


def _public(row: Row[Any]) -> PipelineRun:
    return PipelineRun(
        run=row.run, pipeline=row.pipeline, state=RunState(row.state), driver=row.driver, directory=row.directory,
        epoch=row.epoch, lease_until=row.lease_until, cancelled_by=row.cancelled_by,
        plan=msgspec.convert(row.plan, tuple[PlannedStep, ...]),
    )  # fmt: skip
