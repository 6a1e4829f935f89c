"""REST face of content-addressed blobs.

Whoever knows a digest knows the content or was told of it by something that the project showed; still a
role in some project is asked for, so that strangers learn nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import msgspec
from starlette.responses import Response, StreamingResponse

from everline.access.types import Permission
from everline.errors import NotFoundError, TooLargeError
from everline.ids import check_digest
from everline.loader import load
from everline.server import collecting
from everline.server.downloads import blob_response
from everline.server.http import Request, Routes, decode
from everline.storage import bundle
from everline.storage.types import Collection

routes = Routes(tag="blobs")
DIGESTS_MAX = 10_000
BUNDLE_BYTES_MAX = 64 << 20
CUT_BYTES_MIN = 1 << 20
"""Smaller bodies are kept whole."""


class Blob(msgspec.Struct, frozen=True):
    """A kept blob."""

    digest: str
    bytes: int


class Cut(StrEnum):
    """Where a body is cut into pieces: where Parquet says, or by its content."""

    PARQUET = "parquet"
    CONTENT = "content"


class Kept(msgspec.Struct, frozen=True):
    """How much was kept."""

    blobs: int
    bytes: int


class Digests(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names of blobs."""

    digests: list[str]


@routes.post("/blobs/missing", body=Digests, returns=Digests)
def missing_blobs(request: Request) -> Digests:
    """Say which of up to 10,000 blobs are not kept, so that only those are sent."""
    _require(request, Permission.RUN_WRITE, Permission.DATA_WRITE, Permission.DATAPLANE)
    asked = decode(Digests, request).digests
    if len(asked) > DIGESTS_MAX:
        raise TooLargeError(f"{len(asked)} digests are asked for; at most {DIGESTS_MAX} are answered at once.")
    return Digests(request.app.blobs.missing([check_digest(digest) for digest in asked]))


@routes.post("/blobs/bundle", returns=Kept, status=201, upload=True)
def put_bundle(request: Request) -> Kept:
    """Keep up to 10,000 small blobs that come in one body, together; refused if one does not fit its digest.

    The body is a bundle: a length in 4 bytes (little-endian), so much JSON with `[digest, bytes]` of each blob, and
    their contents in this order.
    """
    _require(request, Permission.RUN_WRITE, Permission.DATA_WRITE, Permission.DATAPLANE)
    contents = bundle.read_contents(request.incoming)
    request.app.blobs.keep_many(request.incoming, contents)
    return Kept(blobs=len(contents), bytes=sum(place.bytes for place in contents))


@routes.post("/blobs/contents", body=Digests, returns=bytes)
def get_bundle(request: Request) -> Response:
    """Hand out up to 10,000 small blobs, 64 MiB at most, as one bundle (see the bundle that is sent), in any order."""
    _require(request, Permission.RUN_READ, Permission.DATAPLANE)
    asked = [check_digest(digest) for digest in dict.fromkeys(decode(Digests, request).digests)]
    if len(asked) > DIGESTS_MAX:
        raise TooLargeError(f"{len(asked)} digests are asked for; at most {DIGESTS_MAX} are answered at once.")
    sizes = request.app.blobs.sizes(asked)
    for digest in asked:
        if digest not in sizes:
            raise NotFoundError(f"There is no blob {digest}.", hint="It was never stored here, or it was erased.")
    if sum(sizes.values()) > BUNDLE_BYTES_MAX:
        raise TooLargeError(f"The blobs have more than {BUNDLE_BYTES_MAX} bytes.", hint="Ask for fewer at once.")
    found = list(request.app.blobs.get_many(asked))

    def pieces() -> Iterator[bytes]:
        yield bundle.write_head([(digest, len(data)) for digest, data in found])
        yield b"".join(data for _, data in found)

    return StreamingResponse(pieces(), media_type="application/octet-stream")


@routes.put("/blobs/{digest}", returns=Blob, status=201, upload=True)
def put_blob(request: Request) -> Blob:
    """Keep the body under its digest; refused if it does not fit. With `?repair=true`, replace altered bytes.

    With `?cut=parquet` or `?cut=content` a large body is kept as pieces, and those that are kept already are shared.
    """
    return _keep(request, digest=check_digest(request.path["digest"]))


@routes.post("/blobs", returns=Blob, status=201, upload=True)
def put_unnamed_blob(request: Request) -> Blob:
    """Keep the body and say its digest, for who has not read it yet; `?cut=` as above."""
    return _keep(request, digest=None)


@routes.post("/blobs/collection", returns=Collection)
def collect_blobs(request: Request) -> Collection:
    """Find bytes that nothing refers to, remove those found longer ago than the grace; `?dry_run=true` only looks."""
    return collecting.collect(request.app, request.actor, dry_run=request.query("dry_run", bool, False))


def _keep(request: Request, *, digest: str | None) -> Blob:
    body = request.incoming
    _require(request, Permission.RUN_WRITE, Permission.DATA_WRITE, Permission.DATAPLANE)
    # Outside of a transaction: a large body must not hold the database's one writer.
    blobs, size, repair = request.app.blobs, body.bytes, request.query("repair", bool, False)
    cut = request.query("cut", Cut, None)
    if cut is None or size < CUT_BYTES_MIN:
        return Blob(blobs.keep(body, digest=digest, repair=repair), size)
    lengths = load("everline.datasets.cutting").cut(body.path, parquet=cut is Cut.PARQUET)
    return Blob(blobs.keep_cut(body, lengths, digest=digest, repair=repair), size)


@routes.get("/blobs/{digest}", returns=bytes)
def get_blob(request: Request) -> Response:
    """Stream a blob; the receiver verifies its digest."""
    digest = check_digest(request.path["digest"])
    _require(request, Permission.RUN_READ, Permission.DATAPLANE)
    size = request.app.blobs.size(digest)
    if size is None:
        raise NotFoundError(f"There is no blob {digest}.", hint="It was never stored here, or it was erased.")
    return blob_response(request, digest, size=size)


@routes.route("HEAD", "/blobs/{digest}", returns=bytes)
def head_blob(request: Request) -> Response:
    """Say whether a blob is kept, and how large it is."""
    digest = check_digest(request.path["digest"])
    _require(request, Permission.RUN_READ, Permission.RUN_WRITE, Permission.DATA_WRITE, Permission.DATAPLANE)
    # Who asks is about to rely on it, so that it must stay: `exists` sees to that.
    size = request.app.blobs.size(digest) if request.app.blobs.exists(digest) else None
    if size is None:
        raise NotFoundError(f"There is no blob {digest}.")
    return blob_response(request, digest, size=size)


def _require(request: Request, *any_of: Permission) -> None:
    actor = request.actor
    for project in actor.roles:
        if any(actor.may(permission, project) for permission in any_of):
            return
    raise NotFoundError("There is no such blob that you may see.", hint="Ask an admin for a role in its project.")
