"""Where things lie in a blob store."""

from __future__ import annotations

from everline.ids import check_digest


def blob_path(digest: str) -> str:
    """Where a blob that is a file of its own lies in its store: `sha256/ab/cdef…`."""
    hexadecimal = check_digest(digest).removeprefix("sha256:")
    return f"sha256/{hexadecimal[:2]}/{hexadecimal[2:]}"
