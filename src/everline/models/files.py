"""Files by their full proxy paths, those of runs and those that never change: of packages and of model versions.

The latter lie below `packages/<hex of the package's digest>` and `versions/<uid of the version>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError, NotFoundError
from everline.models import contents, service
from everline.models.package import FileEntry
from everline.models.types import TrackedVersion
from everline.runs import artifacts
from everline.runs.types import Artifact

_PACKAGES = "mlflow-artifacts:/packages/"
_FROZEN = re.compile(r"(?:packages/(?P<package>[0-9a-f]{64})|versions/(?P<version>[0-9a-f-]{36}))(?:/(?P<path>.*))?")


def refuse_frozen(path: str) -> None:
    """Raise InvalidInputError if what lies at a full proxy path never changes."""
    if _FROZEN.fullmatch(path) is not None:
        raise InvalidInputError(
            "The files of packages and of model versions never change.", hint="Upload to a run instead.", field="path"
        )


def list_files(uow: UnitOfWork, project: str, *, path: str = "") -> list[Artifact]:
    """Files and folders directly below a full proxy path, by path."""
    match = _FROZEN.fullmatch(path)
    if match is None:
        return artifacts.list_files(uow, project, path=path)
    root, folder = _root(match), match["path"] or ""
    prefix = f"{folder}/" if folder else ""
    found: dict[str, Artifact] = {}
    for entry in _frozen_files(uow, project, match):
        if entry.path.startswith(prefix):
            name, slash, _ = entry.path[len(prefix) :].partition("/")
            full = f"{root}/{prefix}{name}"
            found[full] = Artifact(path=full, is_dir=True) if slash else _artifact(entry, full)
    return [found[full] for full in sorted(found)]


def get_file(uow: UnitOfWork, project: str, path: str) -> Artifact:
    """The file at a full proxy path."""
    match = _FROZEN.fullmatch(path)
    if match is None:
        return artifacts.get_file(uow, project, path)
    for entry in _frozen_files(uow, project, match):
        if entry.path == match["path"]:
            return _artifact(entry, path)
    raise NotFoundError(f"No such artifact: '{path}'", hint="List the folder to see what is there.", field="path")


def package_uri(package: str | None) -> str | None:
    """The artifact URI of a package."""
    return None if package is None else _PACKAGES + package.removeprefix("sha256:")


def place_of(uow: UnitOfWork, version: TrackedVersion) -> str:
    """The artifact URI of a version's files: where they lay, as in MLflow, unless others lie there by now."""
    place = package_uri(version.package) or version.storage or version.source or ""
    if version.contents is None or contents.digest_of(contents.find(uow, version.project, place)) == version.contents:
        return place
    return contents.SCHEME + version.uid


def _frozen_files(uow: UnitOfWork, project: str, match: re.Match[str]) -> Sequence[FileEntry]:
    if match["package"] is not None:
        return service.package_files(uow, project, f"sha256:{match['package']}")
    return service.version_files(uow, project, match["version"])


def _root(match: re.Match[str]) -> str:
    return f"packages/{match['package']}" if match["package"] else f"versions/{match['version']}"


def _artifact(entry: FileEntry, path: str) -> Artifact:
    return Artifact(path=path, is_dir=False, digest=entry.digest, bytes=entry.bytes)
