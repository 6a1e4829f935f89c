"""Content-addressed bytes through the client."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from everline.errors import IntegrityError, NotFoundError
from everline.ids import digest_bytes, digest_file
from everline.loader import late
from everline.storage.hashing import HashedFile

if TYPE_CHECKING:
    from everline.sdk.client import Client
    from everline.storage import bundle
else:
    bundle = late("everline.storage.bundle")

DIGESTS_PER_CALL_MAX = 5_000
BUNDLE_BYTES = 32 << 20
"""Small blobs are sent and fetched together, about this much at a time."""
_ASK_FIRST_BYTES = 64 << 10
"""Less than this is sent sooner than asked for."""


class _Missing(msgspec.Struct, frozen=True):
    digests: list[str]


class _Kept(msgspec.Struct, frozen=True):
    digest: str
    bytes: int


class Blobs:
    """Content-addressed bytes of the control plane's store, verified both ways, cached under the home directory."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._cache = client.settings.home / "cache" / "blobs"

    def exists(self, digest: str) -> bool:
        """Whether the store has it."""
        try:
            self._client.send("HEAD", f"/api/v1/blobs/{digest}")
        except NotFoundError:
            return False
        return True

    def missing(self, digests: Sequence[str]) -> Sequence[str]:
        """Those that the store has not, asked for all at once."""
        found: list[str] = []
        for start in range(0, len(digests), DIGESTS_PER_CALL_MAX):
            body = {"digests": digests[start : start + DIGESTS_PER_CALL_MAX]}
            found += self._client.call("POST", "/blobs/missing", body=body, returns=_Missing).digests
        return found

    def put_bytes(self, data: bytes) -> str:
        """Keep bytes; return their digest."""
        digest = digest_bytes(data)
        if len(data) <= _ASK_FIRST_BYTES or not self.exists(digest):
            self._client.send("PUT", f"/api/v1/blobs/{digest}", content=data)
        return digest

    def put_file(self, path: Path, *, digest: str | None = None, cut: str | None = None) -> str:
        """Keep a file's content; return its digest, which the caller may know already.

        Args:
            cut: "parquet" or "content": a large file is kept as pieces, of which the store keeps each once.
        """
        digest = digest or digest_file(path)
        if path.stat().st_size <= _ASK_FIRST_BYTES or not self.exists(digest):
            with path.open("rb") as file:
                self._client.send("PUT", f"/api/v1/blobs/{digest}", query={"cut": cut}, content=file)
        return digest

    def put_unnamed(self, path: Path, *, cut: str | None = None) -> tuple[str, int]:
        """Keep a file's content without having read it before; return its digest and size as the store found them."""
        with path.open("rb") as file:
            answer = self._client.send("POST", "/api/v1/blobs", query={"cut": cut}, content=file)
        kept = msgspec.json.decode(answer.content, type=_Kept)
        return kept.digest, kept.bytes

    def put_many(self, contents: Mapping[str, bytes]) -> None:
        """Keep small contents, given by their digests, in one request; the store may have some already."""
        head = bundle.write_head([(digest, len(data)) for digest, data in contents.items()])
        self._client.send("POST", "/api/v1/blobs/bundle", content=head + b"".join(contents.values()))

    def get_many(self, blobs: Iterable[tuple[str, int]]) -> Iterator[tuple[str, bytes]]:
        """The contents of small blobs, verified, in any order, with few requests.

        Args:
            blobs: digest and size of each.
        """
        batch: list[str] = []
        size = 0
        for digest, count in dict(blobs).items():
            if batch and (size + count > BUNDLE_BYTES or len(batch) == DIGESTS_PER_CALL_MAX):
                yield from self._get_bundle(batch)
                batch, size = [], 0
            batch.append(digest)
            size += count
        if batch:
            yield from self._get_bundle(batch)

    def get_bytes(self, digest: str) -> bytes:
        """The content of a blob."""
        return self.path(digest).read_bytes()

    def path(self, digest: str) -> Path:
        """A local, read-only file with the blob's content; fetched once, verified at each use."""
        target = self._cache / digest.removeprefix("sha256:")
        if target.exists() and digest_file(target) == digest:
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        self.download(digest, partial)
        return partial.replace(target)

    def download(self, digest: str, target: Path) -> None:
        """Write a blob's content to `target`, verified; what came with another content is removed again."""
        try:
            with HashedFile(target) as file:
                self._client.send("GET", f"/api/v1/blobs/{digest}", into=file)
            if file.digest != digest:
                raise IntegrityError(
                    f"The blob {digest} came with the digest {file.digest}.",
                    hint="It was altered in storage or on the way.",
                )
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def fetch(self, digest: str, target: Path) -> Path:
        """Write a blob's content to `target`."""
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.get_bytes(digest))
        return target

    def _get_bundle(self, digests: list[str]) -> Iterator[tuple[str, bytes]]:
        body = msgspec.json.encode({"digests": digests})
        return bundle.split(self._client.send("POST", "/api/v1/blobs/contents", content=body).content)
