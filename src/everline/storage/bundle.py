"""Many small blobs in one body: a length in 4 bytes, so much JSON with `[digest, bytes]` of each, then the contents."""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Iterator, Sequence

import msgspec

from everline.errors import IntegrityError, InvalidInputError
from everline.ids import check_digest, digest_bytes
from everline.storage.incoming import Incoming
from everline.storage.pieces import Place

BLOBS_MAX = 10_000
_LENGTH = struct.Struct("<I")
_HEAD_BYTES_MAX = 4 << 20
_entries = msgspec.json.Decoder(list[tuple[str, int]])


def write_head(contents: Sequence[tuple[str, int]]) -> bytes:
    """What stands before the contents: digest and size of each."""
    head = msgspec.json.encode(contents)
    return _LENGTH.pack(len(head)) + head


def split(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The blobs of a bundle in memory, verified.

    Raises:
        IntegrityError: the bundle is none, or a content does not have its digest.
    """
    try:
        entries, at = _read_head(data, len(data))
    except InvalidInputError as error:
        raise IntegrityError(f"The answer is no bundle: {error.message}") from error
    view = memoryview(data)
    for digest, count in entries:
        content = view[at : at + count]
        found = digest_bytes(content)
        if found != digest:
            raise _other(digest, found)
        yield digest, bytes(content)
        at += count


def read_contents(body: Incoming) -> list[Place]:
    """What lies where in a bundle that arrived, each verified.

    Raises:
        InvalidInputError: this is no bundle, or its sizes are not those of the body.
        IntegrityError: a content does not have the digest that was said.
    """
    if body.bytes < _LENGTH.size:
        raise _no_bundle("it is shorter than 4 bytes")
    with body.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        entries, at = _read_head(mapped, body.bytes)
        places = []
        with memoryview(mapped) as view:
            for digest, count in entries:
                found = "sha256:" + hashlib.sha256(view[at : at + count]).hexdigest()
                if found != digest:
                    raise _other(digest, found)
                places.append(Place(digest, "", at, count))
                at += count
    return places


def _read_head(data: bytes | mmap.mmap, size: int) -> tuple[list[tuple[str, int]], int]:
    if size < _LENGTH.size:
        raise _no_bundle("it is shorter than 4 bytes")
    (count,) = _LENGTH.unpack(data[: _LENGTH.size])
    start = _LENGTH.size + count
    if count > _HEAD_BYTES_MAX or start > size:
        raise _no_bundle(f"it says that its head has {count} bytes")
    try:
        entries = _entries.decode(data[_LENGTH.size : start])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _no_bundle(f"its head cannot be read ({error})") from error
    if len(entries) > BLOBS_MAX:
        raise _no_bundle(f"it has {len(entries)} blobs; the most is {BLOBS_MAX}")
    names = set()
    for digest, length in entries:
        check_digest(digest)
        names.add(digest)
        if length < 0:
            raise _no_bundle(f"{digest} has {length} bytes")
    if len(names) != len(entries):
        raise _no_bundle("a blob is in it twice")
    if start + sum(length for _, length in entries) != size:
        raise _no_bundle("its sizes are not those of the body")
    return entries, start


def _no_bundle(why: str) -> InvalidInputError:
    return InvalidInputError(
        f"This is no bundle of blobs: {why}.",
        hint="Send a length in 4 bytes (little-endian), so much JSON with [digest, bytes] of each, and the contents.",
        field="body",
    )


def _other(digest: str, found: str) -> IntegrityError:
    return IntegrityError(f"A content in the bundle has the digest {found}, not {digest} as announced.", field="digest")
