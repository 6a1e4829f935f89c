"""Tags of datasets and their versions: what people say about them. They may change; labels and content never do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Table

from everline.access.declare import act
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.datasets import service, tables
from everline.datasets.tag_rows import load
from everline.datasets.types import Dataset, DatasetVersion
from everline.errors import InvalidInputError
from everline.storage.db import upsert

KEY_CHARACTERS_MAX = 250
VALUE_CHARACTERS_MAX = 1_000
TAGS_MAX = 100
"""Of one dataset or version."""


@act
def tag_dataset(uow: UnitOfWork, project: str, name: str, tags: Mapping[str, str | None]) -> Dataset:
    """Set tags of a dataset, and remove those whose value is None; removing what is not there is no error.

    Raises:
        NotFoundError: there is no such dataset.
        InvalidInputError: a key or value cannot be kept, or there would be more than 100.
    """
    uow.require(Permission.DATA_WRITE, project)
    row = service.find_dataset(uow, project, name)
    changed = _change(uow, tables.dataset_tag, tables.dataset_tag.c.dataset, row["uid"], tags)
    _record(uow, f"dataset:{row['uid']}", changed, project=project, dataset=name)
    return service.get_dataset(uow, project, name)


@act
def tag_version(
    uow: UnitOfWork, project: str, name: str, version: str | None, tags: Mapping[str, str | None]
) -> DatasetVersion:
    """Set and remove tags of a version, as `tag_dataset` does.

    Raises:
        NotFoundError: there is no such dataset or version.
        InvalidInputError: a key or value cannot be kept, or there would be more than 100.
    """
    uow.require(Permission.DATA_WRITE, project)
    series = service.find_dataset(uow, project, name)
    row = service.find_version(uow, series, version)
    changed = _change(uow, tables.version_tag, tables.version_tag.c.version, row["uid"], tags)
    _record(uow, f"dataset-version:{row['uid']}", changed, project=project, dataset=name, version=row["number"])
    return service.version_of(uow, series, row)


def _change(
    uow: UnitOfWork, table: Table, owner: Column[str], uid: str, tags: Mapping[str, str | None]
) -> tuple[dict[str, str], list[str]]:
    """Change the tags of one row; returns what was set anew and what was removed."""
    if not tags:
        raise InvalidInputError("No tag was given.", hint="Give key=value, or a key to remove.", field="tags")
    for key, value in tags.items():
        _check(key, value)
    present = load(uow, table, owner, [uid])[uid]
    new = {key: value for key, value in tags.items() if value is not None and present.get(key) != value}
    gone = [key for key, value in tags.items() if value is None and key in present]
    if len((present.keys() | new.keys()) - set(gone)) > TAGS_MAX:
        raise InvalidInputError(f"There can be at most {TAGS_MAX} tags.", hint="Remove some first.", field="tags")
    rows = [{owner.name: uid, "key": key, "value": value} for key, value in new.items()]
    upsert(uow.conn, table, rows, keys=[owner.name, "key"], update=["value"])
    if gone:
        uow.conn.execute(table.delete().where(owner == uid, table.c.key.in_(gone)))
    return new, gone


def _check(key: str, value: str | None) -> None:
    if not key.strip() or len(key) > KEY_CHARACTERS_MAX or "=" in key or not key.isprintable():
        raise InvalidInputError(
            f"{key[:80]!r} cannot be the key of a tag.",
            hint=f"Use 1 to {KEY_CHARACTERS_MAX} printable characters without an equals sign.",
            field="tags",
        )
    if value is not None and (len(value) > VALUE_CHARACTERS_MAX or "\0" in value):
        raise InvalidInputError(
            f"The value of the tag {key[:80]!r} is longer than {VALUE_CHARACTERS_MAX} characters, or not text.",
            field="tags",
        )


def _record(uow: UnitOfWork, subject: str, changed: tuple[dict[str, str], list[str]], **about: Any) -> None:
    new, gone = changed
    if new or gone:
        uow.record("dataset.tag", subject=subject, set=new, removed=gone, **about)
    else:
        uow.unchanged()
