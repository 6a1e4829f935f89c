"""Experiments: named groups of runs, soft-deleted and restored together with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlparse

from sqlalchemy import and_, bindparam, select, update

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, InvalidInputError, NotFoundError
from everline.runs import limits, rows
from everline.runs.search import experiment_number
from everline.runs.tables import experiment, experiment_tag, run
from everline.runs.types import DEFAULT_EXPERIMENT, Experiment, to_ms
from everline.storage.db import dialect_of, upsert

DEFAULT_PROJECT = "default"
ARTIFACT_SCHEME = "mlflow-artifacts:"
EXPERIMENTS_PER_SEARCH_MAX = 1_000
ARTIFACT_LOCATION_CHARACTERS_MAX = 2_048
_BY_NUMBER = select(experiment).where(experiment.c.id == bindparam("number"))


@act
def create_experiment(
    uow: UnitOfWork, project: str, name: str, *, artifact_location: str = "", tags: Mapping[str, str] | None = None
) -> Experiment:
    """Create an experiment.

    Args:
        name: 1 to 500 characters, unique in the project, deleted ones included.
        artifact_location: where clients put artifacts; empty means the server's own proxy.

    Raises:
        ConflictError: the name is taken.
    """
    uow.require(Permission.RUN_WRITE, project)
    limits.check_experiment_name(name)
    _check_tags(tags or {})
    _check_location(artifact_location)
    row = _insert(uow, project, name, artifact_location=artifact_location)
    if row is None:
        raise ConflictError(
            f"Experiment(name={name}) already exists.",
            hint="Choose another name, or restore the deleted experiment of this name.",
            field="name",
        )
    _put_tags(uow, row["id"], tags or {})
    uow.record("experiment.create", subject=f"experiment:{row['id']}", project=project, name=name)
    return rows.load_experiments(uow.conn, [row])[0]


@read
def get_experiment(uow: UnitOfWork, project: str, experiment_id: str) -> Experiment:
    """Return an experiment by its number, deleted or not; `0` and the empty text mean the default one."""
    uow.require(Permission.RUN_READ, project)
    return rows.load_experiments(uow.conn, [find(uow, project, experiment_id)])[0]


@read
def get_experiment_by_name(uow: UnitOfWork, project: str, name: str) -> Experiment:
    """Return an experiment by its name, deleted or not."""
    uow.require(Permission.RUN_READ, project)
    row = find_by_name(uow, project, name)
    if row is None:
        raise NotFoundError(f"Could not find experiment with name '{name}'", field="experiment_name")
    return rows.load_experiments(uow.conn, [row])[0]


@act
def use_default(uow: UnitOfWork, project: str) -> None:
    """Make the default experiment if it was never used, so that lists have it, as MLflow's clients expect."""
    uow.require(Permission.RUN_READ, project)
    default_experiment(uow, project)
    uow.unchanged()  # every project has it by definition: nobody decided anything


@act
def rename_experiment(uow: UnitOfWork, project: str, experiment_id: str, *, name: str) -> None:
    """Give an active experiment another name."""
    uow.require(Permission.RUN_WRITE, project)
    limits.check_experiment_name(name)
    row = find_to_change(uow, project, experiment_id)
    if row["deleted"]:
        raise ConflictError("Cannot rename a non-active experiment.", hint="Restore it first.", field="experiment_id")
    taken = find_by_name(uow, project, name)
    if taken is not None and taken["id"] != row["id"]:
        raise ConflictError(f"Experiment(name={name}) already exists.", field="new_name")
    _touch(uow, row, name=name)
    uow.record("experiment.rename", subject=f"experiment:{row['id']}", project=project, name=name, previous=row["name"])


@act
def delete_experiment(uow: UnitOfWork, project: str, experiment_id: str) -> None:
    """Hide an experiment and its runs; nothing is lost, `restore_experiment` brings them back."""
    uow.require(Permission.RUN_WRITE, project)
    row = find_to_change(uow, project, experiment_id)
    if row["deleted"]:
        raise _no_such(row["id"])
    now = to_ms(uow.clock.now())
    _touch(uow, row, deleted=True)
    uow.conn.execute(update(run).where(run.c.experiment == row["id"]).values(deleted=True, deleted_ms=now))
    uow.record("experiment.delete", subject=f"experiment:{row['id']}", project=project, name=row["name"])


