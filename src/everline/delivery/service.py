"""The law of delivery as code: a plan says what would change, and applying it does exactly that or nothing.

Rules that hold here:
1. Everything that a file changes is one transaction: other services make each change, under their own rules and
   permissions and with their own audit events; one event more names the file and the plan.
2. A plan is applied only as long as it is true: what it read is compared again, inside the transaction.
3. After it, everything is as declared. A second application finds nothing to do; that is checked each time.
4. Secrets pass through. Neither a plan, nor the history, nor the audit log holds one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import delete, select

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.delivery import history, tables
from everline.delivery.declaration import Declaration
from everline.delivery.kinds.kind import FourEyed, Removable, Scope, differences
from everline.delivery.planning import (
    KINDS,
    Planned,
    Step,
    address_errors,
    kept_things,
    make_plan,
    missing_permissions,
    state_of,
)
from everline.delivery.preview import preview
from everline.delivery.reading import read_source
from everline.delivery.types import Action, Drifted, Plan, Record, Source, Stack
from everline.errors import ConflictError, EverlineError, ForbiddenError, InvalidInputError, StaleError
from everline.storage.db import upsert

PATH_CHARACTERS_MAX = 1_000
_NAMED_MAX = 5


@read
def plan(uow: UnitOfWork, source: Source, *, project: str, environment: Mapping[str, str] | None = None) -> Plan:
    """What applying a file would do, with what its changed policies would say of live versions and open releases.

    Args:
        environment: values of the variables that the file names; without them secrets are taken to be what they were.

    Raises:
        InvalidInputError: the file is wrong; says where, and what was probably meant.
        ForbiddenError: the actor may not see one of the kinds that it declares.
        ConflictError: another stack declares one of its things.
    """
    uow.require(Permission.DELIVERY_READ, project)
    declaration = _declaration(source)
    planned = make_plan(_scope(uow, project, source, environment), declaration, source=source)
    return msgspec.structs.replace(planned.plan, preview=preview(uow, project, planned.steps))


@act
def apply(
    uow: UnitOfWork,
    source: Source,
    *,
    project: str,
    environment: Mapping[str, str] | None = None,
    expected: Plan | None = None,
) -> Record | None:
    """Make everything as the file declares it; None if it is so already.

    Args:
        environment: values of the variables that the file names.
        expected: a plan; nothing is done unless it still is what would be done.

    Raises:
        StaleError: something that the plan rests on was changed since; names it.
        ForbiddenError: a permission is missing; names the first, and the change that needs it.
        EverlineError: a change cannot be made; names it. Nothing is changed then.
    """
    uow.require(Permission.DELIVERY_WRITE, project)
    declaration = _declaration(source)
    _lock(uow, project, declaration.stack)
    scope = _scope(uow, project, source, environment)
    planned = make_plan(scope, declaration, source=source)
    with _recording_refusals(uow, project, declaration.stack):
        if expected is not None:
            _require_true(planned.plan, expected, source)
        _require_power(scope, planned.steps)
    if not planned.steps:
        uow.unchanged()
        return None
    seen = preview(uow, project, planned.steps)
    for step in planned.steps:
        try:
            _do(scope, step, state=planned.plan.states[step.change.address])
        except EverlineError as error:
            raise address_errors(error, f"{step.change.address}: ") from error
    _keep(scope, declaration, planned)
    _require_done(uow, project, source, environment, declaration)
    made = msgspec.structs.replace(planned.plan, preview=seen)
    uid = history.add(uow, made, what="apply", project=project)
    uow.record(
        "delivery.apply", subject=f"delivery:{uid}", project=project, stack=declaration.stack, path=source.path[:300],
        source=planned.plan.source_digest, plan=planned.plan.digest, serial=planned.plan.serial + 1,
        counts=history.counts(planned.plan.changes), changed=[step.change.address for step in planned.steps][:1_000],
    )  # fmt: skip
    return history.get_record(uow, uid, project=project)


@read
def list_stacks(uow: UnitOfWork, *, project: str) -> list[Stack]:
    """The files that were applied, by the names of their stacks."""
    uow.require(Permission.DELIVERY_READ, project)
    column = tables.stack.c
    rows = uow.conn.execute(select(tables.stack).where(column.project == project).order_by(column.name)).all()
    kept = kept_things(Scope(uow, project, {}))
    return [
        Stack(
            name=row.name, serial=row.serial, path=row.path, source_digest=row.source_digest, applied_at=row.at,
            applied_by=row.actor_name, things=sum(one.stack == row.name for one in kept.values()),
        )
        for row in rows
        if row.serial > 0
    ]  # fmt: skip


@read
def drift(uow: UnitOfWork, *, project: str, stack: str | None = None) -> list[Drifted]:
    """Everything that is declared beside what is, what drifted first.

    Things of kinds that the actor may not see are named and not compared.
    """
    uow.require(Permission.DELIVERY_READ, project)
    scope = Scope(uow, project, {})
    found = []
    for (section, name), kept in sorted(kept_things(scope).items()):
        if stack is not None and kept.stack != stack:
            continue
        about: dict[str, Any] = {"address": f"{section}.{name}", "kind": section, "name": name, "stack": kept.stack}
        if not history.visible(uow, project, section):
            found.append(Drifted(**about, state="hidden"))
            continue
        try:
            compared = KINDS[section].compare(scope, name, kept.spec, kept.spec)
        except EverlineError as error:
            found.append(Drifted(**about, state="drifted", note=error.message))
            continue
        fields = differences(compared)
        state = "missing" if compared.real is None else "drifted" if fields else "same"
        found.append(Drifted(**about, state=state, fields=[] if state == "missing" else fields))
    order = ("missing", "drifted", "same", "hidden")
    return sorted(found, key=lambda one: (order.index(one.state), one.address))


def _declaration(source: Source) -> Declaration:
    if not source.path.strip() or len(source.path) > PATH_CHARACTERS_MAX or not source.path.isprintable():
        raise InvalidInputError(f"The file's name has 1 to {PATH_CHARACTERS_MAX:,} characters.", field="source.path")
    return read_source(source)


def _scope(uow: UnitOfWork, project: str, source: Source, environment: Mapping[str, str] | None) -> Scope:
    return Scope(uow, project, environment or {}, path=source.path)


def _lock(uow: UnitOfWork, project: str, stack: str) -> None:
    """Whoever applies a file of this project at the same time waits here."""
    row = {
        "project": project, "name": stack, "serial": 0, "path": "", "source_digest": "", "at": uow.clock.now(),
        "actor_name": uow.actor.name,
    }  # fmt: skip
    upsert(uow.conn, tables.stack, [row], keys=["project", "name"])
    column = tables.stack.c
    query = select(column.name).where(column.project == project).order_by(column.name).with_for_update()
    uow.conn.execute(query).all()


def _require_true(now: Plan, expected: Plan, source: Source) -> None:
    if now.digest == expected.digest:
        return
    hint = "Make a new plan, read it, and apply that."
    if (expected.project, expected.stack) != (now.project, now.stack):
        raise InvalidInputError(
            f"The plan is for the stack {expected.stack!r} of project {expected.project!r}, not for {now.stack!r} of "
            f"{now.project!r}.", field="plan",
        )  # fmt: skip
    if expected.source_digest != now.source_digest:
        raise StaleError(f"{source.path}, or a file it refers to, is another than the plan was made of.", hint=hint)
    moved = sorted(
        address
        for address in {*now.states, *expected.states}
        if now.states.get(address) != expected.states.get(address)
    )
    if moved:
        more = f" and {len(moved) - _NAMED_MAX} more" if len(moved) > _NAMED_MAX else ""
        raise StaleError(
            f"Since the plan was made, somebody changed {', '.join(moved[:_NAMED_MAX])}{more}. Nothing was applied.",
            hint=hint,
        )
    if expected.serial != now.serial:
        raise StaleError(
            f"The stack {now.stack!r} was applied since the plan was made. Nothing was applied.", hint=hint
        )
    raise StaleError(
        "The plan is not what would be done now: variables of the environment differ, or it was edited.", hint=hint
    )


def _require_power(scope: Scope, steps: list[Step]) -> None:
    for step, permission in missing_permissions(scope, steps):
        raise ForbiddenError(
            f"{scope.uow.actor.name} may not do this: {step.change.address} ({step.change.action.value}) needs "
            f"{permission.value}. Nothing was applied.",
            hint="Ask an admin for a role that includes it, or to apply the file.",
        )


@contextmanager
def _recording_refusals(uow: UnitOfWork, project: str, stack: str) -> Iterator[None]:
    """A plan that is no longer true, or a change beyond one's power, is in the audit log although nothing was done."""
    try:
        yield
    except (StaleError, ForbiddenError) as error:
        uow.refuse("delivery.refuse", subject=f"stack:{stack}", project=project, reason=error.message[:500])
        raise


