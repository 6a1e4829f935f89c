"""The profile of a large table, worked out after the table was added: by a worker, or by who first asks for it.

It takes half a minute for ten million rows of 25 columns, so that it is no part of any transaction.
"""

from __future__ import annotations

from typing import Any

from everline.access.types import SYSTEM, Actor
from everline.datasets import service
from everline.loader import load
from everline.server.application import Application


def ensure(app: Application, actor: Actor, project: str, name: str, version: str | None) -> None:
    """Work out and keep the profile of a version, unless that was done.

    Raises:
        NotFoundError: no such dataset or version that the actor may see.
    """
    with app.begin(actor, read_only=True) as uow:
        files = service.unprofiled_files(uow, project, name, version)
    if files is None:
        return
    table = load("everline.datasets.inspection").profile_files(app.blobs, files)
    with app.begin(SYSTEM) as uow:
        service.keep_profile(uow, project, name, version, table=table)


def run_job(app: Application, project: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The job that an addition leaves behind."""
    ensure(app, SYSTEM, project, payload["dataset"], str(payload["version"]))
    return {}
