"""Collecting garbage on demand: who may, and that it was done, around `storage.collector`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from everline.access.types import Actor, Permission
from everline.loader import late, load
from everline.pipelines import retention
from everline.server.application import Application
from everline.storage.types import Collection

if TYPE_CHECKING:
    from everline.storage import collector
else:
    collector = late("everline.storage.collector")


def collect(app: Application, actor: Actor, *, dry_run: bool) -> Collection:
    """Forget what runs of pipelines left long ago; condemn and remove what nothing refers to, in all projects.

    Raises:
        ForbiddenError: the actor is no admin of the whole server.
        IntegrityError, NotFoundError: a manifest cannot be read; nothing was removed.
    """
    with app.begin(actor, read_only=True) as uow:
        uow.require_anywhere(Permission.STORAGE_COLLECT)
    if not dry_run:
        with app.begin(actor) as uow:
            retention.forget(uow)
    load("everline.migrations.history")  # knows the tables of all slices: what is not known cannot be looked through
    grace = timedelta(seconds=app.settings.collect_grace_s)
    found = collector.collect(app.blobs, grace=grace, dry_run=dry_run)
    if not dry_run:
        with app.begin(actor) as uow:
            facts = msgspec.structs.asdict(found)
            del facts["dry_run"]
            uow.record("storage.collect", subject="storage:blobs", project="default", **facts)
    return found
