"""Between rows and values of the registry; these helpers ask for no permission, their callers do."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, false, func, select, tuple_

from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError, NotFoundError
from everline.models.tables import alias_follow, model, model_alias, model_tag, model_version, model_version_tag
from everline.models.types import Model, TrackedVersion, VersionStatus
from everline.models.words import check_model_name

LATEST = "latest"
_KEYS_PER_QUERY = 500
_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,30}\s*")

Row = Mapping[Any, Any]

VERSIONS = (
    select(model_version, model.c.name.label("model_name"))
    .join(model, model.c.uid == model_version.c.model)
    .where(model.c.retired == "", model_version.c.deleted == false())
)
"""Versions that can be seen, with their model's name of today."""


def find_model(uow: UnitOfWork, project: str, name: str) -> Row:
    """The row of a model, or NotFoundError."""
    check_model_name(name)
    row = model_row(uow, project, name)
    if row is None:
        raise NotFoundError(
            f"Registered Model with name={name} not found", hint="`everline models list` shows them.", field="name"
        )
    return row


def find_models(uow: UnitOfWork, project: str, names: Sequence[str]) -> list[Row]:
    """The rows of models, in the order of their names, or NotFoundError of the first that is missing."""
    found: dict[str, Row] = {}
    for start in range(0, len(names), _KEYS_PER_QUERY):
        part = names[start : start + _KEYS_PER_QUERY]
        where = (model.c.project == project, model.c.name.in_(part), model.c.retired == "")
        found |= {row["name"]: dict(row) for row in uow.conn.execute(select(model).where(*where)).mappings()}
    return [found.get(name) or find_model(uow, project, name) for name in names]


def model_row(uow: UnitOfWork, project: str, name: str) -> Row | None:
    """The row of a model, or None."""
    where = (model.c.project == project, model.c.name == name, model.c.retired == "")
    row = uow.conn.execute(select(model).where(*where)).mappings().first()
    return None if row is None else dict(row)


def find_version(uow: UnitOfWork, project: str, name: str, version: int | str, *, lock: bool = False) -> Row:
    """The row of a version: by number, `latest`, or `@alias`.

    Args:
        lock: hold off everybody else who wants to delete or release it until this transaction ends.
    """
    owner = _owner_of_version(uow, project, name, version)
    number = _number(uow, owner, version)
    statement = VERSIONS.where(model_version.c.model == owner["uid"], model_version.c.version == number)
    if lock:
        statement = statement.with_for_update(of=model_version)
    row = uow.conn.execute(statement).mappings().first() if number < 2**31 else None
    if row is None:
        raise _no_version(name, number)
    return dict(row)


def _owner_of_version(uow: UnitOfWork, project: str, name: str, version: int | str) -> Row:
    check_model_name(name)
    owner = model_row(uow, project, name)
    if owner is None and _NUMBER.fullmatch(str(version)):
        raise _no_version(name, int(version))
    return owner or find_model(uow, project, name)


def _no_version(name: str, number: int) -> NotFoundError:
    return NotFoundError(
        f"Model Version (name={name}, version={number}) not found",
        hint=f"`everline models show {name}` lists its versions.",
        field="version",
    )


def find_model_by_uid(uow: UnitOfWork, uid: str) -> Row:
    """The row of a model by its uid."""
    return dict(uow.conn.execute(select(model).where(model.c.uid == uid)).mappings().one())


def kept_versions(uow: UnitOfWork, owner: str) -> Sequence[Any]:
    """The uid and author of each version of a model that is not deleted, held against releases until the end."""
    query = select(model_version.c.uid, model_version.c.author).where(
        model_version.c.model == owner, model_version.c.deleted == false()
    )
    return uow.conn.execute(query.with_for_update()).all()


def find_version_by_uid(uow: UnitOfWork, uid: str) -> Row:
    """The row of a version by its uid; deleted ones too, since releases and evidence still speak of them."""
    statement = (
        select(model_version, model.c.name.label("model_name"))
        .join(model, model.c.uid == model_version.c.model)
        .where(model_version.c.uid == uid)
    )
    row = uow.conn.execute(statement).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no model version {uid[:80]}.", field="uid")
    return dict(row)


