"""Artifact paths as clients send them: decoded once or, by an attacker, several times."""

from __future__ import annotations

from urllib.parse import unquote

from everline.errors import InvalidInputError
from everline.runs.limits import check_artifact_path

_UNQUOTES_MAX = 8


def checked_path(path: str) -> str:
    """A safe path; one that would turn unsafe when it is decoded once more is refused too.

    Raises:
        InvalidInputError: the path could leave its root, however often it is decoded.
    """
    decoded = path
    for _ in range(_UNQUOTES_MAX):
        check_artifact_path(decoded)
        further = unquote(decoded)
        if further == decoded:
            break
        decoded = further
    if "#" in decoded:
        raise InvalidInputError("Invalid path: it contains '#'.", field="path")
    return check_artifact_path(path)
