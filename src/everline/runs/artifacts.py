"""Artifacts: files below a run's root, kept as blobs under their digests.

A path is a name in a table, never a place on a disk: nothing that a client sends can lead out of its root.
Paths are those of MLflow's artifact proxy, `<experiment>/<run>/artifacts/<path>`; the same file is seen
through a run as `<path>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, or_, select

from everline.access.declare import act, read, stream
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError, NotFoundError
from everline.ids import check_digest
from everline.runs import rows
from everline.runs.experiments import ARTIFACT_SCHEME
from everline.runs.limits import check_artifact_path
from everline.runs.tables import artifact
from everline.runs.types import Artifact, to_ms
from everline.storage.db import select_rows, upsert

FILES_PER_LIST_MAX = 100_000
_FILES_BELOW = (
    "SELECT path, digest, bytes FROM run_artifact WHERE project = ? AND path >= ? AND path < ? ORDER BY path LIMIT ?"
)
_BEHIND_ALL = "\U0010ffff"
_FILES_PER_LOOK = 1_000


@stream
def put_artifact(uow: UnitOfWork, project: str, uid: str, path: str, *, digest: str) -> Artifact:
    """Name a blob that is already kept as a file of an active run; an older file of this path is replaced.

    Raises:
        InvalidInputError: the path is unsafe, or a file would have to be a folder as well.
        NotFoundError: no such run, or the blob is not kept.
    """
    row = rows.writable_run(uow, project, uid)
    return _put(uow, project, _root(row), check_artifact_path(path), digest=digest)


@read
def list_artifacts(uow: UnitOfWork, project: str, uid: str, *, path: str = "") -> list[Artifact]:
    """Files and folders directly below a folder of a run, by path; none for a file or an unknown folder."""
    uow.require(Permission.RUN_READ, project)
    row = rows.find_run(uow, project, uid)
    if not is_ours(row["artifact_uri"]):
        return []
    return _list(uow, project, _root(row), check_artifact_path(path) if path else "")


@read
def get_artifact(uow: UnitOfWork, project: str, uid: str, path: str) -> Artifact:
    """One file of a run."""
    uow.require(Permission.RUN_READ, project)
    row = rows.find_run(uow, project, uid)
    return _get(uow, project, _root(row), check_artifact_path(path))


@stream
def put_file(uow: UnitOfWork, project: str, path: str, *, digest: str) -> Artifact:
    """Name a blob as the file at a full proxy path."""
    uow.require(Permission.RUN_WRITE, project)
    return _put(uow, project, "", check_artifact_path(path), digest=digest)


@read
def list_files(uow: UnitOfWork, project: str, *, path: str = "") -> list[Artifact]:
    """Files and folders directly below a full proxy path."""
    uow.require(Permission.RUN_READ, project)
    return _list(uow, project, "", check_artifact_path(path) if path else "")


@read
def get_file(uow: UnitOfWork, project: str, path: str) -> Artifact:
    """The file at a full proxy path."""
    uow.require(Permission.RUN_READ, project)
    return _get(uow, project, "", check_artifact_path(path))


@read
def all_files(uow: UnitOfWork, project: str, path: str) -> list[Artifact]:
    """Every file below a full proxy path, at any depth, by path relative to it."""
    uow.require(Permission.RUN_READ, project)
    return files_below(uow, project, path)


def files_below(uow: UnitOfWork, project: str, path: str) -> list[Artifact]:
    """What `all_files` answers, for callers who ask for a permission of their own."""
    prefix = check_artifact_path(path) + "/"
    found = _below(uow, project, prefix)
    return [Artifact(path=full[len(prefix) :], is_dir=False, digest=digest, bytes=size) for full, digest, size in found]


@act
def delete_files(uow: UnitOfWork, project: str, path: str) -> None:
    """Forget the file at a full proxy path, or all below it; the blobs stay until they are collected."""
    uow.require(Permission.RUN_WRITE, project)
    path = check_artifact_path(path)
    where = and_(artifact.c.project == project, or_(artifact.c.path == path, _starts_with(path + "/")))
    count = uow.conn.execute(delete(artifact).where(where)).rowcount
    uow.record("artifact.delete", subject=f"artifact:{path[:200]}", project=project, files=count)


def check_place(uow: UnitOfWork, project: str, path: str, *, root: str = "") -> None:
    """Refuse a full proxy path where no file can be; asks for no permission.

    Args:
        root: the part of the path that the caller does not see.
    """
    above = ["/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1)]
    files_above = select(artifact.c.path).where(artifact.c.project == project, artifact.c.path.in_(above))
    clash = uow.conn.execute(files_above).scalar() if above else None
    below = select(artifact.c.path).where(artifact.c.project == project, _starts_with(path + "/")).limit(1)
    if clash is not None or uow.conn.execute(below).first() is not None:
        raise InvalidInputError(
            f"The artifact {path[len(root) :]!r} cannot be a file: "
            + (f"{clash[len(root) :]!r} is a file, not a folder." if clash is not None else "it is a folder."),
            field="path",
        )


def is_ours(artifact_uri: str) -> bool:
    """Whether artifacts of this root are kept here, rather than written elsewhere by the client."""
    return artifact_uri.startswith(ARTIFACT_SCHEME)


def proxy_path(artifact_uri: str) -> str:
    """The full proxy path of a `mlflow-artifacts:` URI, with or without a host."""
    rest = artifact_uri.removeprefix(ARTIFACT_SCHEME)
    if rest.startswith("//"):
        rest = rest[2:].partition("/")[2]
    return rest.strip("/").removeprefix("api/2.0/mlflow-artifacts/artifacts/")


def _root(row: rows.Row) -> str:
    if not is_ours(row["artifact_uri"]):
        raise InvalidInputError(
            f"The artifacts of run {row['uid']} are kept at {row['artifact_uri'][:200]}, not by this server.",
            hint="Read and write them there.",
            field="run_id",
        )
    return proxy_path(row["artifact_uri"]) + "/"


def _put(uow: UnitOfWork, project: str, root: str, path: str, *, digest: str) -> Artifact:
    full = check_artifact_path(root + path)
    size = uow.blobs.size(check_digest(digest))
    if size is None:
        raise NotFoundError(f"There is no blob {digest}.", hint="Upload the bytes first.", field="digest")
    check_place(uow, project, full, root=root)
    values = {"project": project, "path": full, "digest": digest, "bytes": size, "at_ms": to_ms(uow.clock.now())}
    upsert(uow.conn, artifact, [values], keys=["project", "path"], update=["digest", "bytes", "at_ms"])
    return Artifact(path=path, is_dir=False, digest=digest, bytes=size)


def _get(uow: UnitOfWork, project: str, root: str, path: str) -> Artifact:
    statement = select(artifact).where(artifact.c.project == project, artifact.c.path == root + path)
    row = uow.conn.execute(statement).mappings().first()
    if row is None:
        raise NotFoundError(f"No such artifact: '{path}'", hint="List the folder to see what is there.", field="path")
    return Artifact(path=path, is_dir=False, digest=row["digest"], bytes=row["bytes"])


def _list(uow: UnitOfWork, project: str, root: str, folder: str) -> list[Artifact]:
    """One look per 1,000 files or per folder, however many files lie deeper."""
    prefix = f"{root}{folder}/" if folder else root
    found: dict[str, Artifact] = {}
    start, is_more = prefix, True
    while is_more and len(found) < FILES_PER_LIST_MAX:
        part = _below(uow, project, prefix, start=start, limit=_FILES_PER_LOOK)
        for full, digest, size in part:
            name, slash, _ = full[len(prefix) :].partition("/")
            path = f"{folder}/{name}" if folder else name
            found[path] = (
                Artifact(path=path, is_dir=True)
                if slash
                else Artifact(path=path, is_dir=False, digest=digest, bytes=size)
            )
            # Behind the folder, or else the next path that there can be: none has a character below the space.
            start = f"{prefix}{name}0" if slash else f"{full} "
        is_more = len(part) == _FILES_PER_LOOK
    return [found[path] for path in sorted(found)]


def _below(
    uow: UnitOfWork, project: str, prefix: str, *, start: str = "", limit: int = FILES_PER_LIST_MAX
) -> Sequence[Sequence[Any]]:
    """Path, digest and bytes of the files below a prefix, by path."""
    last = prefix[:-1] + "0" if prefix else _BEHIND_ALL
    return select_rows(uow.conn, _FILES_BELOW, (project, max(prefix, start), last, limit))


def _starts_with(prefix: str) -> ColumnElement[bool]:
    """All paths below a prefix that ends in a slash: `/` and `0` are neighbours, so the index serves the range."""
    if not prefix:
        return artifact.c.path != ""
    return and_(artifact.c.path >= prefix, artifact.c.path < prefix[:-1] + "0")
