"""The file of a bundle: a ZIP whose table of contents names every file by its digest, read with distrust."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import msgspec

from everline.bundles.types import README, SCHEMA, Contents, Kind, Listed
from everline.canonical import canonical_json
from everline.errors import IntegrityError, InvalidInputError
from everline.ids import digest_bytes, digest_file

CONTENTS, STATEMENT, README_FILE = "bundle.json", "statement.json", "README.txt"
FACTS, PROOFS, RECORD, SIGNATURE, CERTIFICATES = (
    "facts.json",
    "proofs.json",
    "record.json",
    "package.sig.json",
    "certificates.json",
)
SERVING, DEPENDENCIES, KEY = "serving.json", "dependencies.json", "key.pub"
FILES_MAX = 200_000
JSON_BYTES_MAX = 64 << 20
FILE_BYTES_MAX = 64 << 30
_PLAIN = frozenset({CONTENTS, STATEMENT, README_FILE})
"""Files that the table of contents does not list: itself, its signature, and what is for people."""
_WRITTEN_AT = (1980, 1, 1, 0, 0, 0)
_PACKED_BYTES_MAX = 1 << 20
_EXPANSION_MAX, _EXPANSION_FREE = 100, 64 << 20
"""A bundle may grow by this factor, and so many bytes, when it is unpacked; beyond, it is a bomb."""
_SEAL = b"everline "
_SEAL_BYTES = len(_SEAL) + 64
"""The archive's comment: SHA-256 of every byte before it, so that no byte can change unseen, of the ZIP's own too."""
T = TypeVar("T")


class Writer:
    """Writes a bundle; equal contents give equal bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        self.files: list[Listed] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.comment = _SEAL + b"0" * 64
        self._zip.close()
        seal = _sealed(self._path)
        with self._path.open("r+b") as file:
            file.seek(-64, 2)
            file.write(seal.encode())

    def add(self, path: str, data: bytes) -> None:
        """Add a file from memory."""
        self._write(path, data)
        self.files.append(Listed(path=path, digest=digest_bytes(data), bytes=len(data)))

    def add_stream(self, path: str, digest: str, pieces: Iterator[bytes]) -> None:
        """Add a file in pieces, whose digest is known; who reads the bundle holds it against that."""
        size = 0
        info = zipfile.ZipInfo(path, _WRITTEN_AT)
        with self._zip.open(info, "w", force_zip64=True) as file:
            for piece in pieces:
                file.write(piece)
                size += len(piece)
        self.files.append(Listed(path=path, digest=digest, bytes=size))

    def finish(self, contents: Contents, *, sign: Mapping[str, Any] | None) -> None:
        """Write the table of contents, its signature, and what is for people."""
        self._write(CONTENTS, contents_bytes(contents))
        if sign is not None:
            self._write(STATEMENT, canonical_json(dict(sign)))
        if not any(one.path == README_FILE for one in self.files):
            self._write(README_FILE, README.encode())

    def _write(self, path: str, data: bytes) -> None:
        info = zipfile.ZipInfo(path, _WRITTEN_AT)
        packed = len(data) <= _PACKED_BYTES_MAX
        self._zip.writestr(info, data, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)


def contents_bytes(contents: Contents) -> bytes:
    """The table of contents as it is written and signed: canonical JSON."""
    return canonical_json(msgspec.to_builtins(contents))


