"""SQLite's write-ahead log on disk: many commits, one flush.

A commit with `synchronous=NORMAL` is a write to the operating system: whoever kills this process, it stays. Only a
power cut could still take it. Waiting for the disk is therefore a step of its own here, outside of the
database's write lock: while one flush is under way the next transactions commit, and all of them are covered
by the flush after it. That is what a server database calls group commit.

Source: sqlite.org/wal.html ("Performance Considerations") and sqlite.org/pragma.html#pragma_synchronous: what FULL
adds to NORMAL in WAL mode is one flush of the log after each commit, which is what `flush` does.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

_flush_to_disk = getattr(os, "fdatasync", os.fsync)


class WriteAheadLog:
    """Brings the log of one database to the disk, for this process's own commits.

    The log file is never closed by a transaction, so that its descriptor may be kept; SQLite's own locks are
    on the database file, which is not touched here.
    """

    def __init__(self, database: Path, *, delay_s: float) -> None:
        self._path = database.with_name(database.name + "-wal")
        self._delay_s = delay_s
        self._count = threading.Lock()
        self._flushing = threading.Lock()
        self._commits = 0
        self._flushed = 0
        self._file = -1
        self._soon = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def flush(self) -> None:
        """Return when every commit made before this call survives a power cut; callers at the same time share."""
        with self._count:
            self._commits += 1
            mine = self._commits
        with self._flushing:
            if self._flushed >= mine:
                return  # a flush that began after our commit has ended meanwhile
            with self._count:
                covered = self._commits
            with contextlib.suppress(FileNotFoundError):  # no log: nothing was written yet
                _flush_to_disk(self._descriptor())
            self._flushed = covered

    def flush_soon(self) -> None:
        """Have it flushed within the delay, by a thread; the caller does not wait."""
        if self._delay_s == 0:
            self.flush()
        elif not self._soon.is_set():
            self._soon.set()
            if self._thread is None:
                self._start()

    def close(self) -> None:
        """Flush what waits, and let the file go."""
        self._closed.set()
        self._soon.set()
        if self._thread is not None:
            self._thread.join()
        with self._flushing:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _start(self) -> None:
        with self._count:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="everline-wal", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while not self._closed.is_set():
            self._soon.wait()
            self._closed.wait(self._delay_s)
            self._soon.clear()
            self.flush()

    def _descriptor(self) -> int:
        # Without a name the log was replaced: by a restored backup, or after all connections were closed.
        if self._file >= 0 and os.fstat(self._file).st_nlink == 0:
            os.close(self._file)
            self._file = -1
        if self._file < 0:
            self._file = os.open(self._path, os.O_RDWR)
        return self._file
