"""The registry's shelf: models, versions, tags and aliases as MLflow's clients know them.

A version's package never changes; what may change here is what people say about it. Nothing is erased:
a deleted version keeps its row, its evidence and its blobs, so that an endpoint that serves it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, false, func, select, update

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, InvalidInputError
from everline.ids import new_uid
from everline.models import aliases, contents, rows
from everline.models.tables import model, model_tag, model_version, model_version_tag
from everline.models.tags import put as put_tags
from everline.models.types import Model, TrackedVersion, VersionStatus
from everline.models.words import check_model_name, check_tags
from everline.runs.filters import MODEL_VERSIONS, MODELS, Clause, parse_filter, parse_order
from everline.runs.limits import check_length
from everline.runs.search import bytewise, compare, keyed
from everline.storage.db import insert_values, select_rows, upsert
from everline.storage.schema import microseconds

MODELS_PER_SEARCH_MAX = 1_000
VERSIONS_PER_SEARCH_MAX = 200_000
DESCRIPTION_CHARACTERS_MAX = 100_000
STAGES = ("None", "Staging", "Production", "Archived")

_MODEL_COLUMNS = {
    "name": model.c.name,
    "creation_timestamp": model.c.created_at,
    "last_updated_timestamp": model.c.updated_at,
}
_VERSION_COLUMNS = {
    "name": model.c.name,
    "version_number": model_version.c.version,
    "run_id": model_version.c.run,
    "source_path": model_version.c.source,
    "creation_timestamp": model_version.c.created_at,
    "last_updated_timestamp": model_version.c.updated_at,
}


# Written once: versions are made in loops, and building a statement costs as much as running it.
_OWNER = ("uid", "project", "name", "latest_version")
_TAKE_NUMBER = (
    "UPDATE model SET latest_version = latest_version + 1, updated_at = ? "
    "WHERE project = ? AND name = ? AND retired = '' RETURNING uid, project, name, latest_version"
)


@act
def create_model(
    uow: UnitOfWork, project: str, name: str, *, description: str = "", tags: Mapping[str, str] | None = None
) -> Model:
    """Create a model without versions.

    Raises:
        ConflictError: the name is taken.
    """
    uow.require(Permission.MODEL_WRITE, project)
    check_tags(tags or {})
    row, is_new = get_or_create_model(uow, project, name, description=description)
    if not is_new:
        raise ConflictError(f"Registered Model (name={name}) already exists.", field="name")
    put_tags(uow, model_tag, row["uid"], tags or {})
    return rows.load_models(uow.conn, [row])[0]


@read
def get_model(uow: UnitOfWork, project: str, name: str) -> Model:
    """Return a model."""
    uow.require(Permission.MODEL_READ, project)
    return rows.load_models(uow.conn, [rows.find_model(uow, project, name)])[0]


@act
def update_model(
    uow: UnitOfWork, project: str, name: str, *, description: str | None = None, new_name: str | None = None
) -> Model:
    """Describe or rename a model; its versions follow."""
    uow.require(Permission.MODEL_WRITE, project)
    row = dict(rows.find_model(uow, project, name))
    changes: dict[str, Any] = {}
    if description is not None:
        changes["description"] = check_length(description, limit=DESCRIPTION_CHARACTERS_MAX, field="description")
    if new_name is not None:
        check_model_name(new_name, field="new_name")
        if new_name != name and rows.model_row(uow, project, new_name) is not None:
            raise ConflictError(f"Registered Model (name={new_name}) already exists.", field="new_name")
        changes["name"] = new_name
    changes["updated_at"] = uow.clock.now()
    uow.conn.execute(update(model).where(model.c.uid == row["uid"]).values(**changes))
    if new_name is not None:  # MLflow's clients see the new name on every version as a change of the version
        mine = (model_version.c.model == row["uid"], model_version.c.deleted == false())
        uow.conn.execute(update(model_version).where(*mine).values(updated_at=changes["updated_at"]))
    uow.record(
        "model.update", subject=f"model:{row['uid']}", project=project, name=changes.get("name", name), previous=name
    )
    return rows.load_models(uow.conn, [row | changes])[0]


def retire_model(uow: UnitOfWork, row: rows.Row) -> None:
    """Take a model and its versions off the shelf; its name may be used again.

    Asks for no permission and looks at no endpoint: `releases.deletion` does.
    """
    aliases.unpoint_version(uow, row)
    now = uow.clock.now()
    uow.conn.execute(update(model).where(model.c.uid == row["uid"]).values(retired=row["uid"], updated_at=now))
    uow.record("model.delete", subject=f"model:{row['uid']}", project=row["project"], name=row["name"])


@read
def search_models(
    uow: UnitOfWork,
    project: str,
    *,
    filter: str = "",  # noqa: A002 - the word of the protocol
    order_by: Sequence[str] = (),
    limit: int = 100,
    offset: int = 0,
) -> tuple[list[Model], int | None]:
    """Find models, by name unless told otherwise; `limit` is 1 to 1,000."""
    uow.require(Permission.MODEL_READ, project)
    _check_limit(limit, MODELS_PER_SEARCH_MAX)
    sqlite = uow.conn.dialect.name == "sqlite"
    conditions = []
    for clause in parse_filter(filter, MODELS):
        if clause.entity == "tag":
            conditions.append(_tagged(model_tag, model.c.uid, "model", clause, sqlite=sqlite))
        else:
            conditions.append(compare(_MODEL_COLUMNS[clause.key], clause, sqlite=sqlite))
    statement = select(model).where(model.c.project == project, model.c.retired == "", *conditions)
    orders = parse_order(order_by, MODELS)
    for order in orders:
        column = bytewise(_MODEL_COLUMNS[order.key], sqlite=sqlite)
        statement = statement.order_by(column.asc() if order.ascending else column.desc())
    statement = statement.order_by(bytewise(model.c.name, sqlite=sqlite)).offset(offset).limit(limit + 1)
    found = uow.conn.execute(statement).mappings().all()
    return rows.load_models(uow.conn, found[:limit]), offset + limit if len(found) > limit else None


@act
def create_version_from_source(
    uow: UnitOfWork,
    project: str,
    name: str,
    *,
    source: str,
    storage: str | None = None,
    run: str | None = None,
    run_link: str = "",
    logged_model: str | None = None,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> TrackedVersion:
    """Add a version that an MLflow client describes by where its files are.

    If this server keeps them, they are listed by digest, and what is written there later does not change the version.
    It has no package of ours, so nobody has signed what it is and no release may take it.

    Args:
        storage: where the files are, if `source` says it only by way of another version or a logged model.
        logged_model: uid of the logged model whose files they are.
    """
    uow.require(Permission.MODEL_WRITE, project)
    check_tags(tags or {})
    check_length(source, limit=2_000, field="source")
    check_length(run_link, limit=500, field="run_link")
    owner = take_number(uow, project, name)
    files = contents.find(uow, project, storage or source)
    values = {
        "source": source,
        "storage": storage,
        "run": run or None,
        "run_link": run_link,
        "logged_model": logged_model,
        "contents": contents.digest_of(files),
        "description": check_length(description, limit=DESCRIPTION_CHARACTERS_MAX, field="description"),
    }
    version = insert_version(uow, owner, values=values, tags=tags or {})
    if files:
        contents.keep(uow, version.uid, files)
    uow.record(
        "model.register",
        subject=version.subject,
        project=project,
        model=name,
        version=version.version,
        source=source,
        contents=version.contents,
    )
    return version


@act
def describe_version(
    uow: UnitOfWork, project: str, name: str, version: int | str, *, description: str
) -> TrackedVersion:
    """Say what a version is for; its package stays what it is."""
    uow.require(Permission.MODEL_WRITE, project)
    row = dict(rows.find_version(uow, project, name, version))
    check_length(description, limit=DESCRIPTION_CHARACTERS_MAX, field="description")
    changes = {"description": description, "updated_at": uow.clock.now()}
    uow.conn.execute(update(model_version).where(model_version.c.uid == row["uid"]).values(**changes))
    uow.record("model.describe", subject=f"model-version:{row['uid']}", project=project)
    return rows.load_versions(uow.conn, [row | changes])[0]


@act
def set_stage(
    uow: UnitOfWork, project: str, name: str, version: int | str, *, stage: str, archive_others: bool = False
) -> TrackedVersion:
    """Put a version on one of MLflow's old stages: a note for people, which releases nothing.

    Args:
        archive_others: put every other version of this stage on `Archived`; for Staging and Production.
    """
    uow.require(Permission.MODEL_WRITE, project)
    stage = _canonical_stage(stage)
    if archive_others and stage not in ("Staging", "Production"):
        raise InvalidInputError(
            "Model version transition cannot archive existing model versions because "
            f"'{stage}' is not an Active stage. Valid stages are Staging and Production.",
            field="archive_existing_versions",
        )
    row = dict(rows.find_version(uow, project, name, version))
    changes = {"stage": stage, "updated_at": uow.clock.now()}
    if archive_others:
        others = (model_version.c.model == row["model"], model_version.c.stage == stage)
        uow.conn.execute(update(model_version).where(*others).values(**changes | {"stage": "Archived"}))
    uow.conn.execute(update(model_version).where(model_version.c.uid == row["uid"]).values(**changes))
    uow.conn.execute(update(model).where(model.c.uid == row["model"]).values(updated_at=changes["updated_at"]))
    uow.record(
        "model.stage", subject=f"model-version:{row['uid']}", project=project, stage=stage, previous=row["stage"]
    )
    return rows.load_versions(uow.conn, [row | changes])[0]


def retire_version(uow: UnitOfWork, row: rows.Row) -> None:
    """Take a version off the shelf; its number is never given out again.

    Asks for no permission and looks at no endpoint: `releases.deletion` does.
    """
    project, name, now = row["project"], row["model_name"], uow.clock.now()
    aliases.unpoint_version(uow, rows.find_model(uow, project, name), row["version"])
    mine = model_version.c.uid == row["uid"]
    uow.conn.execute(update(model_version).where(mine).values(deleted=True, updated_at=now))
    uow.conn.execute(update(model).where(model.c.uid == row["model"]).values(updated_at=now))
    uow.record(
        "model.delete-version",
        subject=f"model-version:{row['uid']}",
        project=project,
        model=name,
        version=row["version"],
    )


@read
def search_versions(
    uow: UnitOfWork,
    project: str,
    *,
    filter: str = "",  # noqa: A002 - the word of the protocol
    order_by: Sequence[str] = (),
    limit: int = 100,
    offset: int = 0,
) -> tuple[list[TrackedVersion], int | None]:
    """Find versions, the last changed first unless told otherwise; `limit` is 1 to 200,000."""
    uow.require(Permission.MODEL_READ, project)
    _check_limit(limit, VERSIONS_PER_SEARCH_MAX)
    sqlite = uow.conn.dialect.name == "sqlite"
    conditions = [model_version.c.project == project]
    for clause in parse_filter(filter, MODEL_VERSIONS):
        if clause.entity == "tag":
            conditions.append(_tagged(model_version_tag, model_version.c.uid, "model_version", clause, sqlite=sqlite))
        else:
            conditions.append(_version_condition(clause, sqlite=sqlite))
    statement = rows.VERSIONS.where(*conditions)
    orders = parse_order(order_by or ["last_updated_timestamp DESC"], MODEL_VERSIONS)
    for order in orders:
        column = bytewise(_VERSION_COLUMNS[order.key], sqlite=sqlite)
        statement = statement.order_by(column.asc() if order.ascending else column.desc())
    statement = statement.order_by(bytewise(model.c.name, sqlite=sqlite), model_version.c.version.desc())
    found = uow.conn.execute(statement.offset(offset).limit(limit + 1)).mappings().all()
    return rows.load_versions(uow.conn, found[:limit]), offset + limit if len(found) > limit else None


@read
def latest_versions(
    uow: UnitOfWork, project: str, names: Sequence[str], *, stages: Sequence[str] = ()
) -> dict[str, list[TrackedVersion]]:
    """The newest version of each of MLflow's stages, by model name."""
    uow.require(Permission.MODEL_READ, project)
    wanted = [_canonical_stage(stage) for stage in stages]
    found = rows.find_models(uow, project, names)
    by_uid = rows.latest_versions(uow.conn, [row["uid"] for row in found], stages=wanted)
    return {row["name"]: by_uid[row["uid"]] for row in found}


