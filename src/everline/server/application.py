"""What the control plane is made of, wired once and handed to every face and job."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from everline.access.types import SYSTEM, Actor
from everline.access.unit_of_work import Memory, UnitOfWork
from everline.access.unit_of_work import begin as begin_work
from everline.clock import Clock, SystemClock
from everline.config import Settings
from everline.governance import audit
from everline.migrations import upgrade
from everline.storage.blobs import BlobStore
from everline.storage.db import Database
from everline.webhooks import outbox


def _record(uow: UnitOfWork) -> None:
    """What happened reaches those who asked to be told, and the audit log last: its lock makes others wait."""
    outbox.announce(uow)
    audit.append(uow)


class Application:
    """Settings, database, blobs and clock of one control-plane process."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.stopping = threading.Event()
        """Set when the process was asked to end: requests that are held open answer what they have."""
        self.database = Database(settings)
        self.blobs = BlobStore(settings.blobs, spool=settings.home / "spool", database=self.database)
        self.memory = Memory()
        upgrade(self.database, clock=self.clock)

    @contextmanager
    def begin(self, actor: Actor = SYSTEM, *, read_only: bool = False, power_safe: bool = True) -> Iterator[UnitOfWork]:
        """One unit of work of `actor`, committed at the end; `power_safe` as in `Database.begin`."""
        with begin_work(
            self.database,
            actor=actor,
            blobs=self.blobs,
            clock=self.clock,
            settings=self.settings,
            sink=_record,
            memory=self.memory,
            read_only=read_only,
            power_safe=power_safe,
        ) as uow:
            yield uow

    def close(self) -> None:
        """Let the database go."""
        self.database.close()
