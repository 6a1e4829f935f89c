"""REST face of content-addressed blobs.

Whoever knows a digest knows the content or was told of it by something that the project showed; still a
role in some project is asked for, so that strangers learn nothing.
"""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from everline.access.types import Permission
from everline.errors import NotFoundError, TooLargeError
from everline.ids import check_digest
from everline.server.downloads import blob_response
from everline.server.http import Request, Routes, decode

routes = Routes(tag="blobs")
DIGESTS_MAX = 1_000


class Blob(msgspec.Struct, frozen=True):
    """A kept blob."""

    digest: str
    bytes: int


class Digests(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names of blobs."""

    digests: list[str]


@routes.post("/blobs/missing", body=Digests, returns=Digests)
def missing_blobs(request: Request) -> Digests:
    """Say which of up to 1,000 blobs are not kept, so that only those are sent."""
    _require(request, Permission.RUN_WRITE, Permission.DATA_WRITE, Permission.DATAPLANE)
    asked = decode(Digests, request).digests
    if len(asked) > DIGESTS_MAX:
        raise TooLargeError(f"{len(asked)} digests are asked for; at most {DIGESTS_MAX} are answered at once.")
    return Digests([digest for digest in asked if request.app.blobs.size(check_digest(digest)) is None])


@routes.put("/blobs/{digest}", returns=Blob, status=201, upload=True)
def put_blob(request: Request) -> Blob:
    """Keep the body under its digest; refused if it does not fit. With `?repair=true`, replace altered bytes."""
    digest, body = check_digest(request.path["digest"]), request.incoming
    _require(request, Permission.RUN_WRITE, Permission.DATA_WRITE, Permission.DATAPLANE)
    # Outside of a transaction: a large body must not hold the database's one writer.
    request.app.blobs.keep(body, digest=digest, repair=request.query("repair", bool, False))
    return Blob(digest, body.bytes)


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
    size = request.app.blobs.size(digest)
    if size is None:
        raise NotFoundError(f"There is no blob {digest}.")
    return blob_response(request, digest, size=size)


def _require(request: Request, *any_of: Permission) -> None:
    actor = request.actor
    for project in actor.roles:
        if any(actor.may(permission, project) for permission in any_of):
            return
    raise NotFoundError("There is no such blob that you may see.", hint="Ask an admin for a role in its project.")
