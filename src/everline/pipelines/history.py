"""What people look at: the steps of a run in outline, the tail of what a step printed, the past of a pipeline.

Everything here has a limit, and is light: key material and results are read of one step alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import func, or_, select

from everline.access.declare import read
from everline.access.types import Permission, Role
from everline.access.unit_of_work import UnitOfWork
from everline.errors import NotFoundError
from everline.pipelines import service, tables
from everline.pipelines.types import PrintedPiece, RunState, StepRecord, StepStatus
from everline.runs.tables import run as run_table
from everline.runs.types import RunStatus, from_ms

OUTLINES_MAX = 20_000
"""Most steps of one run that are read for a picture."""
RUNS_PER_PIPELINE_MAX = 100
PIPELINES_MAX = 200
DURATIONS_MAX = 40_000
_TAIL_PIECES = 4_000
_OPEN = (RunStatus.RUNNING.value, RunStatus.SCHEDULED.value)


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """A step in a few words; the fields are those of `StepRecord`.

    Attributes:
        problem: type of the error, or empty.
    """

    uid: str
    name: str
    position: int
    status: StepStatus
    started_at: datetime
    ended_at: datetime | None
    attempts: int
    reason: str
    needs: tuple[str, ...] = ()
    problem: str = ""


class Outlines(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of a run.

    Attributes:
        steps: of each name the newest record, in the order of the graph; the first 20,000.
        total: how many records there are.
        lost: earlier records of the same names: a driver died over them, and another did them again.
    """

    steps: list[Outline]
    total: int
    lost: list[Outline]


class PastRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a pipeline, with how its steps ended.

    Attributes:
        state: whether it is at work; None for a run that no driver ever had.
        seconds: from start to end, or None while it goes on; a wait for people is part of it.
        steps: how many steps by status.
    """

    run: str
    name: str
    status: RunStatus
    state: RunState | None
    started_at: datetime
    seconds: float | None
    steps: dict[str, int] = {}

    @property
    def cached_share(self) -> float | None:
        """Cached steps among those that gave a result; None without any."""
        cached, ran = self.steps.get(StepStatus.CACHED, 0), self.steps.get(StepStatus.SUCCEEDED, 0)
        return cached / (cached + ran) if cached + ran else None


class PipelinePast(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline with its newest runs, the newest first.

    Attributes:
        total: how many runs it has in all.
    """

    name: str
    total: int
    runs: list[PastRun]


class StepSpan(msgspec.Struct, frozen=True, kw_only=True):
    """How long one step of one run took."""

    run: str
    name: str
    status: StepStatus
    seconds: float


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """The end of what a step printed.

    Attributes:
        pieces: in order.
        cut: there is more before them.
    """

    pieces: list[PrintedPiece]
    cut: bool


@read
def outlines(uow: UnitOfWork, project: str, run: str) -> Outlines:
    """The steps of a run in outline; none for a run of another project."""
    uow.require(Permission.PIPELINE_READ, project)
    step = tables.pipeline_step.c
    mine = (step.project == project) & (step.run == run)
    total = uow.conn.execute(select(func.count()).select_from(tables.pipeline_step).where(mine)).scalar_one()
    query = select(
        step.uid, step.name, step.position, step.status, step.started_at, step.ended_at, step.attempts, step.reason,
        step.needs, step.error,
    )  # fmt: skip
    newest: dict[str, Outline] = {}
    lost: list[Outline] = []
    for row in uow.conn.execute(query.where(mine).order_by(step.position, step.uid).limit(OUTLINES_MAX)):
        found = Outline(
            uid=row.uid, name=row.name, position=row.position, status=StepStatus(row.status),
            started_at=row.started_at, ended_at=row.ended_at, attempts=row.attempts, reason=row.reason,
            needs=tuple(row.needs), problem=(row.error or {}).get("type", ""),
        )  # fmt: skip
        before = newest.get(found.name)
        if before is not None:
            lost.append(min(before, found, key=lambda one: one.uid))
            found = max(before, found, key=lambda one: one.uid)
        newest[found.name] = found
    return Outlines(steps=list(newest.values()), total=total, lost=lost)


@read
def get_step(uow: UnitOfWork, project: str, run: str, step: str) -> StepRecord:
    """One step of a run, by its uid.

    Raises:
        NotFoundError: the run has no such step.
    """
    uow.require(Permission.PIPELINE_READ, project)
    known = tables.pipeline_step.c
    query = select(tables.pipeline_step).where(known.project == project, known.run == run, known.uid == step)
    row = uow.conn.execute(query).first()
    if row is None:
        raise NotFoundError(f"Run {run[:80]} has no step {step[:80]!r}.", hint="Its page lists them.", field="step")
    return service.record_of(row)