@act
def restore_experiment(uow: UnitOfWork, project: str, experiment_id: str) -> None:
    """Bring a deleted experiment and its runs back."""
    uow.require(Permission.RUN_WRITE, project)
    row = find_to_change(uow, project, experiment_id)
    if not row["deleted"]:
        raise _no_such(row["id"])
    _touch(uow, row, deleted=False)
    uow.conn.execute(update(run).where(run.c.experiment == row["id"]).values(deleted=False, deleted_ms=None))
    uow.record("experiment.restore", subject=f"experiment:{row['id']}", project=project, name=row["name"])


@act
def set_experiment_tag(uow: UnitOfWork, project: str, experiment_id: str, *, key: str, value: str) -> None:
    """Set a tag of an active experiment."""
    uow.require(Permission.RUN_WRITE, project)
    _check_tags({key: value})
    row = _active(uow, project, experiment_id)
    _put_tags(uow, row["id"], {key: value})
    uow.record("experiment.tag", subject=f"experiment:{row['id']}", project=project, key=key)


@act
def delete_experiment_tag(uow: UnitOfWork, project: str, experiment_id: str, *, key: str) -> None:
    """Remove a tag of an active experiment."""
    uow.require(Permission.RUN_WRITE, project)
    row = _active(uow, project, experiment_id)
    where = (experiment_tag.c.experiment == row["id"], experiment_tag.c.key == key)
    if uow.conn.execute(experiment_tag.delete().where(*where)).rowcount == 0:
        raise NotFoundError(f"No tag with name: {key[:300]} in experiment with id {row['id']}", field="key")
    uow.record("experiment.untag", subject=f"experiment:{row['id']}", project=project, key=key)


def artifacts_of_run(location: str, run_uid: str) -> str:
    """Where a run of an experiment with this artifact location keeps its files; a query stays behind the path."""
    path, question, query = location.partition("?")
    return f"{path.rstrip('/')}/{run_uid}/artifacts{question}{query}"


def numbers(uow: UnitOfWork, project: str, names: Sequence[str]) -> list[int]:
    """The numbers of experiments by name, or of all of a project; asks for no permission."""
    if not names:
        return list(uow.conn.execute(select(experiment.c.id).where(experiment.c.project == project)).scalars())
    found = [(name, find_by_name(uow, project, name)) for name in names[:EXPERIMENTS_PER_SEARCH_MAX]]
    for name, row in found:
        if row is None:
            raise NotFoundError(f"Could not find experiment with name '{name}'", field="experiments")
    return [row["id"] for _, row in found if row is not None]


def find(uow: UnitOfWork, project: str, experiment_id: str) -> rows.Row:
    """The row of an experiment; asks for no permission. The default one need not have been used yet."""
    number = experiment_number(experiment_id or "0")
    if number == 0:
        return _default_row(uow, project) or _unused_default(project)
    row = uow.conn.execute(_BY_NUMBER, {"number": number}).mappings().first()
    if row is None or row["project"] != project:
        raise _no_such(number)
    return dict(row)


def find_to_change(uow: UnitOfWork, project: str, experiment_id: str) -> rows.Row:
    """The row of an experiment that is about to be used or changed; makes the default one."""
    row = find(uow, project, experiment_id)
    return row if row["created_ms"] else default_experiment(uow, project)


def find_by_name(uow: UnitOfWork, project: str, name: str) -> rows.Row | None:
    """The row of an experiment or None; asks for no permission."""
    where = (experiment.c.project == project, experiment.c.name == name)
    row = uow.conn.execute(select(experiment).where(*where)).mappings().first()
    if row is None and name == DEFAULT_EXPERIMENT:
        return find(uow, project, "0")
    return None if row is None else dict(row)


def find_or_create(uow: UnitOfWork, project: str, name: str) -> rows.Row:
    """The row of the experiment of this name, made if it is new; asks for no permission."""
    limits.check_experiment_name(name)
    row = default_experiment(uow, project) if name == DEFAULT_EXPERIMENT else find_by_name(uow, project, name)
    row = row or _insert(uow, project, name)
    if row is None:  # made by a transaction that ran at the same time
        row = find_by_name(uow, project, name)
    if row is None:
        raise ConflictError(
            f"Experiment(name={name}) is being changed by someone else.", hint="Try again.", field="name"
        )
    return row


