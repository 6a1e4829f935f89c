"""Content-addressed blobs: immutable, verified on the way in and on the way out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import obstore
from obstore.exceptions import NotFoundError as _Missing
from obstore.store import LocalStore, ObjectStore, from_url

from everline.errors import IntegrityError, NotFoundError
from everline.ids import check_digest, digest_bytes, digest_file
from everline.storage.folder import make_folder

_CHUNK_BYTES = 4 << 20


def blob_path(digest: str) -> str:
    """Where a blob lies in its store: `sha256/ab/cdef…`."""
    hexadecimal = check_digest(digest).removeprefix("sha256:")
    return f"sha256/{hexadecimal[:2]}/{hexadecimal[2:]}"


class BlobStore:
    """A directory, or a bucket of S3, GCS or Azure; written once, named by content.

    A local write goes to a temporary name and is renamed, and a bucket shows an object only when it is
    whole, so that a reader never sees half a blob, whoever dies.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        if "://" in url and not url.startswith("file://"):
            self._store: ObjectStore = from_url(url)
            self.directory: Path | None = None
        else:
            self.directory = Path(url.removeprefix("file://")).absolute()
            make_folder(self.directory)
            self._store = LocalStore(self.directory)

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

    def stream(self, digest: str) -> Iterator[bytes]:
        """The blob's content in pieces of about 4 MiB; the receiver verifies the digest."""
        try:
            result = obstore.get(self._store, blob_path(digest))
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


def _missing(digest: str) -> NotFoundError:
    return NotFoundError(f"There is no blob {digest}.", hint="It was never stored here, or it was erased.")


def _altered(digest: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"The blob {digest} was altered in storage: its content now has the digest {found}.",
        hint="Restore it from a backup; whatever was made from it since then is in doubt.",
    )
