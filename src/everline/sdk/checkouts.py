"""A recorded commit in a folder of its own: found in a repository that is here, or fetched from a given address.

The repository is cloned with shared objects, so nothing of it is changed and nothing is copied but the files of the
commit; a commit that no branch names any more is found too. Git verifies what it checks out by its hash. Nothing is
fetched unless whoever rebuilds gave an address.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from everline.errors import EverlineError
from everline.reproduction.types import Source

GIT_TIMEOUT_S = 600.0
_OUTPUT_CHARS_MAX = 400
_OTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
_PROTOCOLS = "file:https:http:ssh:git"


class CodeUnavailableError(EverlineError):
    """The code of a run is not to be had here."""

    code = "code_unavailable"
    status = 422


class Checkout(NamedTuple):
    """A commit's files.

    Attributes:
        script: path below `root`, with forward slashes.
        folder: where it is started, below `root`; "" for `root` itself.
    """

    root: Path
    script: str
    folder: str


def check_out(source: Source, root: Path, *, repository: str | None, here: Path) -> Checkout:
    """Write the commit of a run into an empty folder, with its uncommitted changes if they were recorded.

    Args:
        repository: a clone's folder or an address; without it, repositories that are here are looked into.
        here: the folder whose repository is looked into first.

    Raises:
        CodeUnavailableError: no repository has the commit, it has no such script, or the changes do not fit.
    """
    if repository is not None and not Path(repository).exists():
        _fetch(repository, source.commit, root)
    else:
        _clone(_find(source, repository, here), source.commit, root)
    if source.dirty and source.diff:
        _apply(source, root)
    tracked = _git(root, "ls-tree", "-r", "--name-only", "-z", "HEAD").split("\0")
    script, folder = find_script(source.script, [name for name in tracked if name], commit=source.commit)
    return Checkout(root, script, folder)


def find_script(recorded: str, tracked: Sequence[str], *, commit: str) -> tuple[str, str]:
    """The script among a commit's files, and the folder that it was started in.

    Args:
        recorded: as it was started: absolute, or relative to a folder that nobody recorded.
        tracked: paths from the repository's root.

    Raises:
        CodeUnavailableError: it is not there, or it may be one of several.

    Example:
        >>> find_script("train.py", ["a/train.py", "b.py"], commit="c" * 40)
        ('a/train.py', 'a')
        >>> find_script("/home/me/project/a/train.py", ["a/train.py", "train.py"], commit="c" * 40)
        ('a/train.py', '')
    """
    names = set(tracked)
    parts = [part for part in PurePosixPath(recorded.replace("\\", "/")).parts if part not in ("/", ".", "..")]
    is_absolute = recorded.startswith("/")
    if not is_absolute and "/".join(parts) in names:
        return "/".join(parts), ""
    if is_absolute:
        for start in range(len(parts)):
            if "/".join(parts[start:]) in names:
                return "/".join(parts[start:]), ""
    ending = "/" + "/".join(parts[-1:] if is_absolute else parts)
    found = sorted(name for name in names if f"/{name}".endswith(ending))
    if not found:
        raise CodeUnavailableError(
            f"Commit {commit[:12]} has no {recorded}: the script was never committed, or lies elsewhere.",
            hint="Commit the script before it runs; an uncommitted file is in no MLflow client's record.",
        )
    if len(found) > 1:
        raise CodeUnavailableError(
            f"Commit {commit[:12]} has several files that {recorded} may be: {', '.join(found[:5])}.",
            hint="Start scripts from the root of the repository: the client records them as they were started.",
        )
    return found[0], found[0].removesuffix(ending).rstrip("/") if not is_absolute else ""


def _find(source: Source, repository: str | None, here: Path) -> Path:
    """The first repository that is here and has the commit."""
    if repository is not None:
        places = [Path(repository)]
    else:
        places = [here]
        if source.script.startswith("/"):
            places.append(Path(source.script).parent)
        address = (source.repository or "").removeprefix("file://")
        if address.startswith("/"):
            places.append(Path(address))
    looked = []
    for place in places:
        if not place.is_dir() or not _asks(place, "rev-parse", "--git-dir"):
            continue
        looked.append(str(place))
        if _asks(place, "rev-parse", "--verify", "--quiet", f"{source.commit}^{{commit}}"):
            return place
    known = f" It was recorded as coming from {source.repository}." if source.repository else ""
    hint = "Give a clone or an address that has it: everline reproduce RUN --repository PATH_OR_URL"
    if not looked:
        raise CodeUnavailableError(
            f"Commit {source.commit[:12]} is needed, and there is no Git repository in "
            f"{', '.join(str(p) for p in places)}.{known}",
            hint=hint,
        )
    raise CodeUnavailableError(
        f"The repository in {', '.join(looked)} has no commit {source.commit[:12]}.{known}", hint=hint
    )


def _clone(place: Path, commit: str, root: Path) -> None:
    top = _git(place, "rev-parse", "--path-format=absolute", "--git-common-dir").strip()
    _git(None, "clone", "--quiet", "--shared", "--no-checkout", "--", top, str(root))
    _git(root, "checkout", "--quiet", "--detach", commit)


def _fetch(address: str, commit: str, root: Path) -> None:
    if address.startswith("-"):
        raise CodeUnavailableError(f"{address!r} is no address of a repository.")
    _git(None, "init", "--quiet", "--", str(root))
    _git(root, "remote", "add", "origin", address)
    if not _asks(root, "fetch", "--quiet", "--depth", "1", "origin", commit):
        # A server that gives out no commit by its hash gives out its branches.
        _git(root, "fetch", "--quiet", "--tags", "origin")
    if not _asks(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"):
        raise CodeUnavailableError(f"The repository at {address} has no commit {commit[:12]}.")
    _git(root, "checkout", "--quiet", "--detach", commit)


def _apply(source: Source, root: Path) -> None:
    command = _command(root, "apply", "--whitespace=nowarn", "-")
    diff = (source.diff or "").rstrip("\n") + "\n"
    done = subprocess.run(command, input=diff.encode(), capture_output=True, check=False, env=_variables())
    if done.returncode != 0:
        raise CodeUnavailableError(
            f"The uncommitted changes that were recorded do not fit commit {source.commit[:12]}: {_said(done)}."
        )


def _asks(place: Path, *arguments: str) -> bool:
    try:
        _git(place, *arguments)
    except CodeUnavailableError:
        return False
    return True


def _git(place: Path | None, *arguments: str) -> str:
    try:
        done = subprocess.run(
            _command(place, *arguments),
            capture_output=True, check=False, env=_variables(), stdin=subprocess.DEVNULL, timeout=GIT_TIMEOUT_S,
        )  # fmt: skip
    except FileNotFoundError:
        raise CodeUnavailableError("Git is not installed here, and the code is a commit.", hint="Install it.") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CodeUnavailableError(f"Git did not answer: {error}.") from error
    if done.returncode != 0:
        raise CodeUnavailableError(f"git {arguments[0]} failed: {_said(done)}.")
    return done.stdout.decode("utf-8", errors="surrogateescape")


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