@read
def tail(uow: UnitOfWork, project: str, run: str, *, step: str, characters: int) -> Tail:
    """The last so many characters that a step printed, in whole pieces."""
    get_step(uow, project, run, step)
    out = tables.pipeline_output.c
    query = select(out.uid, out.at, out.text).where(out.run == run, out.step == step).order_by(out.uid.desc())
    pieces: list[PrintedPiece] = []
    length, cut = 0, False
    for row in uow.conn.execute(query.limit(_TAIL_PIECES + 1)):
        if length >= characters or len(pieces) == _TAIL_PIECES:
            cut = True
            break
        pieces.append(PrintedPiece(uid=row.uid, at=row.at, text=row.text))
        length += len(row.text)
    return Tail(pieces=pieces[::-1], cut=cut)


@read
def waiting_for(uow: UnitOfWork, project: str) -> int:
    """How many open questions the actor may answer by a role."""
    uow.require(Permission.PIPELINE_READ, project)
    held = uow.actor.roles_in(project)
    asked = tables.pipeline_approval.c
    query = select(func.count()).select_from(tables.pipeline_approval)
    query = query.join(run_table, run_table.c.uid == asked.run)
    query = query.where(asked.project == project, asked.answered_at.is_(None), run_table.c.status.in_(_OPEN))
    if Role.ADMIN not in held:
        query = query.where(asked.role.in_([role.value for role in held]))
        query = query.where(or_(asked.others.is_(False), asked.asked_by_uid != uow.actor.uid))
    return int(uow.conn.execute(query).scalar_one())


@read
def not_ended(uow: UnitOfWork, project: str, *, runs: Sequence[str]) -> frozenset[str]:
    """Those of some runs that are at work or wait: a question of any other needs no answer any more."""
    uow.require(Permission.PIPELINE_READ, project)
    known = run_table.c
    query = select(known.uid).where(known.project == project, known.uid.in_(list(runs)), known.status.in_(_OPEN))
    return frozenset(uow.conn.execute(query).scalars())


@read
def list_past(uow: UnitOfWork, project: str, *, pipeline: str | None = None, runs: int = 20) -> list[PipelinePast]:
    """The pipelines that have run, the one that ran last first, each with its newest runs.

    Args:
        pipeline: of this one alone.
        runs: how many of each, at most 100.
    """
    uow.require(Permission.PIPELINE_READ, project)
    known = run_table.c
    wanted = [known.project == project, known.pipeline.is_not(None), known.deleted.is_(False)]
    if pipeline is not None:
        wanted.append(known.pipeline == pipeline)
    rank = func.row_number().over(
        partition_by=known.pipeline, order_by=(known.started_ms.desc(), known.id.desc())
    )  # fmt: skip
    total = func.count().over(partition_by=known.pipeline)
    columns = (known.uid, known.name, known.pipeline, known.status, known.started_ms, known.ended_ms)
    ranked = select(*columns, rank.label("rank"), total.label("total")).where(*wanted).subquery()
    state = tables.pipeline_run
    query = (
        select(ranked, state.c.state)
        .outerjoin(state, state.c.run == ranked.c.uid)
        .where(ranked.c.rank <= max(1, min(runs, RUNS_PER_PIPELINE_MAX)))
        .order_by(ranked.c.started_ms.desc(), ranked.c.uid.desc())
        .limit(PIPELINES_MAX * 20)
    )
    found = uow.conn.execute(query).all()
    steps = _counts(uow, project, [row.uid for row in found])
    past: dict[str, PipelinePast] = {}
    for row in found:
        of = past.setdefault(row.pipeline, PipelinePast(name=row.pipeline, total=row.total, runs=[]))
        of.runs.append(
            PastRun(
                run=row.uid, name=row.name, status=RunStatus(row.status),
                state=None if row.state is None else RunState(row.state), started_at=from_ms(row.started_ms),
                seconds=None if row.ended_ms is None else (row.ended_ms - row.started_ms) / 1000,
                steps=steps.get(row.uid, {}),
            )
        )  # fmt: skip
    return list(past.values())[:PIPELINES_MAX]


@read
def list_spans(uow: UnitOfWork, project: str, *, runs: Sequence[str]) -> list[StepSpan]:
    """How long the steps of some runs took; those that go on are left out, and of very many the last 40,000."""
    uow.require(Permission.PIPELINE_READ, project)
    step = tables.pipeline_step.c
    query = (
        select(step.run, step.name, step.status, step.started_at, step.ended_at)
        .where(step.project == project, step.run.in_(list(runs)), step.ended_at.is_not(None))
        .order_by(step.uid.desc())
        .limit(DURATIONS_MAX)
    )
    return [
        StepSpan(
            run=row.run, name=row.name, status=StepStatus(row.status),
            seconds=max(timedelta(), row.ended_at - row.started_at).total_seconds(),
        )
        for row in uow.conn.execute(query)
    ]  # fmt: skip


def _counts(uow: UnitOfWork, project: str, runs: Sequence[str]) -> dict[str, dict[str, int]]:
    step = tables.pipeline_step.c
    query = (
        select(step.run, step.status, func.count().label("steps"))
        .where(step.project == project, step.run.in_(list(runs)))
        .group_by(step.run, step.status)
    )
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for row in uow.conn.execute(query):
        found[row.run][row.status] = row.steps
    return {run: dict(counts) for run, counts in found.items()}
