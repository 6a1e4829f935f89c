"""Where a large file is cut into pieces, so that a changed copy of it shares most of them.

A Parquet file is cut where it says itself: at its column chunks and at the pages in them, which a writer makes again
byte for byte as long as their rows are the same. Other files are cut by content (FastCDC 2020): a cut depends on the
bytes before it alone, so that an insertion moves the cuts with the bytes.

Sources: github.com/apache/parquet-format, `parquet.thrift` (PageHeader) and the Thrift compact protocol;
W. Xia et al., The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems, 2020.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyfastcdc import FastCDC

from everline.loader import load

_PIECE_BYTES_MIN = 64 << 10
_PIECE_BYTES = 256 << 10
_PIECE_BYTES_MAX = 4 << 20
_PAGE_STEP_BYTES = 1 << 20
"""Larger pages are cut at equal steps: a value that changed in place leaves the other steps as they were."""
_WINDOW_BYTES = 64 << 20
_HEADER_BYTES = (1 << 10, 64 << 10)
"""How much of a page is looked at for its header: nearly always the first is enough."""
_DEPTH_MAX = 16


def cut(path: Path, *, parquet: bool) -> list[int]:
    """The lengths of a file's pieces, in order; all together the file.

    Args:
        parquet: the file says that it is Parquet; one that is not, or is damaged, is cut by content.
    """
    size = path.stat().st_size
    if size == 0:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        pages = _pages(mapped, path) if parquet else []
        if not pages:
            return list(_by_content(mapped, 0, size))
        return list(_by_pages(sorted({0, size, *pages})))


def _by_pages(bounds: list[int]) -> Iterator[int]:
    """Lengths from page to page: neighbours that are small become one piece, and large ones several."""
    start = 0
    for end in bounds[1:]:
        if end - start < _PIECE_BYTES_MIN and end != bounds[-1]:
            continue
        while end - start > 2 * _PAGE_STEP_BYTES:
            yield _PAGE_STEP_BYTES
            start += _PAGE_STEP_BYTES
        yield end - start
        start = end


def _by_content(mapped: mmap.mmap, start: int, end: int) -> Iterator[int]:
    """Lengths by FastCDC, window by window: it reads bytes in memory, and a file may be larger than that."""
    cutter = FastCDC(_PIECE_BYTES, min_size=_PIECE_BYTES_MIN, max_size=_PIECE_BYTES_MAX)
    while start < end:
        window = mapped[start : min(start + _WINDOW_BYTES, end)]
        lengths = [chunk.length for chunk in cutter.cut_buf(window)]
        if start + len(window) < end:
            lengths.pop()  # cut short by the window, not by its content; the next window begins with it
        yield from lengths
        start += sum(lengths)


def _pages(mapped: mmap.mmap, path: Path) -> list[int]:
    """Where column chunks and pages begin and end; as far as they can be read."""
    try:
        footer = load("pyarrow.parquet").read_metadata(path)
    except (pa.ArrowException, OSError):
        return []
    found: list[int] = []
    for group in range(footer.num_row_groups):
        for column in range(footer.num_columns):
            chunk = footer.row_group(group).column(column)
            at = chunk.data_page_offset
            if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                at = min(at, chunk.dictionary_page_offset)
            end = at + chunk.total_compressed_size
            if not 0 <= at < end <= len(mapped):
                return []  # a footer that lies; what it says of the rest is worth no more
            found += [at, end, *_page_starts(mapped, at, end)]
    return found


def _page_starts(mapped: mmap.mmap, at: int, end: int) -> Iterator[int]:
    while at < end:
        yield at
        size = None
        for count in _HEADER_BYTES:
            size = size or _Header(mapped[at : min(at + count, end)]).page_bytes()
        if size is None:
            return
        at += size


class _Header:
    """A page's header, read as far as its length and that of the page: a Thrift struct in the compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._compressed: int | None = None

    def page_bytes(self) -> int | None:
        """Bytes of header and page together, or None if this is no header."""
        try:
            self._struct(0, top=True)
        except (IndexError, ValueError):
            return None
        if self._compressed is None or self._compressed < 0:
            return None
        return self._at + self._compressed

    def _byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def _number(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError

    def _struct(self, depth: int, *, top: bool = False) -> None:
        field = 0
        while (head := self._byte()) != 0:
            kind, step = head & 0x0F, head >> 4
            field = field + step if step else self._signed()
            if top and field == 3 and kind == 5:  # compressed_page_size, an i32
                self._compressed = self._signed()
            else:
                self._skip(kind, depth + 1)

    def _signed(self) -> int:
        value = self._number()
        return value >> 1 ^ -(value & 1)

    def _skip(self, kind: int, depth: int) -> None:
        if depth > _DEPTH_MAX:
            raise ValueError
        if kind in (1, 2):  # true, false: the value is the type
            return
        if kind == 3:
            self._at += 1
        elif kind in (4, 5, 6):
            self._number()
        elif kind == 7:
            self._at += 8
        elif kind == 8:
            count = self._number()  # before the addition, which would read the place first
            self._at += count
        elif kind in (9, 10):
            head = self._byte()
            count = head >> 4
            for _ in range(self._number() if count == 15 else count):
                self._skip(head & 0x0F, depth + 1)
        elif kind == 12:
            self._struct(depth)
        else:
            raise ValueError
