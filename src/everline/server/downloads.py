"""A blob as an answer: whole or in part, with what a receiver needs to resume, to cache and to verify it."""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from everline.server.http import Request

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


def blob_response(request: Request, digest: str, *, size: int, name: str | None = None) -> Response:
    """Answer GET or HEAD for a blob.

    The digest is its ETag, and in `Repr-Digest` (RFC 9530), so that a receiver can verify what came. One range of
    bytes is honoured (RFC 9110, section 14), also under `If-Range`; a client that has the blob is told so.

    Args:
        size: of the blob, in bytes.
        name: of the file that it is, for its media type and for a browser that saves it.
    """
    headers = {
        "ETag": f'"{digest}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(digest.removeprefix('sha256:'))).decode()}:",
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    kind = "application/octet-stream"
    if name is not None:
        kind = mimetypes.guess_type(name)[0] or kind
        # Never inline: an uploaded page must not run as one of ours.
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    if _matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    part = _part(request, size=size, etag=headers["ETag"])
    if part is None:
        start, end, status = 0, size, 200
    else:
        start, end = part
        if start >= end:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD" or start == end:
        return Response(status_code=status, media_type=kind, headers=headers)
    if status == 200 and "http.response.pathsend" in (request.raw.scope.get("extensions") or {}):
        # Who serves us reads a file faster than we can hand it over in pieces; in one process, that is the client.
        path = request.app.blobs.file(digest)
        if path is not None:
            return _PathResponse(path, headers=headers, media_type=kind)
    pieces = request.app.blobs.stream(digest, start=start, end=None if end == size else end)
    return StreamingResponse(pieces, status_code=status, media_type=kind, headers=headers)


class _PathResponse(Response):
    """A file named to the ASGI server (extension "Path Send")."""

    def __init__(self, path: Path, *, headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(headers=headers, media_type=media_type)
        self._file = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.pathsend", "path": str(self._file)})


def _part(request: Request, *, size: int, etag: str) -> tuple[int, int] | None:
    """The asked part from its first byte up to and without its last; empty if there is none such, None for all."""
    asked = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    condition = request.headers.get("if-range")
    if request.method != "GET" or asked is None or (condition is not None and condition != etag):
        return None
    first, last = asked.groups()
    if not first:
        return None if not last else (max(size - int(last), 0), size)
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


def _matches(condition: str | None, etag: str) -> bool:
    if condition is None:
        return False
    return condition.strip() == "*" or etag in {item.strip().removeprefix("W/") for item in condition.split(",")}
