"""What this machine remembers of files that it has hashed, so that one that did not change is not read again.

A file counts as unchanged while its size, inode, time of change and time of modification are the same. The time of
change cannot be set by programs. A file that was written just before it was hashed is not remembered: a second write
within the same tick of the file system's clock would not show.

What is remembered lies in one file a folder that was looked at, below `cache/seen` in the home directory, with what
the folder was added or checked out as. Losing it costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

import msgspec

from everline.ids import new_uid

FOLDERS_MAX = 500
"""Folders that are remembered; those that were not looked at for longest are forgotten."""
_TICK_NS = 100_000_000
_COARSE_TICK_NS = 2_100_000_000
"""Of file systems that know whole seconds only."""


class SeenFile(msgspec.Struct, frozen=True, array_like=True):
    """A file when it was hashed."""

    bytes: int
    inode: int
    modified_ns: int
    changed_ns: int
    digest: str

    def is_still(self, stat: os.stat_result) -> bool:
        """Whether the file system says of it what it said then."""
        return (
            self.changed_ns == stat.st_ctime_ns
            and self.modified_ns == stat.st_mtime_ns
            and self.bytes == stat.st_size
            and self.inode == stat.st_ino
        )


class SeenVersion(msgspec.Struct, frozen=True, array_like=True):
    """A version that files were added or checked out as."""

    version: int
    files_digest: str


class _Kept(msgspec.Struct, array_like=True):
    folder: str
    files: dict[str, SeenFile]
    versions: dict[str, SeenVersion]


class Folder:
    """What is remembered of one folder; paths are below it, with forward slashes."""

    def __init__(self, cache: Path, folder: str) -> None:
        self._folder = str(Path(folder).absolute())
        self._file = cache / hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:32]
        self._kept = self._read()
        self._changed = False

    def digest(self, path: str, stat: os.stat_result) -> str | None:
        """The digest of a file that did not change since it was hashed, else None."""
        seen = self._kept.files.get(path)
        return seen.digest if seen is not None and seen.is_still(stat) else None

    def remember(self, path: str, stat: os.stat_result, digest: str, *, at_ns: int) -> None:
        """Note the digest of a file.

        Args:
            stat: from before it was read, or from after it was written.
            at_ns: when it began to be read.
        """
        coarse = stat.st_mtime_ns % 1_000_000_000 == 0 and stat.st_ctime_ns % 1_000_000_000 == 0
        if max(stat.st_mtime_ns, stat.st_ctime_ns) + (_COARSE_TICK_NS if coarse else _TICK_NS) > at_ns:
            self._changed |= self._kept.files.pop(path, None) is not None
            return
        self._kept.files[path] = SeenFile(stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, digest)
        self._changed = True

    def version(self, key: str) -> SeenVersion | None:
        """What was last noted under a key by `remember_version`."""
        return self._kept.versions.get(key)

    def remember_version(self, key: str, version: SeenVersion) -> None:
        """Note as which version the folder, or files in it, were added or checked out."""
        self._kept.versions[key] = version
        self._changed = True

    def keep_only(self, paths: set[str]) -> None:
        """Forget files that are not there any more."""
        if len(self._kept.files) > len(paths):
            self._kept.files = {path: seen for path, seen in self._kept.files.items() if path in paths}
            self._changed = True

    def save(self) -> None:
        """Write it down; a home that cannot be written remembers nothing."""
        if not self._changed:
            return
        partial = self._file.with_name(new_uid())
        with contextlib.suppress(OSError):
            partial.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(msgspec.msgpack.encode(self._kept))
            partial.replace(self._file)
            _forget_oldest(partial.parent)
        self._changed = False

    def _read(self) -> _Kept:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            kept = msgspec.msgpack.decode(self._file.read_bytes(), type=_Kept)
            if kept.folder == self._folder:
                return kept
        return _Kept(self._folder, {}, {})


def now_ns() -> int:
    """The clock that files are stamped by."""
    return time.time_ns()


def _forget_oldest(cache: Path) -> None:
    files = sorted(cache.iterdir(), key=lambda file: file.stat().st_mtime)
    for file in files[:-FOLDERS_MAX]:
        file.unlink(missing_ok=True)
