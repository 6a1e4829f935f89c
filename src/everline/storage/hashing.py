"""SHA-256 of bytes that pass by, in a thread of its own: whoever writes them to a disk does not wait for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

_PIECE_BYTES = 1 << 20
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


class PassingHash:
    """Takes pieces in order; at most one of them is at work."""

    def __init__(self) -> None:
        self._hasher = hashlib.sha256()
        self._aside: ThreadPoolExecutor | None = None
        self._busy: Future[None] | None = None

    def update(self, data: bytes | memoryview) -> None:
        """Add a piece, which must not change before the next one is added: a large one is hashed after the return."""
        self._wait()
        if len(data) < _ASIDE_BYTES_MIN:
            self._hasher.update(data)
            return
        if self._aside is None:
            self._aside = ThreadPoolExecutor(1, thread_name_prefix="everline-hash")
        self._busy = self._aside.submit(self._hasher.update, data)

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
