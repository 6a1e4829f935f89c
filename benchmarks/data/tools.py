"""The tools that keep versions of data, each driven as its manual says, as processes from start to end."""

from __future__ import annotations

import abc
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers import python_of

QUIET = {"DVC_NO_ANALYTICS": "1", "OXEN_DISABLE_ANALYTICS": "1", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}


class MissingError(Exception):
    """A tool cannot be had on this machine; the message says how to install it."""


class Tool(abc.ABC):
    """One tool with a place of its own. `work` has the data under the name that it is added by."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.out = folder / "out"
        self.work.mkdir(parents=True)
        self.env = {**os.environ, **QUIET, "HOME": str(folder), "RESTIC_PASSWORD": "none", "BORG_BASE_DIR": str(folder)}
        self.begin()

    def run(self, *arguments: object, cwd: Path | None = None, codes: Sequence[int] = (0,)) -> None:
        done = subprocess.run(
            [str(one) for one in arguments], cwd=cwd or self.work, env=self.env, capture_output=True, text=True
        )
        if done.returncode not in codes:
            raise RuntimeError(
                f"{self.name}: {' '.join(map(str, arguments))}\n{done.stdout[-500:]}{done.stderr[-1500:]}"
            )

    @abc.abstractmethod
    def begin(self) -> None:
        """Make an empty repository."""

    @abc.abstractmethod
    def add(self, what: str) -> None:
        """Take in what lies at `work/what`, changed or not."""

    @abc.abstractmethod
    def status(self, what: str) -> None:
        """Say whether anything changed."""

    def lose(self, what: str) -> None:
        """Make room for a restore; not measured."""
        path = self.work / what
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    @abc.abstractmethod
    def restore(self, what: str) -> Path:
        """Get it back; where."""

    def stored(self) -> int:
        """Bytes of the repository."""
        return sum(path.stat().st_size for place in self.places() for path in _files(place))

    def places(self) -> list[Path]:
        return [self.folder / "store"]


class Everline(Tool):
    name = "Everline"

    def begin(self) -> None:
        self.home = self.folder / "store"
        self._everline("data", "list")

    def _everline(self, *arguments: object) -> None:
        self.run(sys.executable, "-m", "everline", *arguments, "--home", self.home)

    def add(self, what: str) -> None:
        self._everline("data", "add", "data", self.work / what)

    def status(self, what: str) -> None:
        self._everline("data", "status", "data", self.work / what)

    def lose(self, what: str) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.rmtree(self.home / "cache" / "blobs", ignore_errors=True)  # as on another machine

    def restore(self, what: str) -> Path:
        self._everline("data", "checkout", "data", self.out)
        return self.out if (self.work / what).is_dir() else self.out / what

    def places(self) -> list[Path]:
        return [self.home / "blobs", self.home / "everline.db"]


class Dvc(Tool):
    name = "DVC, copies"
    link = "copy"

    def begin(self) -> None:
        self.dvc = python_of("dvc").with_name("dvc")
        self.run("git", "init", "-q")
        self.run(self.dvc, "init", "-q")
        self.run(self.dvc, "config", "cache.type", self.link)

    def add(self, what: str) -> None:
        self.run(self.dvc, "add", "-q", what)

    def status(self, what: str) -> None:
        self.run(self.dvc, "status", "-q", codes=(0, 1))

    def restore(self, what: str) -> Path:
        self.run(self.dvc, "checkout", "-q", f"{what}.dvc")
        return self.work / what

    def places(self) -> list[Path]:
        return [self.work / ".dvc" / "cache"]


class DvcLinks(Dvc):
    name = "DVC, hard links"
    link = "hardlink"


class GitLfs(Tool):
    name = "Git LFS"

    def begin(self) -> None:
        _need("git-lfs", "apt install git-lfs")
        self.run("git", "init", "-q")
        self.run("git", "lfs", "install", "--local")
        self.run("git", "config", "user.email", "bench@example.org")
        self.run("git", "config", "user.name", "bench")
        self.run("git", "lfs", "track", "*.parquet", "*.bin")

    def add(self, what: str) -> None:
        self.run("git", "add", what)
        self.run("git", "commit", "-q", "--allow-empty", "-m", "data")

    def status(self, what: str) -> None:
        self.run("git", "status", "--porcelain")

    def restore(self, what: str) -> Path:
        self.run("git", "checkout", "-q", "--", what)
        return self.work / what

    def places(self) -> list[Path]:
        return [self.work / ".git"]


class Restic(Tool):
    name = "restic"

    def begin(self) -> None:
        _need("restic", "apt install restic")
        self.run("restic", "-q", "-r", self.folder / "store", "init")

    def add(self, what: str) -> None:
        self.run("restic", "-q", "-r", self.folder / "store", "backup", what)

    status = add  # it has no other way to look

    def lose(self, what: str) -> None:
        shutil.rmtree(self.out, ignore_errors=True)

    def restore(self, what: str) -> Path:
        self.run("restic", "-q", "-r", self.folder / "store", "restore", "latest", "--target", self.out)
        return next(self.out.rglob(what))


class Borg(Tool):
    name = "borg"
    made = 0

    def begin(self) -> None:
        _need("borg", "apt install borgbackup")
        self.run("borg", "init", "-e", "none", self.folder / "store")

    def add(self, what: str) -> None:
        self.made += 1
        self.run("borg", "create", f"{self.folder / 'store'}::{self.made}", what)

    status = add

    def lose(self, what: str) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()

    def restore(self, what: str) -> Path:
        self.run("borg", "extract", f"{self.folder / 'store'}::{self.made}", cwd=self.out)
        return self.out / what


class Oxen(Tool):
    name = "Oxen"

    def begin(self) -> None:
        self.python = python_of("oxen")
        self._oxen("oxen.user.config_user('bench', 'bench@example.org'); repo.init()")

    def _oxen(self, code: str) -> None:
        self.run(self.python, "-c", f"import oxen, oxen.user; repo = oxen.Repo('.'); {code}")

    def add(self, what: str) -> None:
        self._oxen(f"repo.add({what!r}); repo.commit('data')")

    def status(self, what: str) -> None:
        self._oxen("str(repo.status())")

    def restore(self, what: str) -> Path:
        self._oxen(f"repo.restore({what!r})")
        return self.work / what

    def places(self) -> list[Path]:
        return [self.work / ".oxen"]


def wanted() -> list[type[Tool]]:
    """The tools to measure: all, or those in BENCH_TOOLS (their first words, comma-separated) and always Everline."""
    asked = [word.strip().lower() for word in os.environ.get("BENCH_TOOLS", "").split(",") if word.strip()]
    kinds: list[type[Tool]] = [Everline, Dvc, DvcLinks, GitLfs, Restic, Borg, Oxen]
    return [kind for kind in kinds if kind is Everline or not asked or kind.name.lower().startswith(tuple(asked))]


def _need(program: str, how: str) -> None:
    if shutil.which(program) is None:
        raise MissingError(f"not installed: {how}")


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
        yield from place.parent.glob(place.name + "-*")
    for path in place.rglob("*") if place.is_dir() else ():
        if path.is_file() and not path.is_symlink():
            yield path
