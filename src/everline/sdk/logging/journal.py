"""The journal: what a run has logged and the server has not confirmed yet, on this machine's disk.

    EVERLINE_HOME/journal/<run>/<stream>/
        start.json              run, server, project, and what to start the run with
        <sequence>.log          entries; a file whose entries are all confirmed is deleted
        confirmed               the number of the last confirmed entry, 8 bytes; older than the truth does no harm
        refused.jsonl           what the server refused for good, and why
        blobs/<digest>          content of files and code that is not uploaded yet
        lock                    held while the writing process, or one that sends what it left, is alive

An entry is its length, CRC-32, number and kind, then its content. A file that breaks off in the middle of an
entry (the process was killed, the disk was full) is good up to there. Entries reach the operating system before
`append` returns, so they outlive `kill -9`; they are not flushed to the disk itself. A disk that takes no more is no
reason to stop training: entries are then held in memory, and go to disk again when it lets them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, Self

import msgspec

from everline.errors import IntegrityError
from everline.loader import load
from everline.runs.columns import Refusal
from everline.runs.types import CreateRun

FORMAT = 1
SEGMENT_BYTES_MAX = 8 << 20
HELD_BYTES_MAX = 64 << 20
_HEAD = struct.Struct("<IIQB")


class Kind(IntEnum):
    """What an entry is; the content of each is MessagePack."""

    BATCH = 1
    FILE = 2
    RECORD = 3
    FINISH = 4


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Whose journal it is. `owns_run`: the writer started the run, so that its death ends the run."""

    format: int = FORMAT
    run: str
    stream: str
    url: str
    project: str
    create: CreateRun
    owns_run: bool = True


class Entry(msgspec.Struct, frozen=True):
    """One thing to send. `after` is where the next one begins: file and offset; None if it is held in memory."""

    sequence: int
    kind: Kind
    content: bytes
    after: tuple[Path, int] | None


