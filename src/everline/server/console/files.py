"""A browser of artifacts: folders in pages, previews that a stranger's file cannot harm, downloads.

Used by the pages of runs and of logged models; each gives its root and the address of its own page.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response, StreamingResponse

from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError, InvalidInputError, NotFoundError
from everline.models import files as model_files
from everline.runs import artifacts
from everline.runs.types import Artifact
from everline.server.console.view import parquet_preview, preview, render
from everline.server.http import Request, begin
from everline.storage.blobs import BlobStore

ENTRIES_PER_PAGE = 200
_PARQUET_KEPT = 64
SAFE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "private, no-cache",
}
"""On every file of a stranger: whatever it is, in our origin it is no page and runs nothing."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a browser stands.

    Attributes:
        root: the proxy path that its files lie below; None where they are not kept here.
        address: parts of the page's own address, such as `("runs", UID, "artifacts")`.
        uri: what people call the root.
    """

    root: str | None
    address: tuple[str, ...]
    uri: str


def place(artifact_uri: str, *address: str) -> Place:
    """The place of an artifact root, as runs and logged models keep it."""
    root = artifacts.proxy_path(artifact_uri) if artifacts.is_ours(artifact_uri) else None
    return Place(root=root, address=address, uri=artifact_uri)


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What the browser found: the entries of a folder, and the file that was asked for."""

    path: str
    folder: str
    entries: list[Artifact]
    file: Artifact | None


def look(uow: UnitOfWork, project: str, at: Place, *, path: str) -> Looked:
    """The folder at a path, or the file at it with the folder around it.

    Raises:
        NotFoundError: there is neither.
        InvalidInputError: the path leads out of its root.
    """
    if at.root is None:
        return Looked(path="", folder="", entries=[], file=None)
    entries = model_files.list_files(uow, project, path=_below(at.root, path))
    file, folder = None, path
    if path and not entries:
        file = model_files.get_file(uow, project, _below(at.root, path))
        folder = path.rpartition("/")[0]
        entries = model_files.list_files(uow, project, path=_below(at.root, folder))
    return Looked(path=path, folder=folder, entries=entries, file=file)


def view(request: Request, at: Place, found: Looked) -> dict[str, Any]:
    """What the template `browser.html` shows."""
    page = max(0, min(request.query("page", int, 0), 100_000))
    shown = sorted(found.entries, key=lambda one: (not one.is_dir, one.path))[
        page * ENTRIES_PER_PAGE : (page + 1) * ENTRIES_PER_PAGE
    ]
    project = request.project

    def address(path: str = "", *more: str, page: int | None = None) -> str:
        return render.path(*at.address, *more, project=project, path=path, page=page or None)

    def other(number: int) -> str | None:
        inside = 0 <= number * ENTRIES_PER_PAGE < len(found.entries)
        return address(found.path, page=number) if inside and number != page else None

    names = found.folder.split("/") if found.folder else []
    prefix = len(at.root or "") + 1
    return {
        "kept_elsewhere": at.uri if at.root is None else None,
        "trail": [("All files", address())]
        + [(name, address("/".join(names[: depth + 1]))) for depth, name in enumerate(names)],
        "entries": [
            {
                "name": one.path.rpartition("/")[2],
                "is_dir": one.is_dir,
                "size": one.bytes,
                "href": address(one.path[prefix:]),
                "here": found.file is not None and one.path == found.file.path,
            }
            for one in shown
        ],
        "total": len(found.entries),
        "before": other(page - 1),
        "after": other(page + 1),
        "file": None
        if found.file is None
        else {
            "name": found.path.rpartition("/")[2],
            "digest": found.file.digest,
            "size": found.file.bytes,
            "download": address(found.path, "content"),
            "image": address(found.path, "image"),
        },
        "preview": None if found.file is None else preview_of(request.app.blobs, found.file),
    }


def preview_of(blobs: BlobStore, file: Artifact) -> preview.Preview:
    """Show a file; one that cannot be read says so."""
    digest, size = file.digest or "", file.bytes or 0
    try:
        head = _head(blobs, digest)
        if file.path.lower().endswith((".parquet", ".pq")) and head.startswith(b"PAR1"):
            if size > parquet_preview.FILE_BYTES_MAX:
                return preview.nothing(f"This file has {render.size(size)}, too much to show its first rows here.")
            return _parquet(blobs, digest)
        return preview.of_file(file.path, size, head)
    except EverlineError as error:
        return preview.nothing(error.message)


def download(request: Request, at: Place) -> Response:
    """A file as it is, always to be saved and never to be shown."""
    file = _file(request, at)
    name = file.path.rpartition("/")[2]
    headers = {
        **SAFE,
        "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "content-length": str(file.bytes),
        "etag": f'"{file.digest}"',
    }
    body = request.app.blobs.stream(file.digest or "")
    return StreamingResponse(body, media_type="application/octet-stream", headers=headers)


def image(request: Request, at: Place) -> Response:
    """A picture of a known raster type, for the page to show; anything else is refused, whatever its name.

    Raises:
        InvalidInputError: its first bytes are not those of a picture.
    """
    file = _file(request, at)
    body = request.app.blobs.stream(file.digest or "")
    first = next(body, b"")
    kind = preview.image_type(first)
    if kind is None or (file.bytes or 0) > preview.IMAGE_BYTES_MAX:
        raise InvalidInputError(
            f"{file.path.rpartition('/')[2]!r} is not a picture that is shown here.",
            hint="Download it.",
            field="path",
        )
    headers = {**SAFE, "content-disposition": "inline", "content-length": str(file.bytes), "etag": f'"{file.digest}"'}
    return StreamingResponse(chain([first], body), media_type=kind, headers=headers)


def _file(request: Request, at: Place) -> Artifact:
    path = request.query("path", str)
    if at.root is None:
        raise NotFoundError(f"The artifacts are kept at {at.uri[:200]}, not by this server.", hint="Read them there.")
    with begin(request) as uow:
        return model_files.get_file(uow, request.project, _below(at.root, path))


def _below(root: str, path: str) -> str:
    return f"{root}/{path}" if path else root


def _head(blobs: BlobStore, digest: str) -> bytes:
    pieces: list[bytes] = []
    stream: Iterator[bytes] = blobs.stream(digest)
    size = 0
    for piece in stream:
        pieces.append(piece)
        size += len(piece)
        if size >= preview.HEAD_BYTES:
            break
    return b"".join(pieces)[: preview.HEAD_BYTES]


@lru_cache(maxsize=_PARQUET_KEPT)
def _parquet(blobs: BlobStore, digest: str) -> preview.Preview:
    """Kept by digest: the same bytes never show anything else, and starting a process takes half a second."""
    with tempfile.TemporaryDirectory(prefix="everline-preview-") as folder:
        return parquet_preview.read(blobs.fetch(digest, Path(folder) / "file.parquet"))
