"""Where the files of results go, from whatever process runs a step."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

from everline.config import Settings
from everline.errors import NotFoundError
from everline.loader import load
from everline.storage.incoming import Incoming
from everline.storage.paths import blob_path


class DirectoryStore:
    """A blob store that is a directory, without its database: results are always files of their own.

    Files are not forced to the disk: what a power cut takes is noticed when it is read, and made again.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def incoming(self) -> Any:
        """A new file."""
        return Incoming(self._directory / "incoming")

    def keep(self, body: Any) -> str:
        """Keep it, in place of what may lie there altered or may be condemned as garbage."""
        digest: str = body.digest
        body.move(self._directory / blob_path(digest), sync=False)
        return digest

    def read(self, digest: str) -> memoryview:
        """The bytes as they lie there."""
        return mapped(self._directory / blob_path(digest))


class BucketStore:
    """A blob store that is a bucket.

    Args:
        cache: folder for what comes from it.
    """

    def __init__(self, url: str, *, spool: Path, cache: Path) -> None:
        # Late: it stands on the database, which a process that runs steps over a directory never needs.
        self._blobs = load("everline.storage.blobs").BlobStore(url, spool=spool)
        self._cache = cache

    def incoming(self) -> Any:
        """A new file."""
        return self._blobs.incoming()

    def keep(self, body: Any) -> str:
        """Keep it, in place of what may lie there."""
        digest: str = body.digest
        self._blobs.objects.place(body, blob_path(digest))
        return digest

    def read(self, digest: str) -> memoryview:
        """The bytes, from the cache or the bucket."""
        path = self._cache / digest.removeprefix("sha256:")
        if not path.exists():
            own = path.with_name(f"{path.name}.{os.getpid()}")
            self._blobs.fetch(digest, own).replace(path)
        return mapped(path)


class VerifiedStore:
    """The control plane's own blob store, to read results from; every read is verified."""

    def __init__(self, blobs: Any) -> None:
        self._blobs = blobs

    def read(self, digest: str) -> memoryview:
        """The bytes."""
        return memoryview(self._blobs.get_bytes(digest))


class ClientStore:
    """The blob store of a server elsewhere, over its API; what was fetched is cached."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._spool = client.settings.home / "spool"

    def incoming(self) -> Any:
        """A new file."""
        return Incoming(self._spool)

    def keep(self, body: Any) -> str:
        """Send it; what lies under its digest is replaced if it was altered."""
        digest: str = body.digest
        with body.path.open("rb") as file:
            self._client.send("PUT", f"/api/v1/blobs/{digest}", content=file, query={"repair": True})
        body.discard()
        return digest

    def read(self, digest: str) -> memoryview:
        """The bytes, from the cache or the server, verified."""
        return mapped(self._client.blobs.path(digest))


def mapped(path: Path) -> memoryview:
    """A file's bytes in memory that the kernel fills as they are read, and shares between processes."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        raise NotFoundError(f"There is no blob {path.parent.name}{path.name}.") from None


def embedded_store(settings: Settings) -> Any:
    """The store of a control plane that runs in this process."""
    url = settings.blobs
    if "://" in url and not url.startswith("file://"):
        return BucketStore(url, spool=settings.home / "spool", cache=settings.home / "cache" / "blobs")
    return DirectoryStore(Path(url.removeprefix("file://")).absolute())
