"""Artifact folders of another system, taken into content-addressed blobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from everline.errors import IntegrityError, InvalidInputError
from everline.ids import digest_file
from everline.runs.limits import check_artifact_path
from everline.storage.blobs import BlobStore

_READ_BYTES = 4 << 20


class ArtifactFolders:
    """Where the artifacts of a source lie on this machine."""

    def __init__(self, root: Path | None) -> None:
        """Open it.

        Args:
            root: the artifacts destination of the MLflow server; None takes only what the source names by a path.

        Raises:
            InvalidInputError: it is no folder.
        """
        if root is not None and not root.is_dir():
            raise InvalidInputError(
                f"There is no artifact folder {root}.",
                hint="Name the --artifacts-destination of the MLflow server, or its ./mlartifacts or ./mlruns.",
                field="artifacts",
            )
        self._root = root

    def find(self, uri: str | None, *, below: str) -> Path | None:
        """The folder of one run or logged model, or None if it has none.

        Args:
            uri: where the source says that the artifacts are.
            below: where they are below `root` if the address does not lead anywhere.
        """
        parts = urlsplit(uri or "")
        if parts.scheme in ("", "file") and uri:
            named = Path(unquote(parts.path))
            if named.is_absolute() and named.is_dir():
                return named
        if self._root is None:
            return None
        tails = [below]
        if parts.scheme == "mlflow-artifacts":
            tails.insert(0, unquote(parts.path).strip("/").removeprefix("api/2.0/mlflow-artifacts/artifacts/"))
        for tail in tails:
            # A path out of a database is no reason to leave the folder that was named.
            folder = (self._root / tail).resolve()
            if folder.is_relative_to(self._root.resolve()) and folder.is_dir():
                return folder
        return None


def walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every regular file below a folder by its path with slashes, in order; links are not followed."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            file = Path(parent) / name
            if file.is_file() and not file.is_symlink():
                yield file.relative_to(folder).as_posix(), file


def take(blobs: BlobStore, file: Path, *, path: str, known: str | None) -> tuple[str, bool]:
    """Keep a file as a blob, and read it back once to be sure; return its digest and whether it was new here.

    Args:
        path: what it will be called, which must be a path that artifacts may have.
        known: the digest that an artifact of this path has already.

    Raises:
        InvalidInputError: the file cannot be read, or its name cannot be an artifact's.
        IntegrityError: what was kept is not what was read, or another content has this path already.
    """
    check_artifact_path(path)
    try:
        if known is not None:
            found = digest_file(file)
            if found != known:
                raise IntegrityError(f"{file} has the digest {found}, and the artifact here has {known}.")
            return found, False
        with blobs.incoming() as body:
            with file.open("rb", buffering=0) as source:
                while chunk := source.read(_READ_BYTES):
                    body.write(chunk)
            digest = blobs.keep(body)
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be read: {error.strerror or error}.") from error
    if not blobs.is_intact(digest):
        raise IntegrityError(f"{file} was kept as {digest}, and does not come back as that.")
    return digest, True
