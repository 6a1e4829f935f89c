"""Pieces of blobs: where they lie, and the recipe that puts a blob together. A recipe is kept as a blob itself."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate

import msgspec

from everline.errors import IntegrityError

_MAGIC = b"everline-recipe-1\n"
_ENTRY = struct.Struct("<32sI")
PIECES_MAX = 4_000_000
PIECE_BYTES_MAX = (1 << 32) - 1


class Piece(msgspec.Struct, frozen=True):
    """A part of a blob, named by its content."""

    digest: str
    bytes: int


class Place(msgspec.Struct, frozen=True):
    """Where a piece lies."""

    digest: str
    pack: str
    start: int
    bytes: int


class Pieced(msgspec.Struct, frozen=True):
    """A blob that is made of pieces; with `pack`, that pack is the blob, byte for byte."""

    digest: str
    bytes: int
    recipe: str
    pack: str | None


class Extent(msgspec.Struct, frozen=True):
    """Bytes of one file, from `start` up to and without `end`."""

    path: str
    start: int
    end: int


class Recipe:
    """Pieces one after another."""

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces
        self._ends = list(accumulate(piece.bytes for piece in pieces))
        self.bytes = self._ends[-1] if pieces else 0

    def covering(self, start: int, end: int) -> Iterator[tuple[Piece, int, int]]:
        """The pieces of the bytes from `start` up to and without `end`, each with the part of it that is meant."""
        for index in range(bisect_right(self._ends, start), len(self.pieces)):
            piece = self.pieces[index]
            first = self._ends[index] - piece.bytes
            if first >= end:
                return
            yield piece, max(start - first, 0), min(end - first, piece.bytes)


def write_recipe(pieces: Iterable[Piece]) -> bytes:
    """A recipe as bytes: a magic line, then 32 bytes of SHA-256 and a length in 4 bytes for each piece."""
    return _MAGIC + b"".join(
        _ENTRY.pack(bytes.fromhex(piece.digest.removeprefix("sha256:")), piece.bytes) for piece in pieces
    )


def read_recipe(data: bytes, *, blob: str, size: int) -> Recipe:
    """Read a recipe; what it says is believed only as far as it can be true.

    Args:
        blob: the digest of the blob that it should make, for the error.
        size: that blob's size in bytes.

    Raises:
        IntegrityError: it is no recipe, has too many or empty pieces, or its pieces do not make `size` bytes.
    """
    body = memoryview(data)[len(_MAGIC) :]
    if not data.startswith(_MAGIC) or len(body) % _ENTRY.size:
        raise _unusable(blob, "it is no recipe")
    if len(body) // _ENTRY.size > PIECES_MAX:
        raise _unusable(blob, f"it names {len(body) // _ENTRY.size} pieces; the most is {PIECES_MAX}")
    recipe = Recipe([Piece(f"sha256:{name.hex()}", count) for name, count in _ENTRY.iter_unpack(body)])
    if any(piece.bytes == 0 for piece in recipe.pieces):
        raise _unusable(blob, "it names an empty piece")
    if recipe.bytes != size:
        raise _unusable(blob, f"its pieces make {recipe.bytes} bytes, and the blob has {size}")
    return recipe


def _unusable(blob: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"The recipe of the blob {blob} cannot be used: {why}.",
        hint="It was altered in storage. Restore it from a backup, or add the data again.",
    )
