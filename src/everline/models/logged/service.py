"""Logged models: made, finished, described, hidden.

The rules are MLflow's: a logged model belongs to an experiment, its files lie below the experiment's artifacts,
a parameter never changes its value and a tag does. Nothing is erased: a deleted one keeps its rows and files.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table, delete, insert, select, update

from everline.access.declare import act, read, stream
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError, NotFoundError
from everline.models.logged import rows
from everline.models.tables import logged_model, logged_model_param, logged_model_tag
from everline.models.types import LoggedModel, LoggedModelStatus, TrackedVersion
from everline.runs import artifacts, experiments
from everline.runs.limits import check_length
from everline.runs.names import random_name
from everline.runs.types import Artifact, to_ms
from everline.storage.db import upsert

NAME_CHARACTERS_MAX = 500
KEY_CHARACTERS_MAX = 255
VALUE_CHARACTERS_MAX = 100_000
PAIRS_PER_REQUEST_MAX = 1_000
VERSIONS_TAG = "mlflow.modelVersions"
"""MLflow's tag of a logged model: the versions that were registered from it, as JSON."""

_NOT_IN_NAMES = re.compile(r"[/:.%\"']")


@act
def create(
    uow: UnitOfWork,
    project: str,
    *,
    experiment_id: str,
    name: str = "",
    model_type: str = "",
    source_run: str = "",
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> LoggedModel:
    """Begin a logged model; its files follow, and `finalize` says how that went.

    Args:
        experiment_id: number of an active experiment.
        name: without any of `/:.%"'`; empty makes one up.
        source_run: uid of the run that makes it, as the client says.

    Raises:
        NotFoundError: no experiment has this number.
        InvalidInputError: the experiment is deleted, or a name or value is out of its limits.
    """
    uow.require(Permission.RUN_WRITE, project)
    _check_name(name)
    check_length(model_type, limit=500, field="model_type")
    check_length(source_run, limit=256, field="source_run_id")
    _check_pairs(params or {}, field="params")
    _check_pairs(tags or {}, field="tags")
    parent = experiments.find_to_change(uow, project, experiment_id)
    experiments.check_active(parent)
    uid, now = f"m-{secrets.token_hex(16)}", to_ms(uow.clock.now())
    values = {
        "uid": uid,
        "project": project,
        "experiment": parent["id"],
        "name": name or random_name(),
        "status": LoggedModelStatus.PENDING.value,
        "model_type": model_type,
        "source_run": source_run,
        "artifact_uri": f"{parent['artifact_location'].rstrip('/')}/models/{uid}/artifacts",
        "created_ms": now,
        "updated_ms": now,
        "deleted": False,
    }
    number = uow.conn.execute(insert(logged_model).values(values).returning(logged_model.c.id)).scalar_one()
    _put(uow, logged_model_param, number, params or {})
    _put(uow, logged_model_tag, number, tags or {})
    uow.record(
        "logged-model.create", subject=f"logged-model:{uid}", project=project, name=values["name"], run=source_run
    )
    return rows.load(uow.conn, [{**values, "id": number}])[0]


@read
def get(uow: UnitOfWork, project: str, uid: str, *, allow_deleted: bool = False) -> LoggedModel:
    """Return a logged model."""
    uow.require(Permission.RUN_READ, project)
    return rows.load(uow.conn, [rows.find(uow, project, uid, deleted=allow_deleted)])[0]


@act
def finalize(uow: UnitOfWork, project: str, uid: str, *, status: LoggedModelStatus) -> LoggedModel:
    """Say how the upload of a logged model's files went."""
    uow.require(Permission.RUN_WRITE, project)
    row = _change(uow, project, uid, status=status.value)
    uow.record("logged-model.finalize", subject=f"logged-model:{uid}", project=project, status=status.value)
    return rows.load(uow.conn, [row])[0]


@act
def delete_logged_model(uow: UnitOfWork, project: str, uid: str) -> None:
    """Hide a logged model; versions that were registered from it stay as they are."""
    uow.require(Permission.RUN_WRITE, project)
    _change(uow, project, uid, deleted=True)
    uow.record("logged-model.delete", subject=f"logged-model:{uid}", project=project)


@stream
def log_params(uow: UnitOfWork, project: str, uid: str, params: Mapping[str, str]) -> None:
    """Add parameters; the same value again is no change.

    Raises:
        InvalidInputError: a parameter has another value already; nothing is added.
    """
    uow.require(Permission.RUN_WRITE, project)
    _check_pairs(params, field="params")
    number = rows.find(uow, project, uid)["id"]
    _put(uow, logged_model_param, number, params)
    # Read after the insert: it has waited for whoever inserted the same at the same time.
    table = logged_model_param.c
    statement = select(table.key, table.value).where(table.logged_model == number, table.key.in_(list(params)))
    changed = sorted(row.key for row in uow.conn.execute(statement) if params[row.key] != row.value)
    if changed:
        raise InvalidInputError(
            f"Changing param values is not allowed. Params {changed[:10]} of the logged model {uid} have other values.",
            hint="A parameter is part of what the model is; log a changing value as a tag.",
            field="params",
        )


@stream
def set_tags(uow: UnitOfWork, project: str, uid: str, tags: Mapping[str, str]) -> None:
    """Set tags."""
    uow.require(Permission.RUN_WRITE, project)
    _check_pairs(tags, field="tags")
    number = rows.find(uow, project, uid)["id"]
    _put(uow, logged_model_tag, number, tags, update=["value"])


@stream
def delete_tag(uow: UnitOfWork, project: str, uid: str, *, key: str) -> None:
    """Remove a tag."""
    uow.require(Permission.RUN_WRITE, project)
    number = rows.find(uow, project, uid)["id"]
    where = (logged_model_tag.c.logged_model == number, logged_model_tag.c.key == key)
    if uow.conn.execute(delete(logged_model_tag).where(*where)).rowcount == 0:
        raise NotFoundError(f"No tag with key {key[:80]!r} found for model with ID {uid!r}.", field="key")


@read
def list_artifacts(uow: UnitOfWork, project: str, uid: str, *, path: str = "") -> tuple[str, list[Artifact]]:
    """Where a logged model's files are, and those directly below one of its folders, by path from that root.

    A logged model whose files are kept elsewhere by its client shows none here.
    """
    uow.require(Permission.RUN_READ, project)
    uri = rows.find(uow, project, uid, deleted=False)["artifact_uri"]
    if not artifacts.is_ours(uri):
        return uri, []
    root = artifacts.proxy_path(uri)
    found = artifacts.list_files(uow, project, path=f"{root}/{path}" if path else root)
    return uri, [
        Artifact(path=item.path[len(root) + 1 :], is_dir=item.is_dir, digest=item.digest, bytes=item.bytes)
        for item in found
    ]


def note_version(uow: UnitOfWork, project: str, uid: str, *, version: TrackedVersion) -> None:
    """Write on a logged model that a version was registered from it, as MLflow does; asks for no permission."""
    number = rows.find(uow, project, uid)["id"]
    where = (logged_model_tag.c.logged_model == number, logged_model_tag.c.key == VERSIONS_TAG)
    noted = uow.conn.execute(select(logged_model_tag.c.value).where(*where)).scalar()
    try:
        versions = json.loads(noted) if noted else []
    except ValueError:
        versions = []  # a person wrote it; what is registered counts
    versions = versions if isinstance(versions, list) else []
    versions.append({"name": version.model, "version": version.version})
    _put(uow, logged_model_tag, number, {VERSIONS_TAG: json.dumps(versions)}, update=["value"])


def _change(uow: UnitOfWork, project: str, uid: str, **values: Any) -> rows.Row:
    row = dict(rows.find(uow, project, uid))
    changes = {"updated_ms": to_ms(uow.clock.now()), **values}
    uow.conn.execute(update(logged_model).where(logged_model.c.id == row["id"]).values(**changes))
    return row | changes


def _put(
    uow: UnitOfWork, table: Table, number: int, pairs: Mapping[str, str], *, update: list[str] | None = None
) -> None:
    values = [{"logged_model": number, "key": key, "value": value} for key, value in sorted(pairs.items())]
    upsert(uow.conn, table, values, keys=["logged_model", "key"], update=update)


def _check_name(name: str) -> None:
    if _NOT_IN_NAMES.search(name):
        raise InvalidInputError(
            f"Invalid model name ({name[:200]!r}) provided. Model name must be a non-empty string and cannot contain "
            "the following characters: ('/', ':', '.', '%', '\"', \"'\")",
            field="name",
        )
    check_length(name, limit=NAME_CHARACTERS_MAX, field="name")


def _check_pairs(pairs: Mapping[str, str], *, field: str) -> None:
    if len(pairs) > PAIRS_PER_REQUEST_MAX:
        raise InvalidInputError(f"A request can contain at most {PAIRS_PER_REQUEST_MAX} {field}.", field=field)
    for index, (key, value) in enumerate(pairs.items()):
        check_length(key, limit=KEY_CHARACTERS_MAX, field=f"{field}[{index}].key")
        check_length(value, limit=VALUE_CHARACTERS_MAX, field=f"{field}[{index}].value")
