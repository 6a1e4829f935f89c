"""A recorded commit in a folder of its own: found in a repository that is here, or fetched from a given address.

The repository is cloned with shared objects, so nothing of it is changed and nothing is copied but the files of the
commit; a commit that no branch names any more is found too. Git verifies what it checks out by its hash. Nothing is
fetched unless whoever rebuilds gave an address.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from everline.reproduction.types import Source
from everline.sdk.git import CodeUnavailableError, asks, clone, git


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
        clone(_find(source, repository, here), source.commit, root)
    if source.dirty and source.diff:
        _apply(source, root)
    tracked = git(root, "ls-tree", "-r", "--name-only", "-z", "HEAD").split("\0")
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
        if not place.is_dir() or not asks(place, "rev-parse", "--git-dir"):
            continue
        looked.append(str(place))
        if asks(place, "rev-parse", "--verify", "--quiet", f"{source.commit}^{{commit}}"):
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


def _fetch(address: str, commit: str, root: Path) -> None:
    if address.startswith("-"):
        raise CodeUnavailableError(f"{address!r} is no address of a repository.")
    git(None, "init", "--quiet", "--", str(root))
    git(root, "remote", "add", "origin", address)
    if not asks(root, "fetch", "--quiet", "--depth", "1", "origin", commit):
        # A server that gives out no commit by its hash gives out its branches.
        git(root, "fetch", "--quiet", "--tags", "origin")
    if not asks(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"):
        raise CodeUnavailableError(f"The repository at {address} has no commit {commit[:12]}.")
    git(root, "checkout", "--quiet", "--detach", commit)


def _apply(source: Source, root: Path) -> None:
    diff = (source.diff or "").rstrip("\n") + "\n"
    try:
        git(root, "apply", "--whitespace=nowarn", "-", given=diff.encode())
    except CodeUnavailableError as error:
        raise CodeUnavailableError(
            f"The uncommitted changes that were recorded do not fit commit {source.commit[:12]}: {error.message}"
        ) from error
