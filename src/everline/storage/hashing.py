"""SHA-256 of bytes that pass by, in a thread of its own: whoever writes them to a disk does not wait for it."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

_PIECE_BYTES = 1 << 20
_COPY_BYTES = 32 << 20
_ASIDE_BYTES_MIN = 256 << 10
"""Less is hashed sooner than handed over."""


def pieces_of(file: BinaryIO) -> Iterator[memoryview]:
    """A file in pieces of up to 1 MiB, each good until the one after the next is asked for.

    Two buffers in turn, so that a `PassingHash` may still be at work on the one before. Memory that is new each time
    costs more than reading, hashing and writing together: the kernel clears every page of it.
    """
    buffers = [memoryview(bytearray(_PIECE_BYTES)) for _ in range(2)]
    turn = 0
    while count := file.readinto(buffers[turn]):  # type: ignore[attr-defined]
        yield buffers[turn][:count]
        turn = 1 - turn


def copy_within(source: BinaryIO, target: FileIO, hasher: PassingHash, *, bytes_max: int) -> int | None:
    """Let the kernel copy a file to the end of another, which is hashed behind it; None if it cannot.

    A file system that can share the bytes of two files does; others copy with less than half the work of reading and
    writing. What is hashed is the copy, so that a source that changes meanwhile does no harm.

    Args:
        source: at its start.
        target: open for reading, too.

    Returns:
        How many bytes were copied; more than `bytes_max` if the source has more.
    """
    copied, begin = 0, target.tell()
    while copied <= bytes_max:
        try:
            count = os.copy_file_range(source.fileno(), target.fileno(), _COPY_BYTES)
        except (OSError, AttributeError):  # another kind of file system, or of kernel
            if copied:
                raise
            return None
        if count == 0:
            break
        hasher.update_from(target.fileno(), begin + copied, count)
        copied += count
    return copied


class PassingHash:
    """Takes pieces in order; at most one of them is at work."""

    def __init__(self) -> None:
        self._hasher = hashlib.sha256()
        self._aside: ThreadPoolExecutor | None = None
        self._busy: Future[None] | None = None

    @functools.cached_property
    def _buffer(self) -> memoryview:
        return memoryview(bytearray(_PIECE_BYTES))

    def update(self, data: bytes | memoryview) -> None:
        """Add a piece, which must not change before the next one is added: a large one is hashed after the return."""
        self._wait()
        if len(data) < _ASIDE_BYTES_MIN:
            self._hasher.update(data)
            return
        if self._aside is None:
            self._aside = ThreadPoolExecutor(1, thread_name_prefix="everline-hash")
        self._busy = self._aside.submit(self._hasher.update, data)

    def update_from(self, file: int, start: int, count: int) -> None:
        """Add bytes that lie in an open file and do not change any more; they are read and hashed after the return."""
        self._wait()
        if self._aside is None:
            self._aside = ThreadPoolExecutor(1, thread_name_prefix="everline-hash")
        self._busy = self._aside.submit(self._read, file, start, count)

    def _read(self, file: int, start: int, count: int) -> None:
        while count > 0:
            piece = self._buffer[: os.preadv(file, [self._buffer[:count]], start)]
            if not piece:
                raise OSError("the copy is shorter than what was copied")
            self._hasher.update(piece)
            start, count = start + len(piece), count - len(piece)

    @property
    def digest(self) -> str:
        """The digest of all pieces so far."""
        self._wait()
        return "sha256:" + self._hasher.hexdigest()

    def close(self) -> None:
        """Let the thread go; the digest can still be asked for."""
        self._wait()
        if self._aside is not None:
            self._aside.shutdown()
            self._aside = None

    def _wait(self) -> None:
        if self._busy is not None:
            self._busy.result()
            self._busy = None


class HashedFile(FileIO):
    """A new file that is hashed while it is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+b")
        self._hash = PassingHash()

    def write(self, data: Any, /) -> int:
        self._hash.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[super().write(rest) :]
        return len(data)

    def take(self, file: BinaryIO) -> bool:
        """Add all of a file, from its start, if the kernel can copy it."""
        return copy_within(file, self, self._hash, bytes_max=1 << 62) is not None

    def close(self) -> None:
        self._hash.close()
        super().close()

    @property
    def digest(self) -> str:
        return self._hash.digest
