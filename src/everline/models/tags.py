"""Tags of models and versions: what people say about them, never what they are."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Table

from everline.access.declare import act
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.models import rows
from everline.models.tables import model_tag, model_version_tag
from everline.models.words import check_tags
from everline.runs.limits import check_key
from everline.storage.db import upsert

_OWNER = {model_tag: "model", model_version_tag: "model_version"}


@act
def set_model_tag(uow: UnitOfWork, project: str, name: str, *, key: str, value: str) -> None:
    """Set a tag of a model."""
    uow.require(Permission.MODEL_WRITE, project)
    check_tags({key: value})
    row = rows.find_model(uow, project, name)
    put(uow, model_tag, row["uid"], {key: value})
    uow.record("model.tag", subject=f"model:{row['uid']}", project=project, key=key)


@act
def delete_model_tag(uow: UnitOfWork, project: str, name: str, *, key: str) -> None:
    """Remove a tag of a model; one that is not there is no error."""
    uow.require(Permission.MODEL_WRITE, project)
    check_key(key, field="key")
    row = rows.find_model(uow, project, name)
    uow.conn.execute(model_tag.delete().where(model_tag.c.model == row["uid"], model_tag.c.key == key))
    uow.record("model.untag", subject=f"model:{row['uid']}", project=project, key=key)


@act
def set_version_tag(uow: UnitOfWork, project: str, name: str, version: int | str, *, key: str, value: str) -> None:
    """Set a tag of a version."""
    uow.require(Permission.MODEL_WRITE, project)
    check_tags({key: value})
    row = rows.find_version(uow, project, name, version)
    put(uow, model_version_tag, row["uid"], {key: value})
    uow.record("model.tag", subject=f"model-version:{row['uid']}", project=project, key=key)


@act
def delete_version_tag(uow: UnitOfWork, project: str, name: str, version: int | str, *, key: str) -> None:
    """Remove a tag of a version; one that is not there is no error."""
    uow.require(Permission.MODEL_WRITE, project)
    check_key(key, field="key")
    row = rows.find_version(uow, project, name, version)
    where = (model_version_tag.c.model_version == row["uid"], model_version_tag.c.key == key)
    uow.conn.execute(model_version_tag.delete().where(*where))
    uow.record("model.untag", subject=f"model-version:{row['uid']}", project=project, key=key)


def put(uow: UnitOfWork, table: Table, uid: str, tags: Mapping[str, str]) -> None:
    """Set tags of one model or version; asks for no permission."""
    if tags:
        owner = _OWNER[table]
        values = [{owner: uid, "key": key, "value": value} for key, value in tags.items()]
        upsert(uow.conn, table, values, keys=[owner, "key"], update=["value"])
