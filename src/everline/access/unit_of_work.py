"""The unit of work: one actor, one transaction, and what a service needs to do its work in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from everline.access import tables
from everline.access.types import Actor, Permission
from everline.clock import Clock
from everline.config import Settings
from everline.errors import ForbiddenError, NotFoundError
from everline.storage.blobs import BlobStore
from everline.storage.db import Database


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A state change as its author states it; the audit log gives it time, place and proof."""

    actor: str
    actor_name: str
    action: str
    subject: str
    project: str
    data: dict[str, Any]


class Memory:
    """What is true for good once it was committed, kept per process so that it is asked for once.

    Projects are never deleted, and a metric's name keeps its number. `UnitOfWork.remember` enters them.
    """

    ITEMS_MAX = 200_000

    def __init__(self) -> None:
        self.projects: dict[str, bool] = {}
        self.metric_keys: dict[str, int] = {}


class UnitOfWork:
    """What one request or job may use; it is committed once, at the edge, by `begin`.

    Blobs are written at once: they are immutable and named by content, so that one whose row was rolled
    back is garbage and never a lie.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        actor: Actor,
        blobs: BlobStore,
        clock: Clock,
        settings: Settings,
        memory: Memory | None = None,
        read_only: bool = False,
    ) -> None:
        self.conn = connection
        self.read_only = read_only
        """A reader: SQLite refuses it as a writer as soon as others have written meanwhile."""
        self.memory = memory or Memory()
        self._learnt: list[tuple[dict[Any, Any], Mapping[Any, Any]]] = []
        self.actor = actor
        self.blobs = blobs
        self.clock = clock
        self.settings = settings
        self.checks = 0
        """How many permissions were asked for; the service declarations look at it."""
        self.records = 0
        """How many audit events were recorded; the service declarations look at it."""
        self.events: list[Event] = []
        """What happened so far; the composition root hands it to the audit log when the work ends."""
        self.refusals: list[Event] = []
        """What was refused; it reaches the audit log even when the work fails and is rolled back."""

    def require(self, permission: Permission, project: str) -> None:
        """Let the actor pass, or refuse; every service function asks first.

        Raises:
            NotFoundError: the actor has no role in the project, or it does not exist: neither is told apart.
            ForbiddenError: the actor has roles there, and none that allows this.
        """
        self.checks += 1
        if not self.actor.roles_in(project):
            raise _no_project(project)
        if not self.actor.may(permission, project):
            held = ", ".join(sorted(self.actor.roles_in(project)))
            raise ForbiddenError(
                f"{self.actor.name} may not do this: {permission.value} is needed in project {project!r}, "
                f"and the role held there is {held}.",
                hint="Ask an admin for a role that includes it: `everline roles grant`.",
            )
        if project not in self.memory.projects:
            if self.conn.execute(select(tables.project.c.uid).where(tables.project.c.name == project)).first() is None:
                raise _no_project(project)
            self.remember(self.memory.projects, {project: True})

    def require_anywhere(self, permission: Permission) -> None:
        """Let an actor pass that holds the permission for all projects."""
        self.checks += 1
        if not self.actor.may(permission, "*"):
            raise ForbiddenError(
                f"{self.actor.name} may not do this: {permission.value} is needed for all projects.",
                hint="Ask an admin of the whole server.",
            )

    def record(self, action: str, *, subject: str, project: str, **data: Any) -> None:
        """Leave an audit event of this transaction.

        Args:
            action: a verb after a noun, such as "release.approve".
            subject: kind and identifier, such as "release:0192f5c4-…".
            data: JSON values that matter to a reader years from now; never a secret.
        """
        self.records += 1
        self.events.append(self._event(action, subject, project, data))

    def refuse(self, action: str, *, subject: str, project: str, **data: Any) -> None:
        """Leave an audit event of a refusal, which outlives the failure that the caller is about to raise.

        It is written after the rollback, in a transaction of its own: a second one inside the first would
        wait for the first for ever on a database with one writer.
        """
        self.refusals.append(self._event(action, subject, project, data))

    def _event(self, action: str, subject: str, project: str, data: dict[str, Any]) -> Event:
        who = self.actor
        return Event(actor=who.uid, actor_name=who.name, action=action, subject=subject, project=project, data=data)

    def unchanged(self) -> None:
        """Say that an act found nothing to do, so that it rightly leaves no audit event."""
        self.records += 1

    def remember(self, kept: dict[Any, Any], facts: Mapping[Any, Any]) -> None:
        """Enter facts into a part of `memory` when this work is committed; a rolled-back one taught nothing."""
        self._learnt.append((kept, facts))

    def committed(self) -> None:
        """The work is committed: what it learnt is true for good."""
        for kept, facts in self._learnt:
            if len(kept) > Memory.ITEMS_MAX:
                kept.clear()
            kept.update(facts)


Sink = Callable[[UnitOfWork], None]


@contextmanager
def begin(
    database: Database,
    *,
    actor: Actor,
    blobs: BlobStore,
    clock: Clock,
    settings: Settings,
    sink: Sink,
    memory: Memory,
    read_only: bool = False,
    power_safe: bool = True,
) -> Iterator[UnitOfWork]:
    """One unit of work: committed at the end, rolled back as a whole on any exception.

    Args:
        power_safe: see `Database.begin`.
        sink: takes the events into the audit log, last, inside the same transaction: the log's lock is
            held as briefly as can be.
    """
    refusals: list[Event] = []
    try:
        with database.begin(read_only=read_only, power_safe=power_safe) as connection:
            uow = UnitOfWork(
                connection,
                actor=actor,
                blobs=blobs,
                clock=clock,
                settings=settings,
                memory=memory,
                read_only=read_only,
            )
            refusals = uow.refusals
            yield uow
            if uow.events:
                sink(uow)
        uow.committed()
    finally:
        if refusals:
            with database.begin() as connection:
                uow = UnitOfWork(connection, actor=actor, blobs=blobs, clock=clock, settings=settings)
                uow.events.extend(refusals)
                sink(uow)


def _no_project(project: str) -> NotFoundError:
    return NotFoundError(
        f"There is no project {project!r} that you may see.",
        hint="`everline projects list` shows yours; an admin can add you with `everline roles grant`.",
        field="project",
    )