class Reader:
    """Unpacks a bundle into an empty folder, every listed file verified, nothing else taken."""

    def __init__(self, path: Path, folder: Path) -> None:
        """Unpack.

        Raises:
            InvalidInputError: the file cannot be read as a bundle at all.
            IntegrityError: a file is missing, altered, not listed, or its path leaves the folder.
        """
        self.folder = folder
        try:
            with zipfile.ZipFile(path) as archive:
                self._unpack(archive)
                comment = archive.comment
        # A damaged header may name a compression that zipfile does not know: its NotImplementedError.
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
            raise InvalidInputError(
                f"{path} is no evidence bundle, or was damaged: {error}.",
                hint="`everline export TARGET FILE` writes one.",
                field="bundle",
            ) from error
        # Last, for what comes before can name the file that was altered.
        sealed = comment.startswith(_SEAL) and len(comment) == _SEAL_BYTES
        if sealed and comment.removeprefix(_SEAL).decode("latin-1") != _sealed(path):
            raise IntegrityError(f"{path} is not as it was written: the archive around its files was altered.")
        if not sealed and self.contents.kind is Kind.SERVING:
            raise IntegrityError(f"{path} is not as it was written: it lacks its seal.")

    def _unpack(self, archive: zipfile.ZipFile) -> None:
        names = archive.namelist()
        if len(names) > FILES_MAX or len(set(names)) != len(names):
            raise ValueError("it holds too many files, or one twice")
        if CONTENTS not in names:
            raise ValueError(f"it has no {CONTENTS}")
        self.contents_raw = _bounded(archive, CONTENTS)
        try:
            self.contents = msgspec.json.decode(self.contents_raw, type=Contents)
        except msgspec.DecodeError as error:
            raise ValueError(f"{CONTENTS} cannot be read: {error}") from error
        if self.contents.schema != SCHEMA:
            raise ValueError(f"its layout is {self.contents.schema}; this Everline reads {SCHEMA}")
        self.statement_raw = _bounded(archive, STATEMENT) if STATEMENT in names else None
        listed = {one.path: one for one in self.contents.files}
        packed = sum(info.compress_size for info in archive.infolist())
        if sum(one.bytes for one in listed.values()) > _EXPANSION_MAX * packed + _EXPANSION_FREE:
            raise ValueError(f"it would unpack to more than {_EXPANSION_MAX} times its size")
        extra = sorted(set(names) - set(listed) - _PLAIN)
        if extra:
            raise IntegrityError(f"The bundle holds a file that its table of contents does not list: {extra[0]!r}.")
        for one in listed.values():
            if one.path not in names:
                raise IntegrityError(f"The bundle lacks {one.path!r}, which its table of contents lists.")
            self._take(archive, one)

    def _take(self, archive: zipfile.ZipFile, one: Listed) -> None:
        target = (self.folder / one.path).resolve()
        if not target.is_relative_to(self.folder.resolve()) or "\\" in one.path:
            raise IntegrityError(f"The bundle names {one.path!r}, which lies outside of it.")
        if not 0 <= one.bytes <= FILE_BYTES_MAX:
            raise IntegrityError(f"The bundle says that {one.path!r} has {one.bytes} bytes.")
        target.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        with _opened(archive, one.path) as file, target.open("wb") as copy:
            while piece := file.read(1 << 20):
                size += len(piece)
                if size > one.bytes:
                    break
                copy.write(piece)
        if size != one.bytes or digest_file(target) != one.digest:
            raise IntegrityError(f"The file {one.path!r} of the bundle is not what its table of contents says.")

    def read(self, path: str, kind: type[T]) -> T | None:
        """A JSON file of the bundle; None if it has none.

        Raises:
            IntegrityError: it is not of this form.
        """
        file = self.folder / path
        if not any(one.path == path for one in self.contents.files):
            return None
        try:
            return msgspec.json.decode(file.read_bytes(), type=kind)
        except msgspec.DecodeError as error:
            raise IntegrityError(f"The file {path!r} of the bundle cannot be read: {error}.") from error

    def blob(self, digest: str) -> Path:
        """Where the bytes of a digest lie.

        Raises:
            IntegrityError: the bundle has no such file.
        """
        path = blob_path(digest)
        if not any(one.path == path and one.digest == digest for one in self.contents.files):
            raise IntegrityError(f"The bundle lacks the bytes of {digest}.")
        return self.folder / path


def blob_path(digest: str) -> str:
    """Where the bytes of a digest lie in a bundle."""
    return f"blobs/{digest.removeprefix('sha256:')}"


def _sealed(path: Path) -> str:
    """SHA-256 of a file up to the end of its seal's prefix, hexadecimal."""
    digest = hashlib.sha256()
    left = path.stat().st_size - 64
    with path.open("rb") as file:
        while left > 0 and (piece := file.read(min(1 << 20, left))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()


@contextmanager
def _opened(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    """Read a file of the archive; bytes that cannot be unpacked are told with its name."""
    try:
        with archive.open(name) as file:
            yield file
    # A damaged header may name a compression that zipfile does not know: its NotImplementedError.
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise IntegrityError(f"The file {name!r} of the bundle was altered: {error}.") from error


def _bounded(archive: zipfile.ZipFile, name: str) -> bytes:
    with _opened(archive, name) as file:
        data = file.read(JSON_BYTES_MAX + 1)
    if len(data) > JSON_BYTES_MAX:
        raise ValueError(f"{name} is longer than {JSON_BYTES_MAX} bytes")
    return data
