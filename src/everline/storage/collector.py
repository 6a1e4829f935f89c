"""Garbage: bytes that nothing refers to are first condemned, and removed when they were condemned for long enough.

What refers to bytes is read from the database: columns that are declared to name blobs (`storage.schema`), every
digest that stands in any other text, and what the named manifests name. So a column that nobody thought of keeps too
much, never too little.

Between the two steps lies the grace. Whoever asks whether a blob or piece is kept, in order to rely on it, pardons it
(`Packs.pardon`), and has the grace again until what refers to it must be committed. The removal takes the word of
condemnation and the bytes in one transaction, so that a pardon either comes before it, or finds the bytes gone. Files
that were written after their condemnation stay. A pack that is mostly dead is written anew, and the old one stays for
the grace, for those who are reading in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

from sqlalchemy import Column, Connection, String, Text, delete, func, select, type_coerce, update

from everline.errors import EverlineError
from everline.ids import new_uid
from everline.storage import tables
from everline.storage.blobs import YOUNG, BlobStore
from everline.storage.db import insert_rows
from everline.storage.packs import Packs, pack_path
from everline.storage.paths import blob_path
from everline.storage.pieces import read_recipe
from everline.storage.schema import metadata, microseconds
from everline.storage.types import Collection

_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_DIGEST_CHARS = 71
_REMOVED_AT_ONCE = 500
_LIVE_SHARE_MIN = 0.5
_MANIFEST_BYTES_MAX = 64 << 20
_COPIED_AT_ONCE_BYTES = 64 << 20


def collect(blobs: BlobStore, *, grace: timedelta, dry_run: bool = False) -> Collection:
    """Condemn what nothing refers to, remove what was condemned long enough; safe beside everything else.

    Raises:
        IntegrityError, NotFoundError: a manifest that must be read cannot be; nothing was removed.
    """
    packs = blobs.packs
    if packs is None:
        raise TypeError("this store was opened without the database that has the index of packs")
    work = _Collector(blobs, packs, grace=grace, dry_run=dry_run)
    return work.run()


def undeclared_columns() -> list[str]:
    """Columns of digests that do not say whether they name blobs; there must be none."""
    return [
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, String) and column.type.length == _DIGEST_CHARS and "blob" not in column.info
    ]


def referenced(connection: Connection, blobs: BlobStore) -> set[str]:
    """The digests of all blobs that something refers to, and some that are of no blob."""
    found: set[str] = set()
    manifests: set[str] = set()
    for column in _naming_columns():
        said = column.info.get("blob")
        text = type_coerce(column, Text)
        for (value,) in connection.execute(select(text).where(text.like("%sha256:%")).distinct()):
            digests = _DIGEST.findall(value)
            found.update(digests)
            if said == "manifest":
                manifests.update(digests)
    sizes = blobs.sizes(sorted(manifests)) if manifests else {}
    for digest in manifests & sizes.keys():
        if sizes[digest] <= _MANIFEST_BYTES_MAX:
            found.update(_DIGEST.findall(blobs.get_bytes(digest).decode("utf-8", "replace")))
    return found


def _naming_columns() -> Iterator[Column[str]]:
    for table in metadata.sorted_tables:
        for column in table.columns:
            kind = getattr(column.type, "impl", column.type)
            is_text = isinstance(kind, String) and (kind.length is None or kind.length >= _DIGEST_CHARS)
            if is_text and column.info.get("blob") != "none":
                yield column


class _Collector:
    def __init__(self, blobs: BlobStore, packs: Packs, *, grace: timedelta, dry_run: bool) -> None:
        self._blobs = blobs
        self._packs = packs
        self._objects = blobs.objects
        self._database = packs.database
        self._dry_run = dry_run
        self._now = datetime.now(UTC)
        self._due = self._now - grace
        self._settled = self._now - max(grace, YOUNG)
        """Files that no row knows are left alone until they are this old: their rows may be on the way."""
        self._bytes_freed = 0

    def run(self) -> Collection:
        # Condemned first, references after: what became referenced in between is seen.
        with self._database.beside() as connection:
            rows = connection.execute(select(tables.condemned.c.digest, tables.condemned.c.at))
            condemned = {row.digest: row.at for row in rows}
        with self._database.beside() as connection:
            live = referenced(connection, self._blobs)
        named = len(live)
        live |= self._parts_of_pieced()
        pardoned = [digest for digest in condemned if digest in live]
        due = [digest for digest, at in condemned.items() if digest not in live and at <= self._due]
        gone: Sequence[str] = due
        if not self._dry_run:
            self._forgive(pardoned)
            gone = [digest for part in _batches(due, _REMOVED_AT_ONCE) for digest in self._remove(part)]
        fresh = [digest for digest in self._unreferenced(live) if digest not in condemned]
        if not self._dry_run:
            with self._database.beside(write=True) as connection:
                _condemn(connection, fresh, at=datetime.now(UTC))
        rewritten = self._tidy_packs()
        self._remove_strays()
        return Collection(
            dry_run=self._dry_run,
            referenced=named,
            condemned=len(fresh),
            waiting=len(condemned) - len(pardoned) - len(gone),
            pardoned=len(pardoned),
            removed=len(gone),
            packs_rewritten=rewritten,
            bytes_freed=self._bytes_freed,
        )

    def _forgive(self, digests: Sequence[str]) -> None:
        for part in _batches(digests, _REMOVED_AT_ONCE):
            with self._database.beside(write=True) as connection:
                connection.execute(delete(tables.condemned).where(tables.condemned.c.digest.in_(part)))

    def _remove(self, digests: Sequence[str]) -> list[str]:
        """Remove what is still condemned; whoever pardons one of these meanwhile waits for this transaction."""
        table = tables.condemned
        with self._database.beside(write=True) as connection:
            still = table.c.digest.in_(digests), table.c.at <= self._due
            rows = connection.execute(delete(table).where(*still).returning(table.c.digest, table.c.at))
            taken = {row.digest: row.at for row in rows}
            connection.execute(delete(tables.pieced).where(tables.pieced.c.digest.in_(taken)))
            connection.execute(delete(tables.piece).where(tables.piece.c.digest.in_(taken)))
            files = []
            for digest, at in taken.items():
                kept = self._objects.look(blob_path(digest))
                if kept is not None and kept.at <= at:
                    files.append(kept.path)
                    self._bytes_freed += kept.bytes
            self._objects.delete(files)
        return list(taken)

    def _parts_of_pieced(self) -> set[str]:
        """Recipes and pieces of all blobs that are made of them; those of one that goes now have their own grace."""
        with self._database.beside() as connection:
            rows = connection.execute(select(tables.pieced)).mappings().all()
        found: set[str] = set()
        for row in rows:
            found.add(row["recipe"])
            try:
                recipe = read_recipe(self._blobs.get_bytes(row["recipe"]), blob=row["digest"], size=row["bytes"])
            except EverlineError as error:
                raise type(error)(
                    f"Nothing was collected: {error.message}",
                    hint="Add the data again, or restore the blob store, so that it is known which pieces it needs.",
                ) from error
            found.update(piece.digest for piece in recipe.pieces)
        return found

    def _unreferenced(self, live: set[str]) -> Iterator[str]:
        seen: set[str] = set()
        with self._database.beside() as connection:
            for table in (tables.pieced, tables.piece):
                seen.update(digest for (digest,) in connection.execute(select(table.c.digest)) if digest not in live)
        for kept in self._objects.list("sha256/"):
            if kept.at <= self._now - YOUNG:
                digest = "sha256:" + kept.path.removeprefix("sha256/").replace("/", "")
                if digest not in live and _DIGEST.fullmatch(digest):
                    seen.add(digest)
        yield from sorted(seen)

    def _tidy_packs(self) -> int:
        """Remove packs that were left long enough, leave those in which nothing lives, rewrite those mostly dead."""
        columns = tables.piece.c
        with self._database.beside() as connection:
            packs = connection.execute(select(tables.pack)).mappings().all()
            sums = connection.execute(
                select(columns.pack, func.sum(columns.bytes).label("alive")).group_by(columns.pack)
            )
            living = {row.pack: row.alive for row in sums}
            whole = set(connection.execute(select(tables.pieced.c.pack)).scalars())
        rewritten = 0
        for pack in packs:
            uid, alive = pack["uid"], int(living.get(pack["uid"], 0))
            if uid in whole:
                continue
            if pack["left_at"] is not None and not alive:
                if pack["left_at"] <= self._due:
                    self._drop(uid, pack["bytes"])
            elif not alive:
                self._leave(uid)
            elif alive < pack["bytes"] * _LIVE_SHARE_MIN and pack["created_at"] <= self._settled:
                rewritten += 1
                if not self._dry_run:
                    self._rewrite(uid)
        return rewritten

    def _leave(self, uid: str) -> None:
        if not self._dry_run:
            with self._database.beside(write=True) as connection:
                connection.execute(update(tables.pack).where(tables.pack.c.uid == uid).values(left_at=self._now))

    def _drop(self, uid: str, size: int) -> None:
        self._bytes_freed += size
        if not self._dry_run:
            self._objects.delete([pack_path(uid)])
            with self._database.beside(write=True) as connection:
                connection.execute(delete(tables.pack).where(tables.pack.c.uid == uid))

    def _rewrite(self, uid: str) -> None:
        with self._database.beside() as connection:
            columns = tables.piece.c
            rows = connection.execute(
                select(columns.digest, columns.start, columns.bytes).where(columns.pack == uid).order_by(columns.start)
            ).all()
        for group in _groups(rows):
            fresh, places = new_uid(), []
            with self._objects.incoming() as body:
                ranges = [(start, start + size) for _, start, size in group]
                for (digest, _, size), data in zip(group, self._objects.parts(pack_path(uid), ranges), strict=True):
                    places.append((digest, body.bytes))
                    body.write(data.ljust(size, b"\0"))  # a damaged piece stays one, and is found as such
                size = body.bytes
                self._objects.place(body, pack_path(fresh))
            with self._database.beside(write=True) as connection:
                row = {"uid": fresh, "bytes": size, "created_at": self._now, "left_at": None}
                connection.execute(tables.pack.insert().values(row))
                for digest, start in places:
                    connection.execute(
                        update(tables.piece)
                        .where(columns.digest == digest, columns.pack == uid)
                        .values(pack=fresh, start=start)
                    )
        self._leave(uid)

    def _remove_strays(self) -> None:
        """Packs without a row: whoever wrote them was killed before it was made."""
        with self._database.beside() as connection:
            known = set(connection.execute(select(tables.pack.c.uid)).scalars())
        strays = [
            kept
            for kept in self._objects.list("packs/")
            if kept.at <= self._settled and kept.path.rpartition("/")[2] not in known
        ]
        self._bytes_freed += sum(kept.bytes for kept in strays)
        if not self._dry_run:
            self._objects.delete([kept.path for kept in strays])


def _condemn(connection: Connection, digests: Iterable[str], *, at: datetime) -> None:
    rows = [(digest, microseconds(at)) for digest in digests]
    insert_rows(connection, tables.condemned, ("digest", "at"), rows, keys=["digest"])


def _batches(digests: Iterable[str], count: int) -> Iterator[tuple[str, ...]]:
    left = iter(digests)
    while part := tuple(islice(left, count)):
        yield part


def _groups(rows: Sequence[tuple[str, int, int]]) -> Iterator[list[tuple[str, int, int]]]:
    """Rows in parts that fit into memory."""
    group: list[tuple[str, int, int]] = []
    size = 0
    for row in rows:
        if group and size + row[2] > _COPIED_AT_ONCE_BYTES:
            yield group
            group, size = [], 0
        group.append(row)
        size += row[2]
    if group:
        yield group