def _do(scope: Scope, step: Step, *, state: str) -> None:
    """Make one change; `state` is what the plan saw, compared once more: on PostgreSQL others write meanwhile."""
    kind, name = KINDS[step.change.kind], step.change.name
    compared = kind.compare(scope, name, step.spec or step.before or {}, step.before)
    if state_of(scope, step.change.address, compared) != state:
        raise StaleError("somebody changes it at this moment. Nothing was applied.", hint="Make a new plan.")
    if step.change.action in (Action.CREATE, Action.CHANGE) and step.spec is not None:
        kind.put(scope, name, step.spec, step.before)
    elif step.change.action is Action.REMOVE and step.before is not None and isinstance(kind, Removable):
        kind.remove(scope, name, step.before)


def _keep(scope: Scope, declaration: Declaration, planned: Planned) -> None:
    uow, thing, now = scope.uow, tables.thing, scope.uow.clock.now()
    rows = []
    for step in planned.steps:
        kind, name = step.change.kind, step.change.name
        if step.spec is None:
            where = (thing.c.project == scope.project, thing.c.kind == kind, thing.c.name == name)
            uow.conn.execute(delete(thing).where(*where))
        else:
            rows.append(
                {
                    "project": scope.project, "kind": kind, "name": name, "stack": declaration.stack,
                    "spec": step.spec, "fingerprints": scope.fingerprints.get(step.change.address, {}), "at": now,
                }
            )  # fmt: skip
    upsert(uow.conn, thing, rows, keys=["project", "kind", "name"], update=["stack", "spec", "fingerprints", "at"])
    row = {
        "project": scope.project, "name": declaration.stack, "serial": planned.plan.serial + 1,
        "path": planned.plan.path, "source_digest": planned.plan.source_digest, "at": now,
        "actor_name": uow.actor.name,
    }  # fmt: skip
    changes = ["serial", "path", "source_digest", "at", "actor_name"]
    upsert(uow.conn, tables.stack, [row], keys=["project", "name"], update=changes)


def _waits(scope: Scope, step: Step) -> bool:
    """Whether a change is asked for, and done as soon as a second person agrees."""
    kind = KINDS[step.change.kind]
    return isinstance(kind, FourEyed) and kind.waits(scope, step.change.name)


def _require_done(
    uow: UnitOfWork,
    project: str,
    source: Source,
    environment: Mapping[str, str] | None,
    declaration: Declaration,
) -> None:
    """Plan again: a thing that is not as declared now was changed by somebody in between, or is ours to mend."""
    scope = _scope(uow, project, source, environment)
    left = [step for step in make_plan(scope, declaration, source=source).steps if not _waits(scope, step)]
    if left:
        first = left[0].change
        what = ", ".join(one.field for one in first.fields[:3]) or first.action.value
        raise ConflictError(
            f"{first.address} is not as declared after all ({what}). Nothing was applied.",
            hint="Somebody may have changed it at the same moment: apply again.",
        )