def get_or_create_model(uow: UnitOfWork, project: str, name: str, *, description: str = "") -> tuple[rows.Row, bool]:
    """The row of a model and whether it was made just now; asks for no permission."""
    check_model_name(name)
    check_length(description, limit=DESCRIPTION_CHARACTERS_MAX, field="description")
    found = rows.model_row(uow, project, name)
    if found is not None:
        return found, False
    now = uow.clock.now()
    values = {
        "uid": new_uid(),
        "project": project,
        "name": name,
        "description": description,
        "latest_version": 0,
        "created_at": now,
        "updated_at": now,
        "retired": "",
    }
    upsert(uow.conn, model, [values], keys=["project", "name", "retired"])
    row = rows.find_model(uow, project, name)
    if row["uid"] == values["uid"]:
        uow.record("model.create", subject=f"model:{row['uid']}", project=project, name=name)
    return row, row["uid"] == values["uid"]


def insert_version(
    uow: UnitOfWork, owner: rows.Row, *, values: Mapping[str, Any], tags: Mapping[str, str]
) -> TrackedVersion:
    """Add a version under the number that `take_number` gave out; asks for no permission."""
    now = uow.clock.now()
    row = {
        "uid": new_uid(),
        "model": owner["uid"],
        "project": owner["project"],
        "version": owner["latest_version"],
        "package": None,
        "signature": None,
        "model_signature": None,
        "run": None,
        "run_link": "",
        "source": None,
        "storage": None,
        "logged_model": None,
        "contents": None,
        "author": uow.actor.uid,
        "author_name": uow.actor.name,
        "status": VersionStatus.READY.value,
        "stage": STAGES[0],
        "description": "",
        "created_at": now,
        "updated_at": now,
        "deleted": False,
        **values,
    }
    insert_values(uow.conn, model_version, [row])
    labels = [{"model_version": row["uid"], "key": key, "value": value} for key, value in tags.items()]
    insert_values(uow.conn, model_version_tag, labels)
    return rows.to_version({**row, "model_name": owner["name"]}, tags=dict(tags), aliases=[])


