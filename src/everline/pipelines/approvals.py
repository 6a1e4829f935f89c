"""Questions of runs to people, and their answers.

Rules:
1. A question is asked once for what it shows: shown another result, it is another question.
2. Whoever holds the role in the project may answer, and admins; not whoever started the run, if others must.
3. An answer is final, and leaves an audit event with its reason.
4. When a run that waits has all its answers, it goes on by itself where a worker finds its code.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select, update

from everline.access.declare import act, read
from everline.access.types import Permission, Role
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from everline.ids import check_digest, new_uid
from everline.jobs import queue
from everline.pipelines import running, tables
from everline.pipelines.types import JOB_KIND, QUEUE, ApprovalRecord, Asked
from everline.pipelines.values import Approval

REASON_CHARS_MAX = 2_000


@act
def ask(uow: UnitOfWork, project: str, run: str, *, asked: Asked) -> Approval | None:
    """Ask a question, or look for its answer; None while there is none.

    Raises:
        NotFoundError: no such run.
        InvalidInputError: no such role.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    if asked.role not in set(Role):
        raise InvalidInputError(f"There is no role {asked.role[:40]!r}.", field="role")
    known = tables.pipeline_approval.c
    query = select(tables.pipeline_approval).where(
        known.run == run, known.step == asked.step, known.material == check_digest(asked.material, field="material")
    )
    row = uow.conn.execute(query).first()
    if row is not None:
        uow.unchanged()
        return _answer(row)
    pipeline = running.get(uow, project, run).pipeline
    uow.conn.execute(
        tables.pipeline_approval.insert().values(
            uid=new_uid(), project=project, run=run, pipeline=pipeline, step=asked.step, question=asked.question,
            role=asked.role, others=asked.others, material=asked.material, shown=asked.shown,
            asked_by=uow.actor.name, asked_by_uid=uow.actor.uid, asked_at=uow.clock.now(), reason="",
        )
    )  # fmt: skip
    uow.record(
        "pipeline.ask", subject=f"run:{run}", project=project, step=asked.step, role=asked.role,
        question=asked.question, material=asked.material,
    )  # fmt: skip
    return None


@act
def answer(uow: UnitOfWork, project: str, run: str, *, step: str, approved: bool, reason: str = "") -> ApprovalRecord:
    """Answer a question of a run.

    Args:
        reason: at most 2,000 characters; a no needs one.

    Raises:
        NotFoundError: nobody asked.
        ForbiddenError: the actor lacks the role, or started the run where others must answer.
        ConflictError: it is answered.
    """
    uow.require(Permission.PIPELINE_READ, project)
    known = tables.pipeline_approval
    query = select(known).where(known.c.project == project, known.c.run == run, known.c.step == step)
    row = uow.conn.execute(query.order_by(known.c.uid.desc()).limit(1).with_for_update()).first()
    if row is None:
        raise NotFoundError(
            f"Run {run[:80]} asked nobody at a step {step[:80]!r}.", hint="`everline approvals list` shows questions."
        )
    held = uow.actor.roles_in(project)
    if Role(row.role) not in held and Role.ADMIN not in held:
        uow.refuse("pipeline.answer", subject=f"run:{run}", project=project, step=step, role=row.role)
        raise ForbiddenError(
            f"{uow.actor.name} may not answer {step!r}: it asks for the role {row.role}.",
            hint="Ask somebody who holds it, or an admin for the role: `everline roles grant`.",
        )
    if row.others and row.asked_by_uid == uow.actor.uid:
        uow.refuse("pipeline.answer", subject=f"run:{run}", project=project, step=step, role=row.role)
        raise ForbiddenError(
            f"{uow.actor.name} started this run, and {step!r} asks for somebody else.", hint="Four eyes are wanted."
        )
    if row.answered_at is not None:
        said = "yes" if row.approved else "no"
        raise ConflictError(f"{row.answered_by} has said {said} to {step!r} already.", field="step")
    if not approved and not reason.strip():
        raise InvalidInputError("A no needs a reason.", hint="Say what must change.", field="reason")
    if len(reason) > REASON_CHARS_MAX:
        raise InvalidInputError(f"A reason has at most {REASON_CHARS_MAX} characters.", field="reason")
    uow.conn.execute(
        update(known)
        .where(known.c.uid == row.uid)
        .values(approved=approved, answered_by=uow.actor.name, answered_at=uow.clock.now(), reason=reason)
    )
    uow.record(
        "pipeline.answer", subject=f"run:{run}", project=project, step=step, role=row.role, approved=approved,
        reason=reason, material=row.material,
    )  # fmt: skip
    _go_on(uow, project, run, pipeline=row.pipeline)
    return _public(uow.conn.execute(select(known).where(known.c.uid == row.uid)).one())


@read
def list_approvals(
    uow: UnitOfWork, project: str, *, run: str | None = None, open_only: bool = False, limit: int = 100
) -> list[ApprovalRecord]:
    """The newest questions first, of one run or of all."""
    uow.require(Permission.PIPELINE_READ, project)
    known = tables.pipeline_approval.c
    query = select(tables.pipeline_approval).where(known.project == project)
    if run is not None:
        query = query.where(known.run == run)
    if open_only:
        query = query.where(known.answered_at.is_(None))
    rows = uow.conn.execute(query.order_by(known.uid.desc()).limit(max(1, min(limit, uow.settings.page_items_max))))
    return [_public(row) for row in rows]


def _go_on(uow: UnitOfWork, project: str, run: str, *, pipeline: str) -> None:
    known = tables.pipeline_approval.c
    if uow.conn.execute(select(known.uid).where(known.run == run, known.answered_at.is_(None)).limit(1)).first():
        return
    directory = running.resumable_directory(uow, run)
    if directory is None:
        return
    payload = {"pipeline": pipeline, "directory": directory, "parameters": {}, "reason": "answered", "resume": run}
    count = len(list_approvals(uow, project, run=run, limit=1_000))
    queue.enqueue(uow, JOB_KIND, payload, project=project, queue=QUEUE, key=f"pipeline.resume:{run}:{count}")


def _answer(row: Row[Any]) -> Approval | None:
    if row.answered_at is None:
        return None
    return Approval(approved=row.approved, by=row.answered_by, role=row.role, reason=row.reason)


def _public(row: Row[Any]) -> ApprovalRecord:
    return ApprovalRecord(
        run=row.run, pipeline=row.pipeline, step=row.step, question=row.question, role=row.role, others=row.others,
        shown=row.shown, asked_by=row.asked_by, asked_at=row.asked_at, approved=row.approved,
        answered_by=row.answered_by, answered_at=row.answered_at, reason=row.reason,
    )  # fmt: skip
