"""The files of a version that a client describes by a place: those that lay there when it was registered.

A place may be written to again, but a version never changes. So its files are listed by digest when it is made, and
read by that list as soon as others lie there. The digest of the list stands for all of them, as that of a manifest
does for a package; only nobody signs it, and no release takes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import select

from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_digest
from everline.errors import InvalidInputError, NotFoundError
from everline.models.package import FileEntry
from everline.models.tables import model_version_file
from everline.runs import artifacts
from everline.runs import rows as run_rows
from everline.storage.db import insert_rows

SCHEME = "mlflow-artifacts:/versions/"
"""Where MLflow's clients read the files of such a version."""

_COLUMNS = ("model_version", "path", "digest", "bytes")


def find(uow: UnitOfWork, project: str, place: str) -> list[FileEntry]:
    """The files below a place that this server keeps, by path; none for a place elsewhere. Asks for no permission.

    Args:
        place: an artifact URI, `runs:/<run>/<path>`, or the files of another version (`SCHEME`).

    Raises:
        InvalidInputError: there are too many to list.
    """
    if place.startswith(SCHEME):
        return files_of(uow, place.removeprefix(SCHEME))
    path = _proxy_path(uow, project, place)
    if path is None:
        return []
    found = artifacts.files_below(uow, project, path)
    if len(found) >= artifacts.FILES_PER_LIST_MAX:
        raise InvalidInputError(
            f"There are {artifacts.FILES_PER_LIST_MAX:,} files or more below {place[:200]}: too many for one version.",
            hint="Register the folder of the model itself.",
            field="source",
        )
    return [FileEntry(path=one.path, digest=one.digest or "", bytes=one.bytes or 0) for one in found]


def digest_of(files: Sequence[FileEntry]) -> str | None:
    """The digest of a list of files: SHA-256 of its RFC 8785 JSON; None if there are none."""
    if not files:
        return None
    return canonical_digest(_values(files))


def keep(uow: UnitOfWork, version: str, files: Sequence[FileEntry]) -> None:
    """List the files of a new version."""
    rows = [(version, one.path, one.digest, one.bytes) for one in files]
    insert_rows(uow.conn, model_version_file, _COLUMNS, rows, keys=["model_version", "path"])


def files_of(uow: UnitOfWork, version: str) -> list[FileEntry]:
    """The files of a version by path, as they were listed; asks for no permission."""
    table = model_version_file.c
    statement = select(table.path, table.digest, table.bytes).where(table.model_version == version)
    found = [FileEntry(path=row.path, digest=row.digest, bytes=row.bytes) for row in uow.conn.execute(statement)]
    return sorted(found, key=lambda one: one.path)


def damaged(uow: UnitOfWork, files: Sequence[FileEntry]) -> Iterator[str]:
    """Say which of some files are gone from storage or altered in it, hashing every byte."""
    for one in files:
        size = uow.blobs.size(one.digest)
        if size is None:
            yield f"{one.path!r} is gone from storage"
            continue
        if size != one.bytes or not uow.blobs.is_intact(one.digest):
            yield f"{one.path!r} was altered in storage"


def _proxy_path(uow: UnitOfWork, project: str, place: str) -> str | None:
    if place.startswith("runs:/"):
        run, _, path = place.removeprefix("runs:/").strip("/").partition("/")
        try:
            root = run_rows.artifact_uri(uow, project, run)
        except (NotFoundError, InvalidInputError):  # a run of another server
            return None
        place = f"{root}/{path}" if path else root
    if not artifacts.is_ours(place):
        return None
    return artifacts.proxy_path(place) or None


def _values(files: Sequence[FileEntry]) -> list[dict[str, Any]]:
    return [{"path": one.path, "digest": one.digest, "bytes": one.bytes} for one in files]
