"""What applying a file would do: each declared thing beside the real one, and what is declared no longer.

Rules that hold here:
1. Only what this stack declared once is removed; what was made by hand stays, also under the same kind.
2. A thing belongs to one stack: two files that both say how it shall be would undo each other for ever.
3. Things are made in the order of the file's tables and removed the other way round, so that what refers to others
   comes after them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import select

from everline.access.types import ALL_PROJECTS, Permission
from everline.canonical import canonical_digest
from everline.delivery import tables
from everline.delivery.declaration import TABLES, Declaration, Declared
from everline.delivery.kinds.datasets import Datasets
from everline.delivery.kinds.endpoints import Endpoints
from everline.delivery.kinds.kind import Compared, Kind, Removable, Scope, Spec, differences, plain
from everline.delivery.kinds.monitors import Monitors
from everline.delivery.kinds.pipelines import Pipelines
from everline.delivery.kinds.policies import Policies
from everline.delivery.kinds.roles import Roles
from everline.delivery.kinds.schedules import Schedules
from everline.delivery.kinds.webhooks import Webhooks
from everline.delivery.types import Action, Change, Plan, Source
from everline.errors import ConflictError, EverlineError

KINDS: dict[str, Kind] = {
    kind.section: kind
    for kind in (Datasets(), Pipelines(), Policies(), Endpoints(), Webhooks(), Monitors(), Schedules(), Roles())
}
_ORDER = list(TABLES)


@dataclass(frozen=True)
class Step:
    """One change with what it takes to do it; `spec` is None for what is declared no longer."""

    change: Change
    spec: Spec | None
    before: Spec | None


@dataclass(frozen=True)
class Planned:
    """A plan, and its steps in the order in which they are done."""

    plan: Plan
    steps: list[Step]


@dataclass(frozen=True)
class Kept:
    """What is declared already."""

    stack: str
    spec: Spec


def kept_things(scope: Scope) -> dict[tuple[str, str], Kept]:
    """Everything that is declared in the project, by kind and name; the scope learns the fingerprints."""
    rows = scope.uow.conn.execute(select(tables.thing).where(tables.thing.c.project == scope.project)).all()
    for row in rows:
        if row.fingerprints:
            scope.fingerprints[f"{row.kind}.{row.name}"] = row.fingerprints
    return {(row.kind, row.name): Kept(row.stack, row.spec) for row in rows}


def make_plan(scope: Scope, declaration: Declaration, *, source: Source) -> Planned:
    """Compare a file with what is.

    Raises:
        ForbiddenError: the actor may not see one of the kinds that the file declares.
        ConflictError: another stack declares one of the things.
        EverlineError: a thing cannot be as it is declared; names it and its line.
    """
    kept = kept_things(scope)
    mine = {key: one for key, one in kept.items() if one.stack == declaration.stack}
    for kind in {*(thing.kind for thing in declaration.things), *(kind for kind, _ in mine)}:
        _require(scope, KINDS[kind].reads, everywhere=KINDS[kind].everywhere)
    for thing in declaration.things:
        owner = kept.get((thing.kind, thing.name))
        if owner is not None and owner.stack != declaration.stack:
            raise ConflictError(
                f"{_place(source, thing)}{thing.address} is declared by the stack {owner.stack!r} already.",
                hint="Declare it in one file; remove it from the other and apply that first.",
            )
    states: dict[str, str] = {}
    declared = {(thing.kind, thing.name) for thing in declaration.things}
    gone = sorted((key for key in mine if key not in declared), key=lambda key: (-_ORDER.index(key[0]), key[1]))
    steps = [_removal(scope, kind, name, mine[kind, name], states) for kind, name in gone]
    unchanged = 0
    for thing in declaration.things:
        known = mine.get((thing.kind, thing.name))
        step = _comparison(scope, thing, None if known is None else known.spec, states, source=source)
        steps += [] if step is None else [step]
        unchanged += step is None
    return Planned(_plan(scope, declaration, source, steps, states=states, unchanged=unchanged), steps)


def missing_permissions(scope: Scope, steps: list[Step]) -> Iterator[tuple[Step, Permission]]:
    """What the actor lacks for the steps, the first needed first."""
    for step in steps:
        kind = KINDS[step.change.kind]
        if not scope.uow.actor.may(kind.writes, ALL_PROJECTS if kind.everywhere else scope.project):
            yield step, kind.writes


def address_errors(error: EverlineError, where: str) -> EverlineError:
    """The same error, saying which thing it is about."""
    error.message = f"{where}{error.message}"
    error.args = (error.message,)
    return error


def _comparison(
    scope: Scope, thing: Declared, before: Spec | None, states: dict[str, str], *, source: Source
) -> Step | None:
    kind = KINDS[thing.kind]
    try:
        compared = kind.compare(scope, thing.name, thing.spec, before)
    except EverlineError as error:
        raise address_errors(error, f"{_place(source, thing)}{thing.address}: ") from error
    states[thing.address] = state_of(scope, thing.address, compared)
    fields, note = differences(compared), compared.note
    if compared.real is None:
        action = Action.CREATE
    elif fields:
        action = Action.CHANGE
    elif before is None:
        action, note = Action.ADOPT, "made by hand, and as declared: it belongs to this stack from now on"
    elif before != thing.spec:
        action, note = Action.ADOPT, note or "is so already; only what is declared changes"
    else:
        return None
    change = Change(
        address=thing.address, kind=thing.kind, name=thing.name, action=action, fields=fields, line=thing.line,
        origin=thing.origin, permission=kind.writes.value, note=note,
    )  # fmt: skip
    return Step(change, thing.spec, before)


def _removal(scope: Scope, section: str, name: str, known: Kept, states: dict[str, str]) -> Step:
    kind, address = KINDS[section], f"{section}.{name}"
    compared = kind.compare(scope, name, known.spec, known.spec)
    states[address] = state_of(scope, address, compared)
    action, note = Action.REMOVE, ""
    if compared.real is None:
        action, note = Action.FORGET, "is gone already"
    elif not isinstance(kind, Removable):
        action, note = Action.FORGET, "stays as it is: a file never removes it"
    change = Change(address=address, kind=section, name=name, action=action, permission=kind.writes.value, note=note)
    return Step(change, None, known.spec)


def state_of(scope: Scope, address: str, compared: Compared) -> str:
    """What tells the real state of a thing from others, and gives none of it away."""
    return scope.fingerprint(address, None if compared.real is None else plain(compared.real))


def _require(scope: Scope, permission: Permission, *, everywhere: bool) -> None:
    if everywhere:
        scope.uow.require_anywhere(permission)
    else:
        scope.uow.require(permission, scope.project)


def _place(source: Source, thing: Declared) -> str:
    row = f" ({thing.origin})" if thing.origin else ""
    return f"{source.path}:{thing.line}{row}: " if thing.line else ""


def _plan(
    scope: Scope,
    declaration: Declaration,
    source: Source,
    steps: list[Step],
    *,
    states: dict[str, str],
    unchanged: int,
) -> Plan:
    column = tables.stack.c
    query = select(column.serial).where(column.project == scope.project, column.name == declaration.stack)
    serial = int(scope.uow.conn.execute(query).scalar() or 0)
    changes = [step.change for step in steps]
    source_digest = canonical_digest({"text": source.text, "files": source.files})
    rests_on: dict[str, Any] = {
        "project": scope.project, "stack": declaration.stack, "serial": serial, "source": source_digest,
        "states": states, "changes": msgspec.to_builtins(changes),
    }  # fmt: skip
    return Plan(
        project=scope.project,
        stack=declaration.stack,
        path=source.path,
        digest=canonical_digest(rests_on),
        source_digest=source_digest,
        serial=serial,
        states=states,
        at=scope.uow.clock.now(),
        changes=changes,
        unchanged=unchanged,
        missing=list(dict.fromkeys(permission.value for _, permission in missing_permissions(scope, steps))),
        variables=[name for name in declaration.variables if not scope.environment.get(name)],
    )
