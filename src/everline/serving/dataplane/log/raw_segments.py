"""The prediction log on local disk: raw segments, appended to before an answer leaves.

A raw segment is eight bytes of magic, then frames: length and CRC-32 of the payload (little endian,
32 bits each), then the payload in msgpack. One frame holds the requests that one revision answered together, its
columns packed (see `packing`). The first frame about a package carries its signature, so that a segment can be read
with nothing else at hand.

What is promised: an answer that left is in the segment, whoever kills this process when. Where an endpoint's durability
is a number of seconds, rows of the last so many seconds may be in memory only. The bytes are handed
to the kernel with write(2) first; they are forced to the disk when the segment is closed. A torn last frame
(its answer never left) ends the segment; everything before it is kept.

A segment is `<uid>.open` while it is written, then `<uid>.raw`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from everline.errors import UnavailableError
from everline.ids import new_uid
from everline.models.signature import Signature
from everline.serving.dataplane.log.packing import Packed

MAGIC = b"EVLOG\x00\x00\x01"
_FRAME = struct.Struct("<II")
_WAITING_BYTES_MAX = 1 << 20
_WAITING_PART = 0.5
"""Rows are written after this part of the time that they may wait: a busy event loop must not make it longer."""

log = logging.getLogger("everline.serve")


class PackageRecord(msgspec.Struct, frozen=True, kw_only=True, tag="package"):
    """The types of the inputs and outputs of the records that name this package."""

    package: str
    signature: Signature


class PredictionRecord(msgspec.Struct, frozen=True, kw_only=True, tag="predictions"):
    """Requests that were answered together; their rows stand one after the other in everything that is per row.

    Times are microseconds since 1970 in UTC.

    Attributes:
        runtime: which of the package's runtimes answered; a replay asks the same one.
        requests: per request, its id.
        rows: per request, how many rows are its own.
        latency_us: per request, from its arrival to just before the answers were written.
        predictions: per row, its id.
        event_time_us: per row; empty when no caller named one.
        inputs, outputs: per field, its packed rows.
        roles: per request, what the revision was for it: primary, canary or shadow.
        keys: per request, the hash of whose it is; empty where nobody said so.
        primaries: per row of a shadow, the prediction that was answered in its place; empty for answers.
    """

    at_us: int
    project: str
    endpoint: str
    revision: str
    package: str
    release: str
    runtime: str = "native"
    requests: list[str]
    rows: list[int]
    latency_us: list[int]
    predictions: list[str]
    event_time_us: list[int | None]
    inputs: dict[str, Packed]
    outputs: dict[str, Packed]
    roles: list[str] = []
    keys: list[str | None] = []
    primaries: list[str] = []


class _Waiting(NamedTuple):
    """Frames of answered requests that are not written yet."""

    package: str
    signature: Signature
    frames: bytes


class SegmentContent(msgspec.Struct, frozen=True):
    """What a raw segment holds; `torn_bytes` at its end belong to no whole frame."""

    signatures: dict[str, Signature]
    records: list[PredictionRecord]
    torn_bytes: int


class PredictionLog:
    """Appends to the open segment. Used from one thread only, that of an event loop if rows may wait."""

    def __init__(
        self, directory: Path, *, segment_bytes_max: int, segment_s: float, spool_bytes_max: int, owner: str = ""
    ) -> None:
        """Append in a directory.

        Args:
            owner: which of several processes that write there this is.
        """
        self._directory = directory
        self._mark = f".{owner}" if owner else ""
        self._segment_bytes_max = segment_bytes_max
        self._segment_s = segment_s
        self._spool_bytes_max = spool_bytes_max
        self._encoder = msgspec.msgpack.Encoder()
        self._handle = -1
        self._path = directory
        self._written = 0
        self._opened_at = 0.0
        self._packages: set[str] = set()
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self.spool_bytes = 0
        """What waits on this disk, as measured last, and what was closed since."""

    def measured(self, spool_bytes: int) -> None:
        """Take over what waits on this disk; called now and then, because another process brings it away."""
        self.spool_bytes = spool_bytes

    def append(self, record: PredictionRecord, signature: Signature, *, within_s: float = 0.0) -> None:
        """Write requests that were answered; after this returns, the answers may leave.

        Args:
            within_s: how long the rows may be in memory only, so that several are written together; 0 for not at all.

        Raises:
            UnavailableError: the spool is full, or the disk refuses; the answer must not leave.
        """
        if self.spool_bytes + self._written + self._waiting_bytes > self._spool_bytes_max:
            raise UnavailableError(
                f"The prediction log waits with {self.spool_bytes} bytes, which is its limit; nothing is answered "
                "that cannot be logged.",
                hint="Bring the control plane back, so that the log can ship, or raise spool_bytes_max.",
            )
        try:
            if within_s > 0.0 and self._waiting_bytes < _WAITING_BYTES_MAX and not self._is_late:
                self._let_wait(record, signature, within_s=within_s)
                return
            self._flush()
            if self._handle < 0:
                self._open()
            frames = self._frame(record)
            if record.package not in self._packages:
                frames = self._frame(PackageRecord(package=record.package, signature=signature)) + frames
            self._write(frames)
        except OSError as error:
            self._undo()
            raise UnavailableError(
                f"The prediction log cannot be written: {error.strerror}; nothing is answered that is not logged.",
                hint="Make room on the disk of the data plane's home directory.",
            ) from error
        self._packages.add(record.package)

    def due(self) -> bool:
        """Whether the open segment is large or old enough to be closed."""
        if self._handle < 0:
            return False
        return self._written >= self._segment_bytes_max or time.monotonic() - self._opened_at >= self._segment_s

    def detach(self) -> tuple[int, Path] | None:
        """Stop writing to the open segment; hand it to `finish`, which may run in another thread."""
        self._flush_or_keep()
        if self._handle < 0 or self._is_late:
            return None
        detached = self._handle, self._path
        self.spool_bytes += self._written
        self._handle, self._written = -1, 0
        self._packages.clear()
        return detached

    # --- rows that wait --------------------------------------------------------------------------

    @property
    def _is_late(self) -> bool:
        """Whether rows wait that should have been written by now."""
        return bool(self._waiting) and self._timer is None

    def _let_wait(self, record: PredictionRecord, signature: Signature, *, within_s: float) -> None:
        frames = self._frame(record)
        self._waiting.append(_Waiting(record.package, signature, frames))
        self._waiting_bytes += len(frames)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(within_s * _WAITING_PART, self._flush_or_keep)

    def _flush_or_keep(self) -> None:
        """Write what waits; if the disk refuses, keep it, and let nothing more be answered until it takes it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            self._flush()
        except OSError as error:
            log.error("the prediction log cannot be written: %s", error.strerror)
            self._undo()

    def _flush(self) -> None:
        if not self._waiting:
            return
        if self._handle < 0:
            self._open()
        missing = {one.package: one.signature for one in self._waiting if one.package not in self._packages}
        heads = [self._frame(PackageRecord(package=name, signature=kind)) for name, kind in missing.items()]
        self._write(b"".join([*heads, *(one.frames for one in self._waiting)]))
        self._packages |= missing.keys()
        self._waiting.clear()
        self._waiting_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- the file --------------------------------------------------------------------------------

    def _open(self) -> None:
        self._path = self._directory / f"{new_uid()}{self._mark}.open"
        self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._written = 0
        self._opened_at = time.monotonic()
        self._write(MAGIC)

    def _frame(self, record: PackageRecord | PredictionRecord) -> bytes:
        payload = self._encoder.encode(record)
        return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._handle, rest) :]
        self._written += len(data)

    def _undo(self) -> None:
        """Cut a half-written frame off, so that it does not hide what is written after it."""
        if self._handle < 0:
            return
        try:
            os.ftruncate(self._handle, self._written)
        except OSError:
            os.close(self._handle)
            self._handle = -1
            self._packages.clear()