def default_experiment(uow: UnitOfWork, project: str) -> rows.Row:
    """The experiment that every project has, made at its first use; asks for no permission.

    MLflow's clients know it as number 0. In the project `default` that is its number; other projects
    have it under a number of their own and answer to 0 as well.
    """
    row = _default_row(uow, project)
    if row is None:
        row = _insert(uow, project, DEFAULT_EXPERIMENT, number=0 if project == DEFAULT_PROJECT else None)
    if row is None:  # made by a transaction that ran at the same time
        row = _default_row(uow, project)
    return row or _unused_default(project)


def _default_row(uow: UnitOfWork, project: str) -> rows.Row | None:
    """The default experiment if it was used before; in the project `default` it keeps its number when renamed."""
    if project == DEFAULT_PROJECT:
        row = uow.conn.execute(_BY_NUMBER, {"number": 0}).mappings().first()
    else:
        where = and_(experiment.c.project == project, experiment.c.name == DEFAULT_EXPERIMENT)
        row = uow.conn.execute(select(experiment).where(where)).mappings().first()
    return None if row is None else dict(row)


def _unused_default(project: str) -> rows.Row:
    return {
        "id": 0,
        "project": project,
        "name": DEFAULT_EXPERIMENT,
        "artifact_location": f"{ARTIFACT_SCHEME}/0",
        "deleted": False,
        "created_ms": 0,
        "updated_ms": 0,
    }


def _insert(
    uow: UnitOfWork, project: str, name: str, *, artifact_location: str = "", number: int | None = None
) -> rows.Row | None:
    """Insert an experiment; None if its name is taken, also by a transaction that ran at the same time."""
    now = to_ms(uow.clock.now())
    values: dict[str, Any] = {
        "project": project,
        "name": name,
        "artifact_location": artifact_location,
        "deleted": False,
        "created_ms": now,
        "updated_ms": now,
    }
    if number is not None:
        values["id"] = number
    statement = (
        dialect_of(uow.conn.dialect.name)
        .insert(experiment)
        .values(values)
        .on_conflict_do_nothing()
        .returning(experiment.c.id)
    )
    inserted = uow.conn.execute(statement).first()
    if inserted is None:
        return None
    location = artifact_location or f"{ARTIFACT_SCHEME}/{inserted.id}"
    uow.conn.execute(update(experiment).where(experiment.c.id == inserted.id).values(artifact_location=location))
    return {**values, "id": inserted.id, "artifact_location": location}


def _active(uow: UnitOfWork, project: str, experiment_id: str) -> rows.Row:
    row = find_to_change(uow, project, experiment_id)
    check_active(row)
    return row


def check_active(row: rows.Row) -> None:
    """Refuse an experiment that is deleted."""
    if row["deleted"]:
        raise InvalidInputError(
            f"The experiment {row['id']} must be in the 'active' state. Current state is deleted.",
            hint="Restore it first.",
            field="experiment_id",
        )


def _touch(uow: UnitOfWork, row: rows.Row, **values: Any) -> None:
    now = to_ms(uow.clock.now())
    uow.conn.execute(update(experiment).where(experiment.c.id == row["id"]).values(updated_ms=now, **values))


def _put_tags(uow: UnitOfWork, number: int, tags: Mapping[str, str]) -> None:
    values = [{"experiment": number, "key": key, "value": value} for key, value in tags.items()]
    upsert(uow.conn, experiment_tag, values, keys=["experiment", "key"], update=["value"])


def _check_tags(tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        limits.check_key(key, field="key")
        limits.check_length(value, limit=limits.EXPERIMENT_TAG_CHARACTERS_MAX, field="value")


def _check_location(location: str) -> None:
    limits.check_length(location, limit=ARTIFACT_LOCATION_CHARACTERS_MAX, field="artifact_location")
    parts = urlparse(location)
    wrong = ""
    if parts.fragment or parts.params:
        wrong = "'artifact_location' URL can't include fragments or params."
    elif ".." in unquote(parts.query):
        wrong = "Invalid query string"
    elif location.startswith("runs:"):
        wrong = f"Artifact location cannot be a runs:/ URI. Given: '{location[:200]}'"
    if wrong:
        raise InvalidInputError(wrong, field="artifact_location", hint="Give a location such as s3://bucket/path.")


def _no_such(number: int) -> NotFoundError:
    return NotFoundError(f"No Experiment with id={number} exists", field="experiment_id")