class Journal:
    """One stream's journal; safe to share between a thread that writes and one that sends.

    Entries are numbered from 1. `pending` shows the next ones, `confirm` moves on.
    """

    def __init__(self, folder: Path, start: Start, *, bytes_max: int, lock: BinaryIO | None) -> None:
        self.folder = folder
        self.start = start
        self.last = 0
        """The number of the last entry."""
        self.confirmed = 0
        self._bytes_max = bytes_max
        self._lock_file = lock
        self._mutex = threading.Lock()
        self._file: BinaryIO | None = None
        self._written = 0
        self._stored = 0
        self._cursor: tuple[Path, int] | None = None
        self._held: list[Entry] = []
        self._held_bytes = 0
        self._complained = False

    @classmethod
    def create(cls, home: Path, start: Start, *, bytes_max: int) -> Self:
        """Begin one; where the home cannot be written it lives in memory, and says so once."""
        folder = home / "journal" / start.run / start.stream
        try:
            folder.mkdir(parents=True)
            lock = _lock(folder)
            _write_whole(folder / "start.json", msgspec.json.encode(start))
        except OSError as error:
            journal = cls(folder, start, bytes_max=0, lock=None)
            journal._complain(error)
            return journal
        return cls(folder, start, bytes_max=bytes_max, lock=lock)

    @classmethod
    def take_over(cls, folder: Path) -> Self | None:
        """Open one that its process left behind; None while somebody else has it, or when it never began.

        Raises:
            IntegrityError: its start cannot be read.
        """
        try:
            content = (folder / "start.json").read_bytes()
            lock = _lock(folder)
        except OSError:
            return None
        try:
            start = msgspec.json.decode(content, type=Start)
        except msgspec.MsgspecError as error:
            lock.close()
            raise IntegrityError(
                f"The journal {folder} cannot be read: {error}.", hint="It was altered or is of another version."
            ) from error
        journal = cls(folder, start, bytes_max=0, lock=lock)
        journal._find_end()
        return journal

    @property
    def is_done(self) -> bool:
        """Whether every entry is confirmed."""
        return self.confirmed >= self.last

    @property
    def holds_memory(self) -> bool:
        """Whether entries exist in memory only."""
        return bool(self._held)

    @property
    def is_full(self) -> bool:
        """Whether memory must not hold more of what the disk does not take."""
        return self._held_bytes > HELD_BYTES_MAX

    @property
    def last_written_ms(self) -> int:
        """When the last entry was written, as far as the disk knows, in milliseconds since 1970."""
        return max((path.stat().st_mtime_ns for path in self.folder.iterdir()), default=0) // 1_000_000

    def append(self, kind: Kind, content: bytes) -> int:
        """Add an entry; return its number."""
        with self._mutex:
            return self._append(kind, content)

    def append_numbered(self, kind: Kind, encode: Any) -> int:
        """Add an entry that contains its own number: `encode(number)` is its content."""
        with self._mutex:
            return self._append(kind, encode(self.last + 1))

    def pending(self, *, bytes_max: int) -> list[Entry]:
        """The next entries that are not confirmed, at least one if there are any."""
        with self._mutex:
            found: list[Entry] = []
            size = 0
            for entry in self._unconfirmed():
                found.append(entry)
                size += len(entry.content)
                if size >= bytes_max:
                    break
            return found

    def last_entry(self) -> Entry | None:
        """The last entry that is not confirmed."""
        with self._mutex:
            last = None
            for entry in self._unconfirmed():
                last = entry
            return last

    def confirm(self, entry: Entry) -> None:
        """Everything up to this entry is with the server."""
        with self._mutex:
            self.confirmed = entry.sequence
            if entry.after is None:
                while self._held and self._held[0].sequence <= entry.sequence:
                    self._held_bytes -= len(self._held.pop(0).content)
                return
            self._cursor = entry.after
            with contextlib.suppress(OSError):
                for path in self._segments():
                    if path.name < entry.after[0].name:
                        self._stored -= path.stat().st_size
                        path.unlink()
                (self.folder / "confirmed").write_bytes(struct.pack("<Q", entry.sequence))

    def refuse(self, refusal: Refusal) -> None:
        """Keep what the server refused for good."""
        with contextlib.suppress(OSError), (self.folder / "refused.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(refusal) + b"\n")

    def refusals(self) -> list[Refusal]:
        """What was refused for good."""
        try:
            lines = (self.folder / "refused.jsonl").read_bytes().splitlines()
        except OSError:
            return []
        return [msgspec.json.decode(line, type=Refusal) for line in lines]

    def put_blob(self, digest: str, content: bytes | Path) -> None:
        """Keep content until it is uploaded.

        Raises:
            OSError: the disk does not take it.
        """
        target = self.blob(digest)
        target.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):
            _write_whole(target, content)
        else:
            partial = target.with_suffix(".partial")
            shutil.copyfile(content, partial)
            partial.replace(target)

    def blob(self, digest: str) -> Path:
        """Where content is kept."""
        return self.folder / "blobs" / digest.removeprefix("sha256:")

    def drop_blobs(self, digests: Sequence[str]) -> None:
        """Forget content that the server has now; whoever names it again will find it there."""
        for digest in digests:
            with contextlib.suppress(OSError):
                self.blob(digest).unlink()

    def close(self) -> None:
        """Let go; a journal whose entries are all confirmed is deleted, except for what was refused."""
        with self._mutex:
            if self._file is not None:
                self._file.close()
                self._file = None
            if self.is_done and self._lock_file is not None:
                self._delete()
            if self._lock_file is not None:
                self._lock_file.close()

    def _delete(self) -> None:
        with contextlib.suppress(OSError):
            if not (self.folder / "refused.jsonl").exists():
                shutil.rmtree(self.folder)
                self.folder.parent.rmdir()  # unless another stream of the run is there
                return
            for path in (*self._segments(), self.folder / "confirmed"):
                path.unlink(missing_ok=True)
            shutil.rmtree(self.folder / "blobs", ignore_errors=True)

    def _append(self, kind: Kind, content: bytes) -> int:
        sequence = self.last + 1
        try:
            if self._held or self._stored + len(content) > self._bytes_max:
                raise OSError("it has reached journal_bytes_max" if self._bytes_max else "no journal")
            self._write(sequence, kind, content)
        except OSError as error:
            self._complain(error)
            self._held.append(Entry(sequence, kind, content, None))
            self._held_bytes += len(content)
        self.last = sequence
        return sequence

    def _write(self, sequence: int, kind: Kind, content: bytes) -> None:
        if self._file is None or self._written >= SEGMENT_BYTES_MAX:
            if self._file is not None:
                self._file.close()
            path = self.folder / f"{sequence:016d}.log"
            self._file, self._written = path.open("xb", buffering=0), 0
            if self._cursor is None:
                self._cursor = (path, 0)
        frame = _frame(sequence, kind, content)
        try:
            if self._file.write(frame) != len(frame):
                raise OSError("the disk took a part only")
        except OSError:
            broken, self._file = self._file, None  # what comes next starts a file of its own
            with contextlib.suppress(OSError):
                broken.truncate(self._written)
            broken.close()
            raise
        self._written += len(frame)
        self._stored += len(frame)

    def _complain(self, error: OSError) -> None:
        if not self._complained and "no journal" not in str(error):
            self._complained = True
            sys.stderr.write(
                f"everline: the journal {self.folder} cannot be written ({error.strerror or error}); what the run "
                "logs is held in memory until the server has it.\n"
            )

    def _unconfirmed(self) -> Iterator[Entry]:
        if self._cursor is not None:
            path, offset = self._cursor
            for segment in self._segments():
                if segment.name >= path.name:
                    yield from _entries(segment, offset if segment == path else 0, after=self.confirmed)
        yield from self._held

    def _segments(self) -> list[Path]:
        return sorted(self.folder.glob("*.log"))

    def _find_end(self) -> None:
        with contextlib.suppress(OSError, struct.error):
            (self.confirmed,) = struct.unpack("<Q", (self.folder / "confirmed").read_bytes())
        segments = self._segments()
        self.last = self.confirmed
        if segments:
            self._cursor = (segments[0], 0)
            for entry in self._unconfirmed():
                self.last = entry.sequence


def _entries(path: Path, offset: int, *, after: int) -> Iterator[Entry]:
    """The good entries of a file from an offset on, up to its end or its first broken one."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while len(head := file.read(_HEAD.size)) == _HEAD.size:
                length, checksum, sequence, kind = _HEAD.unpack(head)
                content = file.read(length)
                if len(content) < length or zlib.crc32(content, zlib.crc32(head[8:])) != checksum:
                    return
                offset += _HEAD.size + length
                if sequence > after:
                    yield Entry(sequence, Kind(kind), content, (path, offset))
    except FileNotFoundError:
        return


def _frame(sequence: int, kind: Kind, content: bytes) -> bytes:
    rest = struct.pack("<QB", sequence, kind)
    return struct.pack("<II", len(content), zlib.crc32(content, zlib.crc32(rest))) + rest + content


def _write_whole(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)


def _lock(folder: Path) -> BinaryIO:
    """Hold a folder's lock until the file is closed, or the process ends in whatever way."""
    file = (folder / "lock").open("ab")
    try:
        if os.name == "posix":
            fcntl = load("fcntl")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt = load("msvcrt")
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError:
        file.close()
        raise
    return file