def take_number(uow: UnitOfWork, project: str, name: str) -> rows.Row:
    """Take the next number of a model; return its uid, project, name, and the number as `latest_version`.

    The row's lock makes writers queue here, so that no number is given out twice.

    Raises:
        NotFoundError: there is no such model.
    """
    check_model_name(name)
    taken = select_rows(uow.conn, _TAKE_NUMBER, (microseconds(uow.clock.now()), project, name))
    return dict(zip(_OWNER, taken[0], strict=True)) if taken else rows.find_model(uow, project, name)


def _tagged(
    table: Any, owner: ColumnElement[Any], owner_column: str, clause: Clause, *, sqlite: bool
) -> ColumnElement[bool]:
    """A tag's condition. Without the prompt tag a model counts as no prompt, as MLflow's UI and client expect."""
    if clause.key == "mlflow.prompt.is_prompt":
        wanted = (clause.comparator, clause.value) in {("=", "true"), ("!=", "false")}
        yes = keyed(table, owner, owner_column, Clause("tag", clause.key, "=", "true"), sqlite=sqlite)
        return yes if wanted else ~yes
    return keyed(table, owner, owner_column, clause, sqlite=sqlite)


def _version_condition(clause: Clause, *, sqlite: bool) -> ColumnElement[bool]:
    """A condition on an attribute; a version without a run has the empty run, as in MLflow."""
    column = _VERSION_COLUMNS[clause.key]
    values = clause.value if isinstance(clause.value, tuple) else (clause.value,)
    if clause.key == "run_id" and (clause.comparator not in ("=", "IN") or "" in values):
        return compare(func.coalesce(column, ""), clause, sqlite=sqlite)
    return compare(column, clause, sqlite=sqlite)


def _check_limit(limit: int, limit_max: int) -> None:
    if not 1 <= limit <= limit_max:
        raise InvalidInputError(
            f"Invalid value for request parameter max_results. It must be at least 1 and at most {limit_max}, "
            f"but got value {limit}",
            field="max_results",
        )


def _canonical_stage(stage: str) -> str:
    known = {known.lower(): known for known in STAGES}
    if stage.lower() not in known:
        raise InvalidInputError(
            f"Invalid Model Version stage: {stage[:80]}. Value must be one of {', '.join(STAGES)}.", field="stage"
        )
    return known[stage.lower()]
