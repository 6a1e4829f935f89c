"""Files of this machine on their way to a dataset: found, compared with what is remembered, hashed, sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from everline.datasets.formats import format_of
from everline.datasets.manifest import Source, walk
from everline.datasets.types import DatasetFile
from everline.errors import InvalidInputError
from everline.ids import digest_bytes, digest_file
from everline.sdk.seen import Folder, SeenVersion, now_ns

if TYPE_CHECKING:
    from everline.sdk.client import Client

SMALL_BYTES_MAX = 1 << 20
"""Files up to this size travel together; larger ones are sent one by one, and kept as pieces."""
_BATCH_BYTES = 32 << 20
_BATCH_FILES = 4_000
_BUNDLE_FILES_MIN = 16
"""Fewer are sent one by one and kept as files, which are read where they lie."""
_SENDERS = 1
Paths = Sequence[str | os.PathLike[str]]
Watch = Callable[[str, int, int], None]


def seen_folder(client: Client) -> Path:
    """Where a client keeps what it remembers of folders."""
    return client.settings.home / "cache" / "seen"


def version_key(client: Client, dataset: str, paths: Sequence[Path]) -> str:
    """Under which key is noted as which version of a dataset, of one project of one server, paths were last seen."""
    origin = client.settings.url or client.settings.home.absolute()
    return " ".join((str(origin), client.project, dataset, *(str(path.absolute()) for path in paths)))


class Looked:
    """Files as they are now, with the digests of those that did not change since they were hashed."""

    def __init__(self, client: Client, paths: Paths) -> None:
        """Find files.

        Raises:
            InvalidInputError: nothing at a path, or a name that cannot be one in a dataset.
        """
        self._client = client
        self._paths = [Path(path) for path in paths]
        self.sources = walk(paths)
        self._folders = {root: Folder(seen_folder(client), root) for root in {one.root for one in self.sources}}
        for path in paths:
            if os.fspath(path) in self._folders:
                here = {one.path for one in self.sources if one.root == os.fspath(path)}
                self._folders[os.fspath(path)].keep_only(here)

    def digest(self, one: Source) -> str | None:
        """The digest of a file that did not change since it was hashed."""
        return self._folders[one.root].digest(one.path, one.stat)

    def remember(self, one: Source, digest: str, *, at_ns: int) -> None:
        """Note a digest; see `Folder.remember`."""
        self._folders[one.root].remember(one.path, one.stat, digest, at_ns=at_ns)

    def version(self, dataset: str) -> SeenVersion | None:
        """As which version of a dataset these paths were last added or checked out here."""
        return self._folders[self.sources[0].root].version(version_key(self._client, dataset, self._paths))

    def remember_version(self, dataset: str, *, version: int, files_digest: str) -> None:
        """Note as which version these paths were added or checked out."""
        self._folders[self.sources[0].root].remember_version(
            version_key(self._client, dataset, self._paths), SeenVersion(version, files_digest)
        )

    def save(self) -> None:
        """Write down what was learnt."""
        for folder in self._folders.values():
            folder.save()

    def files(self) -> list[DatasetFile]:
        """All files with their digests; those that changed are read, by several threads."""
        known = {one.path: self.digest(one) for one in self.sources}
        new = [one for one in self.sources if known[one.path] is None]
        at_ns = now_ns()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for one, digest in zip(new, pool.map(_hash, new), strict=True):
                self.remember(one, digest, at_ns=at_ns)
                known[one.path] = digest
        return [
            DatasetFile(path=one.path, digest=known[one.path] or "", bytes=one.stat.st_size) for one in self.sources
        ]


class Sender:
    """Sends the files of one addition; what the store has is not sent."""

    def __init__(self, client: Client, looked: Looked, *, watch: Watch) -> None:
        self._client = client
        self._looked = looked
        self._watch = watch
        self._total = sum(one.stat.st_size for one in looked.sources)
        self._done = 0

    def send(self) -> list[DatasetFile]:
        """Send what is missing; return all files as they were sent."""
        small = [one for one in self._looked.sources if one.stat.st_size <= SMALL_BYTES_MAX]
        sent = self._send_small(small)
        for one in self._looked.sources:
            if one.stat.st_size > SMALL_BYTES_MAX:
                sent[one.path] = self._send_large(one)
                self._told(one.path, one.stat.st_size)
        return [sent[one.path] for one in self._looked.sources]

    def _send_large(self, one: Source) -> DatasetFile:
        blobs, path, at_ns = self._client.blobs, Path(one.source), now_ns()
        cut = "parquet" if format_of(one.path) == "parquet" else "content"
        digest = self._looked.digest(one)
        try:
            if digest is None and self._client.is_local:
                # Here the bytes need not be read twice: once to learn whether they must be sent, once to send them.
                digest, size = blobs.put_unnamed(path, cut=cut)
            else:
                digest, size = blobs.put_file(path, digest=digest, cut=cut), one.stat.st_size
        except OSError as error:
            raise _unreadable(one, error) from error
        self._looked.remember(one, digest, at_ns=at_ns)
        return DatasetFile(path=one.path, digest=digest, bytes=size)

    def _send_small(self, sources: list[Source]) -> dict[str, DatasetFile]:
        sent: dict[str, DatasetFile] = {}
        unknown: list[Source] = []
        known: dict[str, list[Source]] = {}
        for one in sources:
            digest = self._looked.digest(one)
            if digest is None:
                unknown.append(one)
            else:
                known.setdefault(digest, []).append(one)
                sent[one.path] = DatasetFile(path=one.path, digest=digest, bytes=one.stat.st_size)
        missing = self._client.blobs.missing(list(known)) if known else ()
        unknown += [one for digest in missing for one in known[digest][:1]]
        self._told("", sum(one.stat.st_size for one in sources) - sum(one.stat.st_size for one in unknown))
        with ThreadPoolExecutor(_SENDERS) as pool:
            waiting: list[Future[None]] = []
            for batch in _batches(unknown):
                at_ns, contents = now_ns(), {}
                for one in batch:
                    data = _read(one)
                    digest = digest_bytes(data)
                    contents[digest] = data
                    sent[one.path] = DatasetFile(path=one.path, digest=digest, bytes=len(data))
                    self._looked.remember(one, digest, at_ns=at_ns)
                waiting.append(pool.submit(self._send_batch, contents))
                if len(waiting) > _SENDERS:
                    waiting.pop(0).result()
                self._told(batch[-1].path, sum(one.stat.st_size for one in batch))
            for one_sent in waiting:
                one_sent.result()
        return sent

    def _send_batch(self, contents: dict[str, bytes]) -> None:
        missing = self._client.blobs.missing(list(contents))
        if len(missing) >= _BUNDLE_FILES_MIN:
            self._client.blobs.put_many({digest: contents[digest] for digest in missing})
        else:
            for digest in missing:
                self._client.blobs.put_bytes(contents[digest])

    def _told(self, path: str, count: int) -> None:
        self._done += count
        if count:
            self._watch(path, self._done, self._total)


def compare(files: Sequence[DatasetFile], others: Sequence[DatasetFile]) -> tuple[tuple[str, ...], ...]:
    """Which paths `others` has more, which it lacks, and which are there with another content."""
    before = {file.path: file.digest for file in files}
    after = {file.path: file.digest for file in others}
    added = tuple(path for path in after if path not in before)
    removed = tuple(path for path in before if path not in after)
    changed = tuple(path for path, digest in after.items() if before.get(path, digest) != digest)
    return added, removed, changed


def _batches(sources: Sequence[Source]) -> Iterator[list[Source]]:
    batch: list[Source] = []
    size = 0
    for one in sources:
        if batch and (size + one.stat.st_size > _BATCH_BYTES or len(batch) == _BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.stat.st_size
    if batch:
        yield batch


def _hash(one: Source) -> str:
    try:
        return digest_file(Path(one.source))
    except OSError as error:
        raise _unreadable(one, error) from error


def _read(one: Source) -> bytes:
    # Plain calls of the system: there may be a hundred thousand files.
    try:
        handle = os.open(one.source, os.O_RDONLY)
        try:
            data = os.read(handle, one.stat.st_size + 1)
            if len(data) == one.stat.st_size:
                return data
            parts = [data]  # it grew, shrank, or comes in parts
            while parts[-1]:
                parts.append(os.read(handle, SMALL_BYTES_MAX))
            return b"".join(parts)
        finally:
            os.close(handle)
    except OSError as error:
        raise _unreadable(one, error) from error


def _unreadable(one: Source, error: OSError) -> InvalidInputError:
    return InvalidInputError(f"{one.source} cannot be read: {error.strerror}.", field="path")
