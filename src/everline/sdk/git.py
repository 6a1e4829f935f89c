"""Git, asked with care: no hooks, no helpers, no other repository by a variable, no question at a terminal."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from everline.errors import EverlineError

GIT_TIMEOUT_S = 600.0
_OUTPUT_CHARS_MAX = 400
_OTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
_PROTOCOLS = "file:https:http:ssh:git"


class CodeUnavailableError(EverlineError):
    """The code of a run is not to be had here."""

    code = "code_unavailable"
    status = 422


def git(place: Path | None, *arguments: str, given: bytes = b"") -> str:
    """What Git prints in a folder, or without one.

    Args:
        given: what it reads.

    Raises:
        CodeUnavailableError: it says no, with its words.
    """
    try:
        done = subprocess.run(
            _command(place, *arguments),
            capture_output=True, check=False, env=_variables(), input=given, timeout=GIT_TIMEOUT_S,
        )  # fmt: skip
    except FileNotFoundError:
        raise CodeUnavailableError("Git is not installed here, and the code is a commit.", hint="Install it.") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CodeUnavailableError(f"Git did not answer: {error}.") from error
    if done.returncode != 0:
        raise CodeUnavailableError(f"git {arguments[0]} failed: {_said(done)}.")
    return done.stdout.decode("utf-8", errors="surrogateescape")


def asks(place: Path, *arguments: str) -> bool:
    """Whether Git says yes."""
    try:
        git(place, *arguments)
    except CodeUnavailableError:
        return False
    return True


def clone(place: Path, commit: str, root: Path) -> None:
    """The files of a commit in an empty folder: a clone that shares its objects, so that nothing of it changes."""
    top = git(place, "rev-parse", "--path-format=absolute", "--git-common-dir").strip()
    git(None, "clone", "--quiet", "--shared", "--no-checkout", "--", top, str(root))
    git(root, "checkout", "--quiet", "--detach", commit)


def _command(place: Path | None, *arguments: str) -> list[str]:
    where = [] if place is None else ["-C", str(place)]
    # Nobody's hooks run because a commit is looked at.
    options = ("core.hooksPath=/dev/null", "core.quotepath=off", "core.fsmonitor=false", "advice.detachedHead=false")
    return ["git", *(part for option in options for part in ("-c", option)), *where, *arguments]


def _variables() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _OTHER_REPOSITORY}
    return kept | {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": _PROTOCOLS, "LC_ALL": "C"}


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    return " ".join(done.stderr.decode("utf-8", errors="replace").split())[-_OUTPUT_CHARS_MAX:].rstrip(".")
