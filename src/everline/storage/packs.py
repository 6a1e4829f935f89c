"""Pieces and small blobs in packs: where each lies is a row of the database, what it is its digest says.

A pack is one file with pieces one after another, written once. The database owns the places, because it is the one
store that all replicas change in transactions: pieces are found, or not, all at once, and a pack without a row is
rubbish of somebody who died. The bytes need no trust in it: a wrong place gives bytes of another digest.

Nothing is removed at once. What nobody refers to is condemned, and removed when it was condemned long enough; whoever
asks for it in the meantime, in order to rely on it, pardons it. See `storage.collector`.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec
from sqlalchemy import Connection, delete

from everline.errors import IntegrityError
from everline.ids import digest_bytes, new_uid
from everline.storage import tables
from everline.storage.db import Database, insert_rows, select_by_ids, upsert
from everline.storage.incoming import Incoming
from everline.storage.objects import Objects
from everline.storage.pieces import Extent, Piece, Pieced, Place, Recipe, read_recipe

_THREADS_MAX = 8
_HASHED_AT_ONCE = 64
_WHOLE_SHARE = 0.9
"""A body of which at least this share is new becomes a pack as it is: nothing is copied, and it is read in one go."""
_COPY_BYTES = 1 << 20
_PIECE_COLUMNS = ("digest", "pack", "start", "bytes")


def pack_path(uid: str) -> str:
    """Where a pack lies in its store."""
    return f"packs/{uid[-2:]}/{uid}"


class Packs:
    """The packs of one store and their index."""

    def __init__(self, objects: Objects, database: Database) -> None:
        self.objects = objects
        self.database = database

    def locate(self, digests: Sequence[str]) -> dict[str, Place]:
        """Where pieces and small blobs lie; those that are in no pack are left out."""
        statement = "SELECT digest, pack, start, bytes FROM blob_piece WHERE digest {ids}"
        with self.database.beside() as connection:
            return {row[0]: Place(*row) for row in select_by_ids(connection, statement, digests)}

    def pieced(self, digests: Sequence[str]) -> dict[str, Pieced]:
        """Blobs that are made of pieces; others are left out."""
        statement = "SELECT digest, bytes, recipe, pack FROM blob_pieced WHERE digest {ids}"
        with self.database.beside() as connection:
            return {row[0]: Pieced(*row) for row in select_by_ids(connection, statement, digests)}

    def pardon(self, digests: Sequence[str]) -> None:
        """Keep what was to be removed: somebody is about to rely on it.

        When it returns, each was either pardoned or is gone already. A writer that holds SQLite's one write
        transaction needs no pardon: nothing is removed until it has committed what it refers to.
        """
        if self.database.writes_here:
            return
        statement = "SELECT digest FROM blob_condemned WHERE digest {ids}"
        with self.database.beside() as connection:
            found = [row[0] for row in select_by_ids(connection, statement, digests)]
        if found:
            with self.database.beside(write=True) as connection:
                connection.execute(delete(tables.condemned).where(tables.condemned.c.digest.in_(found)))

    def extents(self, blob: Pieced, recipe: bytes, *, start: int, end: int) -> list[Extent]:
        """Where the bytes of a blob from `start` up to and without `end` lie, in order, neighbours joined.

        Raises:
            IntegrityError: the recipe cannot be used, or a piece is in no pack.
        """
        wanted = list(read_recipe(recipe, blob=blob.digest, size=blob.bytes).covering(start, end))
        places = self.locate(list({piece.digest for piece, _, _ in wanted}))
        found: list[Extent] = []
        for piece, first, last in wanted:
            place = places.get(piece.digest)
            if place is None or place.bytes != piece.bytes:
                what = "is in no pack" if place is None else f"has {place.bytes} bytes in its pack, not {piece.bytes}"
                raise IntegrityError(
                    f"The blob {blob.digest} cannot be put together: its piece {piece.digest} {what}.",
                    hint="Restore the blob store and the database from one backup, or add the data again.",
                )
            path = pack_path(place.pack)
            before = found[-1] if found else None
            if before is not None and before.path == path and before.end == place.start + first:
                found[-1] = Extent(path, before.start, place.start + last)
            else:
                found.append(Extent(path, place.start + first, place.start + last))
        return found

    def keep_cut(self, body: Incoming, lengths: Sequence[int], *, repair: bool = False) -> tuple[Recipe, str | None]:
        """Keep the pieces of a body that are not kept yet; return its recipe, and the pack that is the body itself.

        Args:
            lengths: of the pieces, in bytes; all together the body.
            repair: replace pieces that are kept and were altered.
        """
        recipe = Recipe(_name_pieces(body.path, lengths))
        unique = {piece.digest: piece for piece in recipe.pieces}
        self.pardon(list(unique))
        known = self.locate(list(unique))
        if repair:
            known = {digest: place for digest, place in known.items() if self.is_intact(place)}
        new_bytes = sum(piece.bytes for digest, piece in unique.items() if digest not in known)
        if new_bytes == 0:
            return recipe, None
        whole = new_bytes >= _WHOLE_SHARE * recipe.bytes
        places, start = [], 0
        starts: dict[str, int] = {}
        for piece in recipe.pieces:
            if piece.digest not in known and piece.digest not in starts:
                starts[piece.digest] = start
            start += piece.bytes
        uid, at = new_uid(), 0
        if whole:
            places = [Place(digest, uid, first, unique[digest].bytes) for digest, first in starts.items()]
            return recipe, uid if self._keep_pack(uid, body, places, replace=repair) else None
        with self.objects.incoming() as packed:
            with body.path.open("rb") as source:
                for digest, first in starts.items():
                    count = unique[digest].bytes
                    places.append(Place(digest, uid, at, count))
                    for chunk in _chunks(source, first, count):
                        packed.write(chunk)
                    at += count
            self._keep_pack(uid, packed, places, replace=repair)
        return recipe, None

    def keep_many(self, body: Incoming, contents: Sequence[Place], *, new: set[str]) -> None:
        """Keep small blobs that came in one body.

        Args:
            contents: which blob lies where in the body; verified.
            new: those that are not kept yet.
        """
        wanted = [place for place in contents if place.digest in new]
        uid = new_uid()
        if wanted and len(wanted) == len(contents):
            self._keep_pack(uid, body, [Place(one.digest, uid, one.start, one.bytes) for one in wanted])
        elif wanted:
            with self.objects.incoming() as packed:
                places = []
                with body.path.open("rb") as source:
                    for one in wanted:
                        places.append(Place(one.digest, uid, packed.bytes, one.bytes))
                        source.seek(one.start)
                        packed.write(source.read(one.bytes))
                self._keep_pack(uid, packed, places)

    def name(self, blob: Pieced, *, replace: bool = False) -> None:
        """Let a blob be found by its recipe, if it is not found already."""
        with self.database.beside(write=True) as connection:
            row = msgspec.structs.asdict(blob)
            # One that is a pack as a whole is read faster than one that is put together.
            update = ["recipe", "pack"] if replace or blob.pack is not None else None
            upsert(connection, tables.pieced, [row], keys=["digest"], update=update)

    def is_intact(self, place: Place) -> bool:
        """Whether a piece still has its digest where it lies."""
        try:
            data = self.objects.parts(pack_path(place.pack), [(place.start, place.start + place.bytes)])[0]
        except (OSError, ValueError):
            return False
        return digest_bytes(data) == place.digest

    def _keep_pack(self, uid: str, body: Incoming, places: Sequence[Place], *, replace: bool = False) -> bool:
        """Whether it was kept; not if all of it was kept by somebody else meanwhile."""
        size = body.bytes
        # First the bytes, then the rows: a row always finds its bytes, whoever is killed between them.
        self.objects.place(body, pack_path(uid))
        with self.database.beside(write=True) as connection:
            kept = self._insert(connection, uid, size, places, replace=replace)
        if kept == 0:
            self._forget(uid)
        return kept > 0

    def _forget(self, uid: str) -> None:
        """Drop a pack that was made in vain, because somebody else kept the same at the same time."""
        with self.database.beside(write=True) as connection:
            connection.execute(delete(tables.piece).where(tables.piece.c.pack == uid))
            connection.execute(delete(tables.pack).where(tables.pack.c.uid == uid))
        self.objects.delete([pack_path(uid)])

    def _insert(self, connection: Connection, uid: str, size: int, places: Sequence[Place], *, replace: bool) -> int:
        row = {"uid": uid, "bytes": size, "created_at": datetime.now(UTC), "left_at": None}
        upsert(connection, tables.pack, [row], keys=["uid"])
        if replace:
            moved = [msgspec.structs.asdict(place) for place in places]
            return upsert(connection, tables.piece, moved, keys=["digest"], update=["pack", "start", "bytes"])
        values = [(place.digest, place.pack, place.start, place.bytes) for place in places]
        return insert_rows(connection, tables.piece, _PIECE_COLUMNS, values, keys=["digest"])


def _name_pieces(path: Path, lengths: Sequence[int]) -> list[Piece]:
    """Hash pieces of a file; both cores, because large pieces leave Python's lock."""
    ranges, start = [], 0
    for count in lengths:
        ranges.append((start, start + count))
        start += count
    groups = [ranges[first : first + _HASHED_AT_ONCE] for first in range(0, len(ranges), _HASHED_AT_ONCE)]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)

        def named(group: list[tuple[int, int]]) -> list[Piece]:
            return [Piece("sha256:" + hashlib.sha256(view[a:b]).hexdigest(), b - a) for a, b in group]

        with ThreadPoolExecutor(min(_THREADS_MAX, os.cpu_count() or 1)) as pool:
            pieces = [piece for group in pool.map(named, groups) for piece in group]
        view.release()
    return pieces


def _chunks(source: BinaryIO, start: int, count: int) -> Iterator[bytes]:
    source.seek(start)
    while count > 0 and (chunk := source.read(min(count, _COPY_BYTES))):
        yield chunk
        count -= len(chunk)