def finish(detached: tuple[int, Path]) -> None:
    """Force a detached segment to the disk and give it the name under which the shipper takes it."""
    handle, path = detached
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    path.rename(path.with_suffix(".raw"))


def adopt_open_segments(directory: Path, *, owner: str | None = None) -> int:
    """Close the segments of a process that died; return how many there were. Only the directory's owner may.

    Args:
        owner: whose; None means everybody's.
    """
    found = sorted(directory.glob("*.open" if owner is None else f"*.{owner}.open"))
    for path in found:
        path.rename(path.with_suffix(".raw"))
    return len(found)


def read_segment(path: Path) -> SegmentContent:
    """Read every whole frame of a segment."""
    data = path.read_bytes()
    signatures: dict[str, Signature] = {}
    records: list[PredictionRecord] = []
    decoder = msgspec.msgpack.Decoder(PackageRecord | PredictionRecord)
    position = len(MAGIC) if data.startswith(MAGIC) else 0
    while position > 0 and position + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, position)
        payload = memoryview(data)[position + _FRAME.size : position + _FRAME.size + length]
        if len(payload) != length or zlib.crc32(payload) != checksum:
            break
        record = decoder.decode(payload)
        if isinstance(record, PackageRecord):
            signatures[record.package] = record.signature
        else:
            records.append(record)
        position += _FRAME.size + length
    return SegmentContent(signatures, records, len(data) - position)