def load_models(conn: Connection, found: Sequence[Row]) -> list[Model]:
    """Whole models for rows of `model`, in the same order."""
    uids = [row["uid"] for row in found]
    tags = _pairs(conn, model_tag, "model", uids)
    aliases = _aliases(conn, uids)
    following = _following(conn, uids)
    return [
        Model(
            uid=row["uid"],
            name=row["name"],
            project=row["project"],
            description=row["description"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            latest_version=row["latest_version"],
            tags=tags[row["uid"]],
            aliases=aliases[row["uid"]],
            following=following[row["uid"]],
        )
        for row in found
    ]


def load_versions(conn: Connection, found: Sequence[Row]) -> list[TrackedVersion]:
    """Whole versions for rows of `VERSIONS`, in the same order."""
    tags = _pairs(conn, model_version_tag, "model_version", [row["uid"] for row in found])
    aliases = _aliases(conn, sorted({row["model"] for row in found}))
    return [
        to_version(
            row,
            tags=tags[row["uid"]],
            aliases=sorted(name for name, number in aliases[row["model"]].items() if number == row["version"]),
        )
        for row in found
    ]


def to_version(row: Row, *, tags: dict[str, str], aliases: list[str]) -> TrackedVersion:
    """A row of `VERSIONS` as a value."""
    return TrackedVersion(
        uid=row["uid"],
        model=row["model_name"],
        version=row["version"],
        project=row["project"],
        package=row["package"],
        signature=row["signature"],
        run=row["run"],
        author=row["author"],
        author_name=row["author_name"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        status=VersionStatus(row["status"]),
        description=row["description"],
        tags=tags,
        aliases=aliases,
        source=row["source"],
        model_signature=row["model_signature"],
        logged_model=row["logged_model"],
        contents=row["contents"],
        stage=row["stage"],
        run_link=row["run_link"],
        storage=row["storage"],
    )


def latest_versions(
    conn: Connection, models: Sequence[str], *, stages: Sequence[str] = ()
) -> dict[str, list[TrackedVersion]]:
    """The newest version of each of MLflow's stages, by model uid."""
    found: dict[str, list[TrackedVersion]] = defaultdict(list)
    for start in range(0, len(models), _KEYS_PER_QUERY):
        part = models[start : start + _KEYS_PER_QUERY]
        newest = (
            select(func.max(model_version.c.version))
            .where(model_version.c.model.in_(part), model_version.c.deleted == false())
            .group_by(model_version.c.model, model_version.c.stage)
        )
        pairs = newest.add_columns(model_version.c.model)
        wanted = [(row[1], row[0]) for row in conn.execute(pairs)]
        if not wanted:
            continue
        statement = VERSIONS.where(tuple_(model_version.c.model, model_version.c.version).in_(wanted))
        rows = conn.execute(statement.order_by(model_version.c.version)).mappings().all()
        for row, version in zip(rows, load_versions(conn, rows), strict=True):
            if not stages or version.stage in stages:
                found[row["model"]].append(version)
    return found


def _number(uow: UnitOfWork, owner: Row, version: int | str) -> int:
    text = str(version)
    if text.lower() in (LATEST, f"@{LATEST}"):
        statement = (
            VERSIONS.with_only_columns(model_version.c.version)
            .where(model_version.c.model == owner["uid"])
            .order_by(model_version.c.version.desc())
            .limit(1)
        )
        number = uow.conn.execute(statement).scalar()
        if number is None:
            raise NotFoundError(f"Latest version not found for model {owner['name']}.", field="version")
        return int(number)
    if text.startswith("@"):
        where = and_(model_alias.c.model == owner["uid"], model_alias.c.alias == text[1:])
        number = uow.conn.execute(select(model_alias.c.version).where(where)).scalar()
        if number is None:
            raise NotFoundError(f"Registered model alias {text[1:]} not found.", field="alias")
        return int(number)
    if not _NUMBER.fullmatch(text):
        raise InvalidInputError(f"Parameter 'version' must be an integer, got '{text[:80]}'.", field="version")
    return int(text)


def _pairs(conn: Connection, table: Any, owner: str, uids: Sequence[str]) -> dict[str, dict[str, str]]:
    pairs: dict[str, dict[str, str]] = defaultdict(dict)
    for start in range(0, len(uids), _KEYS_PER_QUERY):
        part = uids[start : start + _KEYS_PER_QUERY]
        statement = select(table).where(table.c[owner].in_(part)).order_by(table.c[owner], table.c.key)
        for row in conn.execute(statement).mappings():
            pairs[row[owner]][row["key"]] = row["value"]
    return pairs


def _aliases(conn: Connection, uids: Sequence[str]) -> dict[str, dict[str, int]]:
    aliases: dict[str, dict[str, int]] = defaultdict(dict)
    for start in range(0, len(uids), _KEYS_PER_QUERY):
        part = uids[start : start + _KEYS_PER_QUERY]
        statement = select(model_alias).where(model_alias.c.model.in_(part)).order_by(model_alias.c.alias)
        for row in conn.execute(statement).mappings():
            aliases[row["model"]][row["alias"]] = row["version"]
    return aliases


def _following(conn: Connection, uids: Sequence[str]) -> dict[str, dict[str, str]]:
    following: dict[str, dict[str, str]] = defaultdict(dict)
    for start in range(0, len(uids), _KEYS_PER_QUERY):
        part = uids[start : start + _KEYS_PER_QUERY]
        for row in conn.execute(select(alias_follow).where(alias_follow.c.model.in_(part))).mappings():
            following[row["model"]][row["alias"]] = row["endpoint"]
    return following
