"""Registered and logged models of another system, written as they were: numbers, times, sources, stages, aliases.

What is here already is never changed: only versions, tags and aliases that are missing are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import insert, select, update

from everline.access.declare import stream
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.ids import new_uid
from everline.imports.runs import Home, is_remote
from everline.imports.source import Row
from everline.imports.types import ImportReport
from everline.models import aliases, contents, registry
from everline.models.tables import (
    logged_model,
    logged_model_metric,
    logged_model_param,
    logged_model_tag,
    model,
    model_alias,
    model_tag,
    model_version,
    model_version_tag,
)
from everline.models.types import LoggedModelStatus, VersionStatus
from everline.runs import experiments, tracking
from everline.runs.tables import run
from everline.runs.types import from_ms
from everline.storage.db import upsert

_STATUSES = {
    "READY": VersionStatus.READY,
    "PENDING_REGISTRATION": VersionStatus.PENDING,
    "FAILED_REGISTRATION": VersionStatus.FAILED,
}
_LOGGED_STATUSES = {
    1: LoggedModelStatus.PENDING,
    2: LoggedModelStatus.READY,
    3: LoggedModelStatus.FAILED,
}


class Moved(msgspec.Struct):
    """Roots of artifacts in the source, and what they are called here."""

    roots: dict[str, str] = msgspec.field(default_factory=dict)

    def add(self, old: str | None, new: str) -> None:
        """Remember where a root went."""
        if old and old != new:
            self.roots[old.rstrip("/")] = new

    def follow(self, uri: str | None) -> str | None:
        """An address as it is here; one below no known root stays what it is."""
        if not uri:
            return None
        parts = uri.split("/")
        for count in range(len(parts), 0, -1):
            new = self.roots.get("/".join(parts[:count]))
            if new is not None:
                return "/".join([new, *parts[count:]])
        return uri


@stream
def put_logged_models(
    uow: UnitOfWork, project: str, found: Sequence[Row], *, homes: Mapping[Any, Home], report: ImportReport
) -> dict[str, str]:
    """Write logged models; return the artifact root of each here by its id."""
    uow.require(Permission.RUN_WRITE, project)
    roots = {}
    for row in found:
        uid, home = row["model_id"], homes[row["experiment_id"]]
        known = select(logged_model.c.id, logged_model.c.artifact_uri, logged_model.c.project)
        have = uow.conn.execute(known.where(logged_model.c.uid == uid)).first()
        if have is not None and have.project != project:
            report.problem(f"logged model {uid}: it is in the project {have.project!r} already")
            report.count("logged models", source=1)
            continue
        number, uri = (have.id, have.artifact_uri) if have is not None else _insert_logged(uow, project, row, home)
        roots[uid] = uri
        report.count("logged models", source=1, imported=int(have is None), here=1)
        for table, values in ((logged_model_param, row["params"]), (logged_model_tag, row["tags"])):
            pairs = [{"logged_model": number, "key": key, "value": value} for key, value in values.items()]
            upsert(uow.conn, table, pairs, keys=["logged_model", "key"])
        _put_logged_metrics(uow, number, row["metrics"])
    return roots


@stream
def put_model(uow: UnitOfWork, project: str, row: Row, *, moved: Moved, report: ImportReport) -> None:
    """Write a registered model with its versions, tags and aliases.

    Raises:
        InvalidInputError: its name or one of its aliases cannot be one here.
    """
    uow.require(Permission.MODEL_WRITE, project)
    owner, is_new = registry.get_or_create_model(uow, project, row["name"], description=row["description"] or "")
    report.count("registered models", source=1, imported=int(is_new), here=1)
    if is_new:
        times = {"created_at": _moment(uow, row["creation_time"]), "updated_at": _moment(uow, row["last_updated_time"])}
        uow.conn.execute(update(model).where(model.c.uid == owner["uid"]).values(**times))
    tags = [{"model": owner["uid"], "key": key, "value": value} for key, value in row["tags"].items()]
    upsert(uow.conn, model_tag, tags, keys=["model", "key"])
    have = select(model_version.c.version).where(model_version.c.model == owner["uid"])
    known = set(uow.conn.execute(have).scalars())
    for version in row["versions"]:
        if version["version"] not in known:
            _insert_version(uow, owner, version, moved)
        report.count("model versions", source=1, imported=int(version["version"] not in known), here=1)
    highest = max([owner["latest_version"], *(version["version"] for version in row["versions"])])
    uow.conn.execute(update(model).where(model.c.uid == owner["uid"]).values(latest_version=highest))
    pointing = set(uow.conn.execute(select(model_alias.c.alias).where(model_alias.c.model == owner["uid"])).scalars())
    for alias, number in row["aliases"].items():
        if alias not in pointing:
            aliases.point(uow, owner, alias, version=number)
        report.count("aliases", source=1, imported=int(alias not in pointing), here=1)


def _insert_logged(uow: UnitOfWork, project: str, row: Row, home: Home) -> tuple[int, str]:
    uid, uri = row["model_id"], row["artifact_location"]
    root = home.location if not is_remote(home.location) else f"{experiments.ARTIFACT_SCHEME}/{home.number}"
    uri = uri if is_remote(uri) else f"{root.rstrip('/')}/models/{uid}/artifacts"
    values = {
        "uid": uid, "project": project, "experiment": home.number, "name": row["name"],
        "status": _LOGGED_STATUSES.get(row["status"], LoggedModelStatus.UNSPECIFIED).value,
        "model_type": row["model_type"] or "", "source_run": row["source_run_id"] or "", "artifact_uri": uri,
        "created_ms": row["creation_timestamp_ms"], "updated_ms": row["last_updated_timestamp_ms"],
        "deleted": row["lifecycle_stage"] == "deleted",
    }  # fmt: skip
    number = uow.conn.execute(insert(logged_model).values(**values).returning(logged_model.c.id)).scalar_one()
    return number, uri


def _put_logged_metrics(uow: UnitOfWork, number: int, metrics: Sequence[Row]) -> None:
    keys = tracking.key_numbers(uow, {row["metric_name"] for row in metrics})
    wanted = select(run.c.uid, run.c.id).where(run.c.uid.in_({row["run_id"] for row in metrics}))
    runs = {row.uid: row.id for row in uow.conn.execute(wanted)}
    rows = [
        {
            "logged_model": number, "key": keys[row["metric_name"]], "step": row["metric_step"],
            "at_ms": row["metric_timestamp_ms"], "run": runs[row["run_id"]],
            "value": 0.0 if row["metric_value"] is None else row["metric_value"], "is_nan": row["metric_value"] is None,
            "dataset_name": row["dataset_name"], "dataset_digest": row["dataset_digest"],
        }
        for row in metrics
        if row["run_id"] in runs
    ]  # fmt: skip
    upsert(uow.conn, logged_model_metric, rows, keys=["logged_model", "key", "step", "at_ms", "run"])


def _insert_version(uow: UnitOfWork, owner: Mapping[Any, Any], row: Row, moved: Moved) -> None:
    uid, source = new_uid(), moved.follow(row["source"])
    storage = moved.follow(row["storage_location"])
    files = contents.find(uow, owner["project"], storage or source or "")
    values = {
        "uid": uid, "model": owner["uid"], "project": owner["project"], "version": row["version"], "package": None,
        "signature": None, "model_signature": None, "run": row["run_id"] or None, "run_link": row["run_link"] or "",
        "source": source, "storage": storage if storage != source else None, "contents": contents.digest_of(files),
        "author": uow.actor.uid,
        "author_name": row["user_id"] or uow.actor.name,
        "status": _STATUSES.get(row["status"] or "READY", VersionStatus.READY).value,
        "stage": row["current_stage"] or "None", "description": row["description"] or "",
        "created_at": _moment(uow, row["creation_time"]), "updated_at": _moment(uow, row["last_updated_time"]),
        "deleted": False,
    }  # fmt: skip
    uow.conn.execute(insert(model_version).values(**values))
    if files:
        contents.keep(uow, uid, files)
    tags = [{"model_version": uid, "key": key, "value": value} for key, value in row["tags"].items()]
    upsert(uow.conn, model_version_tag, tags, keys=["model_version", "key"])


def _moment(uow: UnitOfWork, ms: int | None) -> datetime:
    return uow.clock.now() if ms is None else from_ms(ms)
