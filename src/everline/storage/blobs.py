"""Content-addressed blobs: immutable, verified on the way in and on the way out."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import obstore
from obstore.exceptions import NotFoundError as _Missing
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from everline.errors import IntegrityError, InvalidInputError, NotFoundError
from everline.ids import check_digest, digest_bytes, digest_file
from everline.storage.folder import make_folder
from everline.storage.incoming import Incoming, collect

_CHUNK_BYTES = 4 << 20
_READ_BYTES = 1 << 20
_SYNC_BYTES_MAX = 16 << 20
"""Blobs up to this size are on the disk before they are acknowledged.

Larger ones survive a killed process all the same; after a power cut the missing part is noticed by its digest.
Waiting for the disk would make an upload of gigabytes as slow as the disk instead of as fast as the network.
"""


def blob_path(digest: str) -> str:
    """Where a blob lies in its store: `sha256/ab/cdef…`."""
    hexadecimal = check_digest(digest).removeprefix("sha256:")
    return f"sha256/{hexadecimal[:2]}/{hexadecimal[2:]}"


class BlobStore:
    """A directory, or a bucket of S3, GCS or Azure; written once, named by content.

    A local write goes to a temporary name and is renamed, and a bucket shows an object only when it is
    whole, so that a reader never sees half a blob, whoever dies.
    """

    def __init__(self, url: str, *, spool: Path | None = None) -> None:
        """Open a store.

        Args:
            spool: local folder where bodies wait until they are whole and go to a bucket; a directory has its own.
        """
        self.url = url
        if "://" in url and not url.startswith("file://"):
            self._store: ObjectStore = from_url(url)
            self.directory: Path | None = None
            self._incoming = spool or Path(".everline") / "spool"
        else:
            self.directory = Path(url.removeprefix("file://")).absolute()
            make_folder(self.directory)
            self._store = LocalStore(self.directory)
            self._incoming = self.directory / "incoming"
        collect(self._incoming)

    def incoming(self) -> Incoming:
        """A new body to be written and then kept: `with blobs.incoming() as body: …; blobs.keep(body)`."""
        return Incoming(self._incoming)

    def keep(self, body: Incoming, *, digest: str | None = None, repair: bool = False) -> str:
        """Keep a body that is whole; return its digest. One that is there already is not kept twice.

        Args:
            repair: read what is already kept under the digest, and replace it if it was altered.

        Raises:
            IntegrityError: `digest` was given and the content is another.
        """
        found = body.digest
        if digest is not None and found != digest:
            raise IntegrityError(f"The body has the digest {found}, not {digest} as announced.", field="digest")
        if self.exists(found) and not (repair and not self.is_intact(found)):
            body.discard()
        else:
            self._place(body, blob_path(found))
        return found

    def put_bytes(self, data: bytes) -> str:
        """Keep `data`; return its digest. Data that is already there is not written again."""
        digest = digest_bytes(data)
        if not self.exists(digest):
            obstore.put(self._store, blob_path(digest), data)
        return digest

    def put_file(self, path: Path, *, digest: str | None = None, repair: bool = False) -> str:
        """Keep a file's content; return its digest.

        Args:
            repair: read what is already kept under the digest, and replace it if it was altered.

        Raises:
            IntegrityError: `digest` was given and the content is another.
        """
        found = digest_file(path)
        if digest is not None and found != digest:
            raise IntegrityError(f"{path.name} has the digest {found}, not {digest} as announced.", field="digest")
        if not self.exists(found) or (repair and not self.is_intact(found)):
            obstore.put(self._store, blob_path(found), path)
        return found

    def exists(self, digest: str) -> bool:
        """Whether the blob is kept."""
        return self.size(digest) is not None

    def is_intact(self, digest: str) -> bool:
        """Whether the blob is kept and its content still has its digest."""
        try:
            hasher = hashlib.sha256()
            for chunk in self.stream(digest):
                hasher.update(chunk)
        except NotFoundError:
            return False
        return "sha256:" + hasher.hexdigest() == digest

    def size(self, digest: str) -> int | None:
        """The blob's size in bytes, or None if it is not kept."""
        try:
            if self.directory is not None:
                return (self.directory / blob_path(digest)).stat().st_size
            return int(obstore.head(self._store, blob_path(digest))["size"])
        except (_Missing, FileNotFoundError):
            return None

    def get_bytes(self, digest: str) -> bytes:
        """The blob's content, verified.

        Raises:
            NotFoundError: it is not kept.
            IntegrityError: it was altered where it lies.
        """
        try:
            data = bytes(obstore.get(self._store, blob_path(digest)).bytes())
        except (_Missing, FileNotFoundError):
            raise _missing(digest) from None
        found = digest_bytes(data)
        if found != digest:
            raise _altered(digest, found)
        return data

    def stream(self, digest: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The blob's content in pieces of 1 to 4 MiB; the receiver verifies the digest.

        Args:
            start, end: the part from byte `start` up to and without byte `end`, with 0 <= start < end.
        """
        path = blob_path(digest)
        try:
            if self.directory is not None:
                return _read(_open(self.directory / path, start=start), None if end is None else end - start)
            if start == 0 and end is None:
                result = obstore.get(self._store, path)
            elif end is None:
                result = obstore.get(self._store, path, options={"range": {"offset": start}})
            else:
                result = obstore.get(self._store, path, options={"range": (start, end)})
        except (_Missing, FileNotFoundError):
            raise _missing(digest) from None
        return (bytes(chunk) for chunk in result.stream(min_chunk_size=_CHUNK_BYTES))

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

    def sign(self, digest: str, *, seconds: int) -> str | None:
        """An address at which the bucket itself hands the blob out for a while; None for a directory."""
        if not isinstance(self._store, (S3Store, GCSStore, AzureStore)):
            return None
        return obstore.sign(self._store, "GET", blob_path(digest), timedelta(seconds=seconds))

    def put_part(self, upload: str, number: int, body: Incoming) -> str:
        """Keep one part of a body that comes in pieces, beside the blobs and seen by nobody; return its digest."""
        digest = body.digest
        self._place(body, _part_path(upload, number, digest))
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
        if self.directory is not None:
            shutil.rmtree(self.directory / "parts" / upload, ignore_errors=True)
            return
        for listed in obstore.list(self._store, prefix=f"parts/{upload}"):
            obstore.delete(self._store, [item["path"] for item in listed])

    def _stream_part(self, upload: str, number: int, digest: str) -> Iterator[bytes]:
        path = _part_path(upload, number, digest)
        try:
            if self.directory is not None:
                return _read(_open(self.directory / path, start=0), None)
            stream = obstore.get(self._store, path).stream(min_chunk_size=_CHUNK_BYTES)
        except (_Missing, FileNotFoundError):
            raise InvalidInputError(
                f"Part {number} with the ETag {digest!r} was never uploaded.",
                hint="Upload it again and complete the upload with the ETag of the answer.",
                field="parts",
            ) from None
        return (bytes(chunk) for chunk in stream)

    def _place(self, body: Incoming, path: str) -> None:
        if self.directory is None:
            obstore.put(self._store, path, body.path)
            body.discard()
        else:
            body.move(self.directory / path, sync=body.bytes <= _SYNC_BYTES_MAX)


def _part_path(upload: str, number: int, digest: str) -> str:
    return f"parts/{upload}/{number}-{check_digest(digest, field='parts').removeprefix('sha256:')}"


def _open(path: Path, *, start: int) -> BinaryIO:
    file = path.open("rb", buffering=0)
    file.seek(start)
    return file


def _read(file: BinaryIO, count: int | None) -> Iterator[bytes]:
    with file:
        while count is None or count > 0:
            chunk = file.read(_READ_BYTES if count is None else min(_READ_BYTES, count))
            if not chunk:
                return
            yield chunk
            count = None if count is None else count - len(chunk)


def _missing(digest: str) -> NotFoundError:
    return NotFoundError(f"There is no blob {digest}.", hint="It was never stored here, or it was erased.")


def _altered(digest: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"The blob {digest} was altered in storage: its content now has the digest {found}.",
        hint="Restore it from a backup; whatever was made from it since then is in doubt.",
    )
