"""Named files in a folder or a bucket: written once, seen only when whole, read whole or in part."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import msgspec
import obstore
from obstore.exceptions import NotFoundError as _Missing
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from everline.storage.folder import make_folder
from everline.storage.incoming import Incoming, collect

_CHUNK_BYTES = 4 << 20
_READ_BYTES = 1 << 20
_DELETED_AT_ONCE = 1_000
_SYNC_BYTES_MAX = 16 << 20
"""Files up to this size are on the disk before they are acknowledged.

Larger ones survive a killed process all the same; after a power cut the missing part is noticed by its digest.
Waiting for the disk would make an upload of gigabytes as slow as the disk instead of as fast as the network.
"""


class Kept(msgspec.Struct, frozen=True):
    """A file that is kept: its path, size in bytes, and when it was written."""

    path: str
    bytes: int
    at: datetime


class Objects:
    """A directory, or a bucket of S3, GCS or Azure.

    A local write goes to a temporary name and is renamed, and a bucket shows an object only when it is
    whole, so that a reader never sees half a file, whoever dies. A missing file is Python's `FileNotFoundError`.
    """

    def __init__(self, url: str, *, spool: Path | None = None) -> None:
        """Open a store.

        Args:
            spool: local folder where bodies wait until they are whole and go to a bucket; a directory has its own.
        """
        if "://" in url and not url.startswith("file://"):
            self._store: ObjectStore = from_url(url)
            self.directory: Path | None = None
            self._incoming = spool or Path(".everline") / "spool"
        else:
            self.directory = Path(url.removeprefix("file://")).absolute()
            make_folder(self.directory)
            self._store = LocalStore(self.directory)
            self._incoming = self.directory / "incoming"
        collect(self._incoming)

    def incoming(self) -> Incoming:
        """A new body to be written and then placed."""
        return Incoming(self._incoming)

    def place(self, body: Incoming, path: str) -> None:
        """Give a whole body its name."""
        if self.directory is None:
            obstore.put(self._store, path, body.path)
            body.discard()
        else:
            body.move(self.directory / path, sync=body.bytes <= _SYNC_BYTES_MAX)

    def put(self, path: str, content: bytes | Path) -> None:
        """Write a file."""
        obstore.put(self._store, path, content)

    def look(self, path: str) -> Kept | None:
        """Size and time of a file, or None if it is not there."""
        try:
            if self.directory is not None:
                found = os.stat(f"{self.directory}/{path}")  # noqa: PTH116 - many thousands are asked for at once
                return Kept(path, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
            head = obstore.head(self._store, path)
            return Kept(path, int(head["size"]), head["last_modified"])
        except (_Missing, FileNotFoundError):
            return None

    def get(self, path: str) -> bytes:
        """All of a file."""
        with _missing_as_python_says():
            return bytes(obstore.get(self._store, path).bytes())

    def stream(self, path: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """A file in chunks of 1 to 4 MiB, from byte `start` up to and without byte `end`; 0 <= start < end."""
        with _missing_as_python_says():
            if self.directory is not None:
                return _read(_open(self.directory / path, start=start), None if end is None else end - start)
            if start == 0 and end is None:
                result = obstore.get(self._store, path)
            elif end is None:
                result = obstore.get(self._store, path, options={"range": {"offset": start}})
            else:
                result = obstore.get(self._store, path, options={"range": (start, end)})
        return (bytes(chunk) for chunk in result.stream(min_chunk_size=_CHUNK_BYTES))

    def parts(self, path: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Several parts of a file at once, each from a start up to and without an end; short where the file ends."""
        with _missing_as_python_says():
            if self.directory is None:
                starts, ends = zip(*ranges, strict=True)
                return [bytes(part) for part in obstore.get_ranges(self._store, path, starts=starts, ends=ends)]
            with (self.directory / path).open("rb") as file:
                found = []
                for start, end in ranges:
                    file.seek(start)
                    found.append(file.read(end - start))
                return found

    def list(self, prefix: str) -> Iterator[Kept]:
        """The files below a folder, in no certain order."""
        for listed in obstore.list(self._store, prefix=prefix):
            for item in listed:
                yield Kept(item["path"], int(item["size"]), item["last_modified"])

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files; one that is gone already is not missed."""
        wanted = list(paths)
        if self.directory is not None:
            for path in wanted:
                (self.directory / path).unlink(missing_ok=True)
            return
        for first in range(0, len(wanted), _DELETED_AT_ONCE):
            with contextlib.suppress(_Missing, FileNotFoundError):
                obstore.delete(self._store, wanted[first : first + _DELETED_AT_ONCE])

    def delete_folder(self, prefix: str) -> None:
        """Remove all files below a folder."""
        if self.directory is not None:
            shutil.rmtree(self.directory / prefix, ignore_errors=True)
        else:
            self.delete([kept.path for kept in self.list(prefix)])

    def sign(self, path: str, *, seconds: int) -> str | None:
        """An address at which the bucket itself hands the file out for a while; None for a directory."""
        if not isinstance(self._store, (S3Store, GCSStore, AzureStore)):
            return None
        return obstore.sign(self._store, "GET", path, timedelta(seconds=seconds))


@contextlib.contextmanager
def _missing_as_python_says() -> Iterator[None]:
    try:
        yield
    except _Missing as error:
        raise FileNotFoundError(str(error)) from None


def _open(path: Path, *, start: int) -> BinaryIO:
    file = path.open("rb", buffering=0)
    file.seek(start)
    return file


def _read(file: BinaryIO, count: int | None) -> Iterator[bytes]:
    with file:
        while count is None or count > 0:
            chunk = file.read(_READ_BYTES if count is None else min(_READ_BYTES, count))
            if not chunk:
                return
            yield chunk
            count = None if count is None else count - len(chunk)
