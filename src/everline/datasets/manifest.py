"""The files of a version: found, named, hashed; and the canonical manifest whose digest names them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from everline.canonical import canonical_json
from everline.datasets.types import DatasetFile
from everline.errors import InvalidInputError
from everline.ids import check_digest, digest_bytes, digest_file

FILES_MAX = 100_000
PATH_CHARS_MAX = 1024
_THREADS_MAX = 8


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """Files with their digests, and where each lies on this machine."""

    files: tuple[DatasetFile, ...]
    sources: dict[str, Path]


def scan(paths: Sequence[str | os.PathLike[str]]) -> Scan:
    """Find and hash the files of a version; see `find`."""
    sources = find(paths)
    with ThreadPoolExecutor(min(_THREADS_MAX, os.cpu_count() or 1)) as pool:
        files = list(pool.map(_hash, sources.items()))
    return Scan(files=tuple(files), sources=sources)


def find(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """Find the files of a version: where each lies, by its path in the version, ordered by that path.

    A file is named by its file name, the files of a folder by their path below it. Hidden files count; links are
    followed to files but not to folders, so that a scan ends and stays where it was sent.

    Raises:
        InvalidInputError: nothing is there, two files would have one name, or there are too many.
    """
    sources: dict[str, Path] = {}
    for given in paths:
        for name, path in _walk(Path(given)):
            if name in sources:
                raise InvalidInputError(
                    f"Two files would both be named {name!r}: {sources[name]} and {path}.",
                    hint="Put them in folders of different names and add the folder above them.",
                )
            check_path(name)
            sources[name] = path
            if len(sources) > FILES_MAX:
                raise InvalidInputError(f"There are more than {FILES_MAX} files.", hint="Pack them first.")
    if not sources:
        raise InvalidInputError("There are no files to add.", hint="Name at least one file or a folder with files.")
    return dict(sorted(sources.items()))


def files_manifest(files: Iterable[DatasetFile]) -> bytes:
    """The canonical manifest of files, in the order of their paths."""
    rows = [{"path": file.path, "digest": file.digest, "bytes": file.bytes} for file in sorted(files)]
    return canonical_json({"schema": 1, "kind": "files", "files": rows})


def files_digest(files: Iterable[DatasetFile]) -> str:
    """The digest of the canonical manifest of files."""
    return digest_bytes(files_manifest(files))


def table_manifest(rows: int, columns: Iterable[tuple[str, Any, str]]) -> bytes:
    """The canonical manifest of a table, from the name, type and digest of each column, in order."""
    described = [{"name": name, "type": kind, "digest": value} for name, kind, value in columns]
    return canonical_json({"schema": 1, "kind": "table", "rows": rows, "columns": described})


def check_files(files: Sequence[DatasetFile]) -> None:
    """Refuse a manifest that came from outside, if a path leaves its folder, repeats or is no path.

    Raises:
        InvalidInputError: with the path and what is wrong with it.
    """
    if not files:
        raise InvalidInputError("A version needs at least one file.", field="files")
    if len(files) > FILES_MAX:
        raise InvalidInputError(f"A version has at most {FILES_MAX} files, not {len(files)}.", field="files")
    paths = {file.path for file in files}
    if len(paths) != len(files):
        raise InvalidInputError("Two files have the same path.", field="files")
    for file in files:
        check_path(file.path)
        check_digest(file.digest, field="files.digest")
        if file.bytes < 0:
            raise InvalidInputError(f"{file.path!r} has {file.bytes} bytes.", field="files.bytes")
        if any(parent.as_posix() in paths for parent in PurePosixPath(file.path).parents):
            raise InvalidInputError(f"{file.path!r} lies below a path that is a file itself.", field="files.path")


def check_path(path: str) -> str:
    """Return `path` if it is relative, plain and stays below its folder.

    Raises:
        InvalidInputError: absolute, empty, too long, with `..`, a backslash, a drive or a control character.
    """
    plain = PurePosixPath(path)
    wrong = (
        not path
        or len(path) > PATH_CHARS_MAX
        or plain.is_absolute()
        or any(part in ("..", ".") or part.endswith((" ", ".")) for part in path.split("/"))
        or plain.as_posix() != path
        or "\\" in path
        or ":" in path
        or any(ord(character) < 32 or ord(character) == 127 for character in path)
    )
    if wrong or not _is_unicode(path):
        raise InvalidInputError(
            f"{path[:120]!r} cannot be the path of a file in a dataset.",
            hint="Use relative paths with forward slashes, without `..`, colons, backslashes and control characters.",
            field="path",
        )
    return path


def _is_unicode(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _walk(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield path.name, path
        return
    if not path.is_dir():
        raise InvalidInputError(f"There is no file or folder {str(path)!r}.", field="path")
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            found = Path(folder) / name
            if found.is_file():
                yield found.relative_to(path).as_posix(), found


def _hash(item: tuple[str, Path]) -> DatasetFile:
    name, path = item
    try:
        return DatasetFile(path=name, digest=digest_file(path), bytes=path.stat().st_size)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.", field="path") from error
