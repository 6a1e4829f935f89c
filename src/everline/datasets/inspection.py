"""What the server finds out about uploaded files by itself: it never takes a digest or a profile on trust.

It reads blobs only, outside any transaction, so that a large table keeps no database lock waiting.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from everline.datasets.formats import is_table_file, table_format
from everline.datasets.manifest import files_manifest
from everline.datasets.types import DatasetFile, TableSummary
from everline.errors import InvalidInputError
from everline.loader import late
from everline.storage.blobs import BlobStore

if TYPE_CHECKING:
    from everline.datasets import profile, reading
else:  # they stand on Arrow, which files that are no tables never need
    profile, reading = late("everline.datasets.profile"), late("everline.datasets.reading")

PROFILE_AT_ONCE_BYTES = 64 << 20
"""The table of larger files is profiled after it was added."""


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """The identity of files as a dataset version; `digest` follows the rule of `DatasetVersion`."""

    files: tuple[DatasetFile, ...]
    files_digest: str
    digest: str
    table: TableSummary | None
    profile_digest: str | None


def inspect(blobs: BlobStore, files: Sequence[DatasetFile]) -> Inspection:
    """Digest and profile files that are kept as blobs; keeps their manifests and profile as blobs too.

    A large table is digested only: its exact profile takes ten times as long as its identity, see `profile_files`.

    Raises:
        InvalidInputError: a file is not the table that its name announces.
    """
    ordered = tuple(sorted(files))
    names = [file.path for file in ordered]
    files_digest = blobs.put_bytes(files_manifest(ordered))
    kind = table_format(names)
    if kind is None:
        return Inspection(
            files=ordered, files_digest=files_digest, digest=files_digest, table=None, profile_digest=None
        )
    large = sum(file.bytes for file in ordered) > PROFILE_AT_ONCE_BYTES
    with local_files(blobs, ordered) as paths:
        try:
            table = (profile.identify if large else profile.summarise)(reading.open_columns(paths, kind))
        except InvalidInputError as error:
            # Blobs have no names: say which file of the caller it was.
            message = error.message
            for path, name in zip(paths, names, strict=True):
                message = message.replace(path.name, name)
            raise InvalidInputError(message, hint=error.hint, field=error.field) from error
    blobs.put_bytes(profile.manifest_of(table.rows, table.columns))
    return Inspection(
        files=ordered,
        files_digest=files_digest,
        digest=table.digest if is_table_file(names) else files_digest,
        table=table,
        profile_digest=blobs.put_bytes(msgspec.json.encode(table)),
    )


def profile_files(blobs: BlobStore, files: Sequence[DatasetFile]) -> TableSummary:
    """The exact profile of a table's files, by reading all of them."""
    with local_files(blobs, files) as paths:
        return profile.summarise(reading.open_columns(paths, table_format([file.path for file in files]) or ""))


@contextmanager
def local_files(blobs: BlobStore, files: Sequence[DatasetFile]) -> Iterator[list[Path]]:
    """Files of a version as local, read-only paths: where they lie as they are, else fetched for a while."""
    with tempfile.TemporaryDirectory(prefix="everline-") as folder:
        yield [
            blobs.file(file.digest) or blobs.fetch(file.digest, Path(folder) / file.digest.removeprefix("sha256:"))
            for file in files
        ]
