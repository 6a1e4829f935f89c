"""Content-addressed blobs: immutable, verified on the way in and on the way out.

A blob is a file of its own, or lies in a pack (small ones that came together), or is put together from pieces in packs
(large ones that share most of their bytes with another); whoever reads it does not see which.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from everline.errors import IntegrityError, InvalidInputError, NotFoundError
from everline.ids import check_digest, digest_bytes, digest_file
from everline.storage.db import Database
from everline.storage.incoming import Incoming
from everline.storage.objects import Objects
from everline.storage.packs import Packs, pack_path
from everline.storage.paths import blob_path
from everline.storage.pieces import Extent, Pieced, Place, write_recipe

_READ_AT_ONCE_BYTES = 64 << 20
YOUNG = timedelta(hours=1)
"""A file this young is never condemned by the collector of garbage."""


class BlobStore:
    """A directory, or a bucket of S3, GCS or Azure; written once, named by content.

    A reader never sees half a blob, whoever dies: see `storage.objects` for files and `storage.packs` for pieces.
    """

    def __init__(self, url: str, *, spool: Path | None = None, database: Database | None = None) -> None:
        """Open a store.

        Args:
            spool: local folder where bodies wait until they are whole and go to a bucket; a directory has its own.
            database: has the index of packs; without it only blobs that are files of their own are found.
        """
        self.url = url
        self.objects = Objects(url, spool=spool)
        self.directory = self.objects.directory
        self.packs = None if database is None else Packs(self.objects, database)

    def incoming(self) -> Incoming:
        """A new body to be written and then kept: `with blobs.incoming() as body: …; blobs.keep(body)`."""
        return self.objects.incoming()

    def keep(self, body: Incoming, *, digest: str | None = None, repair: bool = False) -> str:
        """Keep a body that is whole; return its digest. One that is there already is not kept twice.

        Args:
            repair: read what is already kept under the digest, and replace it if it was altered.

        Raises:
            IntegrityError: `digest` was given and the content is another.
        """
        found = _checked(body.digest, digest, what="The body")
        if self.exists(found) and not (repair and not self.is_intact(found)):
            body.discard()
        else:
            self.objects.place(body, blob_path(found))
        return found

    def keep_cut(
        self, body: Incoming, lengths: Sequence[int], *, digest: str | None = None, repair: bool = False
    ) -> str:
        """Keep a body as pieces, of which those that are there already are not kept again; return its digest.

        Args:
            lengths: of the pieces, in bytes.
            repair: as in `keep`; altered pieces are replaced for all blobs that they are part of.
        """
        packs = self._packs()
        found = _checked(body.digest, digest, what="The body")
        if self.exists(found) and not (repair and not self.is_intact(found)):
            body.discard()
            return found
        size = body.bytes
        recipe, pack = packs.keep_cut(body, lengths, repair=repair)
        named = Pieced(found, size, self.put_bytes(write_recipe(recipe.pieces)), pack)
        if repair:
            self.objects.delete([blob_path(found)])
        packs.name(named, replace=repair)
        return found

    def keep_many(self, body: Incoming, contents: Sequence[Place]) -> None:
        """Keep small blobs that came one after another in a body, together in one pack.

        Args:
            contents: which blob lies where in the body, as it was said and verified.
        """
        # What came as a file of its own meanwhile may lie here as well; to look for each would take longer than that.
        digests = [place.digest for place in contents]
        self._packs().pardon(digests)
        new = set(digests) - set(self._packs().locate(digests))
        packed = [place for place in contents if place.bytes]
        self._packs().keep_many(body, packed, new=new)
        if len(packed) < len(contents):
            self.put_bytes(b"")  # nothing has no place in a pack

    def put_bytes(self, data: bytes) -> str:
        """Keep `data`; return its digest. Data that is already there is not written again."""
        digest = digest_bytes(data)
        if not self._is_file(digest):
            self.objects.put(blob_path(digest), data)
        return digest

    def put_file(self, path: Path, *, digest: str | None = None, repair: bool = False) -> str:
        """Keep a file's content; return its digest.

        Args:
            repair: read what is already kept under the digest, and replace it if it was altered.

        Raises:
            IntegrityError: `digest` was given and the content is another.
        """
        found = _checked(digest_file(path), digest, what=path.name)
        if not self.exists(found) or (repair and not self.is_intact(found)):
            self.objects.put(blob_path(found), path)
        return found

    def exists(self, digest: str) -> bool:
        """Whether the blob is kept; if so, it stays for as long as an upload may take, whatever refers to it."""
        return not self.missing([digest])

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Those of many blobs that are not kept; the others stay, as for `exists`."""
        if self.packs is not None:
            self.packs.pardon(digests)
        sizes = self.sizes(digests)
        return [digest for digest in digests if digest not in sizes]

    def is_intact(self, digest: str) -> bool:
        """Whether the blob is kept and its content still has its digest."""
        hasher = hashlib.sha256()
        try:
            for chunk in self.stream(digest):
                hasher.update(chunk)
        except (NotFoundError, IntegrityError):
            return False
        return "sha256:" + hasher.hexdigest() == digest

    def size(self, digest: str) -> int | None:
        """The blob's size in bytes, or None if it is not kept."""
        return self.sizes([digest]).get(digest)

    def sizes(self, digests: Sequence[str]) -> Mapping[str, int]:
        """The sizes of many blobs in bytes; those that are not kept are left out."""
        many = len(digests) > 1
        found = self._packed_sizes(digests) if many else {}
        for digest in digests:
            if digest not in found and (kept := self.objects.look(blob_path(digest))) is not None:
                found[digest] = kept.bytes
        return found if many or found else self._packed_sizes(digests)

    def get_bytes(self, digest: str) -> bytes:
        """The blob's content, verified.

        Raises:
            NotFoundError: it is not kept.
            IntegrityError: it was altered where it lies.
        """
        try:
            data = self.objects.get(blob_path(digest))
        except FileNotFoundError:
            data = b"".join(self._stream_extents(digest, 0, None))
        found = digest_bytes(data)
        if found != digest:
            raise _altered(digest, found)
        return data

    def get_many(self, digests: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """The contents of many small blobs, verified, in no certain order; those of one pack are read together.

        Raises:
            NotFoundError: one is not kept.
            IntegrityError: one was altered where it lies.
        """
        places = {} if self.packs is None else self.packs.locate(digests)
        for inside in _by_pack(places.values()):
            for place, data in zip(inside, self._parts(inside), strict=True):
                if len(data) != place.bytes:
                    raise _pack_gone(pack_path(place.pack), place.digest)
                found = digest_bytes(data)
                if found != place.digest:
                    raise _altered(place.digest, found)
                yield place.digest, data
        for digest in dict.fromkeys(digests):
            if digest not in places:
                yield digest, self.get_bytes(digest)

    def damaged(self, digests: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Those of many blobs that are missing or altered, and what is wrong; every stored byte is read."""
        places = {} if self.packs is None else self.packs.locate(digests)
        for inside in _by_pack(places.values()):
            for place, content in zip(inside, self._parts(inside), strict=True):
                if digest_bytes(content) != place.digest:
                    yield place.digest, f"Its stored bytes have the digest {digest_bytes(content)}."
        for digest in dict.fromkeys(digests):
            if digest not in places:
                hasher = hashlib.sha256()
                try:
                    for chunk in self.stream(digest):
                        hasher.update(chunk)
                except NotFoundError:
                    yield digest, "Its stored bytes are gone."
                except IntegrityError as error:
                    yield digest, error.message
                else:
                    if "sha256:" + hasher.hexdigest() != digest:
                        yield digest, f"Its stored bytes have the digest sha256:{hasher.hexdigest()}."

    def _parts(self, inside: Sequence[Place]) -> list[bytes]:
        """The contents of places of one pack; empty if the pack is gone."""
        ranges = [(place.start, place.start + place.bytes) for place in inside]
        try:
            return self.objects.parts(pack_path(inside[0].pack), ranges)
        except FileNotFoundError:
            return [b""] * len(inside)

    def stream(self, digest: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The blob's content in pieces of up to 4 MiB; the receiver verifies the digest.

        Args:
            start, end: the part from byte `start` up to and without byte `end`, with 0 <= start < end.
        """
        try:
            return self.objects.stream(blob_path(digest), start=start, end=end)
        except FileNotFoundError:
            return self._stream_extents(digest, start, end)

    def fetch(self, digest: str, target: Path) -> Path:
        """Write the blob to `target`, verified, under a temporary name until it is whole."""
        partial = target.with_name(target.name + ".partial")
        hasher = hashlib.sha256()
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            for chunk in self.stream(digest):
                hasher.update(chunk)
                file.write(chunk)
        found = "sha256:" + hasher.hexdigest()
        if found != digest:
            partial.unlink()
            raise _altered(digest, found)
        return partial.replace(target)

    def file(self, digest: str) -> Path | None:
        """The local, read-only file that is the blob, byte for byte; None if there is none such."""
        if self.directory is None:
            return None
        path = self.directory / blob_path(digest)
        if not path.exists():
            blob = None if self.packs is None else self.packs.pieced([digest]).get(digest)
            if blob is None or blob.pack is None:
                return None
            path = self.directory / pack_path(blob.pack)
        return path

    def sign(self, digest: str, *, seconds: int) -> str | None:
        """An address at which the bucket itself hands the blob out for a while; None where no one file is the blob."""
        if self.packs is not None and self._packed_sizes([digest]):
            return None
        return self.objects.sign(blob_path(digest), seconds=seconds)

    def put_part(self, upload: str, number: int, body: Incoming) -> str:
        """Keep one part of a body that comes in pieces, beside the blobs and seen by nobody; return its digest."""
        digest = body.digest
        self.objects.place(body, _part_path(upload, number, digest))
        return digest

    def join_parts(self, upload: str, parts: Sequence[tuple[int, str]], *, bytes_max: int) -> Incoming:
        """Write parts one after another into a new body, which the caller keeps or discards.

        Args:
            parts: number and digest of each, as `put_part` gave it.

        Raises:
            InvalidInputError: a part was never kept, or all together are larger than `bytes_max`.
        """
        body = self.incoming()
        try:
            for number, digest in parts:
                for chunk in self._stream_part(upload, number, digest):
                    if body.bytes + len(chunk) > bytes_max:
                        raise InvalidInputError(f"The parts are larger than {bytes_max} bytes.", field="parts")
                    body.write(chunk)
        except BaseException:
            body.discard()
            raise
        return body

    def drop_parts(self, upload: str) -> None:
        """Forget the parts of an upload."""
        self.objects.delete_folder(f"parts/{upload}")

    def _stream_part(self, upload: str, number: int, digest: str) -> Iterator[bytes]:
        try:
            return self.objects.stream(_part_path(upload, number, digest))
        except FileNotFoundError:
            raise InvalidInputError(
                f"Part {number} with the ETag {digest!r} was never uploaded.",
                hint="Upload it again and complete the upload with the ETag of the answer.",
                field="parts",
            ) from None

    def _is_file(self, digest: str) -> bool:
        """Whether the blob is a file of its own that stays; asks no database of a young one."""
        kept = self.objects.look(blob_path(digest))
        if kept is None or self.packs is None or datetime.now(UTC) - kept.at < YOUNG:
            return kept is not None
        # An old one may be condemned. Who cannot pardon it here and now writes it anew, which makes it young.
        if self.packs.database.writes_here:
            return False
        self.packs.pardon([digest])
        return self.objects.look(blob_path(digest)) is not None

    def _packed_sizes(self, digests: Sequence[str]) -> dict[str, int]:
        if self.packs is None:
            return {}
        found = {digest: place.bytes for digest, place in self.packs.locate(digests).items()}
        return found | {digest: blob.bytes for digest, blob in self.packs.pieced(digests).items()}

    def _packs(self) -> Packs:
        if self.packs is None:
            raise TypeError("this store was opened without the database that has the index of packs")
        return self.packs

    def _stream_extents(self, digest: str, start: int, end: int | None) -> Iterator[bytes]:
        extents = self._extents(digest, start, end)
        return _read_all(self.objects, digest, extents)

    def _extents(self, digest: str, start: int, end: int | None) -> list[Extent]:
        """Where the bytes of a blob lie that is no file of its own."""
        if self.packs is None:
            raise _missing(digest)
        place = self.packs.locate([digest]).get(digest)
        if place is not None:
            last = place.start + (place.bytes if end is None else min(end, place.bytes))
            return [Extent(pack_path(place.pack), place.start + start, last)]
        blob = self.packs.pieced([digest]).get(digest)
        if blob is None:
            raise _missing(digest)
        end = blob.bytes if end is None else min(end, blob.bytes)
        if blob.pack is not None:
            return [Extent(pack_path(blob.pack), start, end)]
        return self.packs.extents(blob, self.get_bytes(blob.recipe), start=start, end=end)


def _by_pack(places: Iterable[Place]) -> Iterator[list[Place]]:
    """Places of one pack in their order, as much as fits into memory at a time."""
    group: list[Place] = []
    size = 0
    for place in sorted(places, key=lambda place: (place.pack, place.start)):
        if group and (place.pack != group[0].pack or size + place.bytes > _READ_AT_ONCE_BYTES):
            yield group
            group, size = [], 0
        group.append(place)
        size += place.bytes
    if group:
        yield group


def _read_all(objects: Objects, digest: str, extents: Sequence[Extent]) -> Iterator[bytes]:
    for extent in extents:
        read = 0
        with contextlib.suppress(FileNotFoundError):
            for chunk in objects.stream(extent.path, start=extent.start, end=extent.end):
                read += len(chunk)
                yield chunk
        if read != extent.end - extent.start:
            raise _pack_gone(extent.path, digest)


def _part_path(upload: str, number: int, digest: str) -> str:
    return f"parts/{upload}/{number}-{check_digest(digest, field='parts').removeprefix('sha256:')}"


def _checked(found: str, announced: str | None, *, what: str) -> str:
    if announced is not None and found != announced:
        raise IntegrityError(f"{what} has the digest {found}, not {announced} as announced.", field="digest")
    return found


def _missing(digest: str) -> NotFoundError:
    return NotFoundError(f"There is no blob {digest}.", hint="It was never stored here, or it was erased.")


def _altered(digest: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"The blob {digest} was altered in storage: its content now has the digest {found}.",
        hint="Restore it from a backup; whatever was made from it since then is in doubt.",
    )


def _pack_gone(path: str, digest: str) -> IntegrityError:
    return IntegrityError(
        f"The blob {digest} cannot be read: the file {path} in the blob store is gone, or shorter than it was.",
        hint="Restore it from a backup, or add the data again with the files that it came from.",
    )
