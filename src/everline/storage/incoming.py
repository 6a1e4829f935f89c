"""Bytes on their way into a blob store: hashed while they are written, seen by nobody until they are kept."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from everline.errors import UnavailableError
from everline.ids import new_uid
from everline.storage.hashing import PassingHash, copy_within, pieces_of


class Incoming:
    """One body, written once under a temporary name; whoever leaves the context without keeping it leaves nothing.

    The writer holds a lock on the file as long as it lives. A file without a lock is what a killed process
    left behind, and `collect` removes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hash = PassingHash()
        self._file: FileIO | None = None
        self.bytes = 0
        """How much was written."""

    def __enter__(self) -> Incoming:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    @property
    def digest(self) -> str:
        """The digest of what was written so far."""
        return self._hash.digest

    @property
    def path(self) -> Path:
        """Where the bytes are until they are kept or discarded."""
        return Path(str(self._opened().name))

    def write(self, data: bytes | memoryview) -> None:
        """Add a piece; it is hashed while it is written.

        Raises:
            UnavailableError: the disk is full, or cannot be written.
        """
        self._hash.update(data)
        try:
            _write_all(self._opened(), data)
        except OSError as error:
            raise _unwritable(error) from error
        self.bytes += len(data)

    def take(self, file: BinaryIO, *, bytes_max: int) -> None:
        """Add all of a file that was opened here, from its start; stop when there is more than `bytes_max`.

        Raises:
            UnavailableError: the disk is full, or cannot be written.
        """
        try:
            copied = copy_within(file, self._opened(), self._hash, bytes_max=bytes_max)
        except OSError as error:
            raise _unwritable(error) from error
        if copied is not None:
            self.bytes += copied
            return
        for piece in pieces_of(file):
            self.write(piece)
            if self.bytes > bytes_max:
                return

    def move(self, target: Path, *, sync: bool) -> None:
        """Give the bytes their name, in one step that either happened or not.

        Args:
            target: on the same file system; its folder is made.
            sync: whether the bytes and the name are on the disk, not only in the kernel's memory, on return.
        """
        source = self.path
        if sync:
            os.fsync(self._opened().fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
        if sync:
            _sync_folder(target.parent)
        self._close()

    def discard(self) -> None:
        """Forget the bytes, unless they were moved."""
        if self._file is not None:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            self._close()

    def _close(self) -> None:
        self._hash.close()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> FileIO:
        while self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: pieces are large, and a copy in between would only cost time.
            file = (self._folder / new_uid()).open("x+b", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                self._file = file
            else:  # collected as garbage in the instant before it was locked
                file.close()
        return self._file


def _unwritable(error: OSError) -> UnavailableError:
    return UnavailableError(
        f"The upload cannot be written: {error.strerror or error}.", hint="Make room on the server's disk."
    )


def collect(folder: Path) -> int:
    """Remove what killed processes left in a folder of incoming files; return how many files that were."""
    return sum(1 for path in _files(folder) if _remove_if_dead(path))


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from folder.iterdir()


def _remove_if_dead(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except (BlockingIOError, FileNotFoundError):  # its writer lives, or another collector was faster
        return False
    return True


def _write_all(file: FileIO, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
