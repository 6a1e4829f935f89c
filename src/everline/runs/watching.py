"""What a run reads that nobody declared: files outside of its code and environment, and other hosts.

    watch = Watch(peers=["127.0.0.1:4680"]).start()
    …
    watch.stop(folders=[project])
    [Seen(kind="file", name="/data/prices.csv", step="train", digest="sha256:…", bytes=812)]

Python tells its audit hooks of every file that it opens and every socket that it connects. Code that was compiled opens
files by itself (Arrow with a path instead of an open file, database drivers, other programs that are started): that is
not seen here, but by `sdk.syscalls`, in rebuilds. What belongs to the environment is not told: Python and its packages,
the system's own folders, caches and settings of libraries; nor what the run wrote itself.

This module needs nothing but the standard library, for a rebuild puts a copy of its file, as `sitecustomize`, into the
process of a script (`injected`), whose environment may not have Everline.
"""

# Light, and called at every file that is opened: plain paths, not `pathlib`.
from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

SEEN_MAX = 200
_EVENTS = frozenset({"open", "socket.connect", "socket.getaddrinfo"})
_CLOCK_S = 0.02
"""By how much a file system's clock may be behind."""
HASHED_BYTES_MAX = 256 << 20
VARIABLE = "EVERLINE_WATCH"
_MODULE = "sitecustomize"
_SYSTEM = (
    "/proc",
    "/sys",
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/sbin",
    "/var/cache",
    "/snap",
    "/nix",
    "/run/systemd",
)
_SETTINGS = (".config", ".cache/everline", ".cache/matplotlib", ".cache/fontconfig", ".matplotlib", ".netrc", ".mlflow",
             ".ipython", ".jupyter", ".local/share/jupyter", ".gitconfig", ".python_history", ".pystartup")  # fmt: skip


class Seen(NamedTuple):
    """One undeclared input.

    Attributes:
        kind: `file` or `host`.
        name: an absolute path, or `host:port`.
        step: of a pipeline; None outside of one.
        digest: of the file as it was at the end of the run; None of hosts and of what was too large or gone by then.
    """

    kind: str
    name: str
    step: str | None = None
    digest: str | None = None
    bytes: int | None = None


class Watch:
    """Looks on until it is stopped.

    Args:
        peers: `host:port` of the control plane.
        folders: whose files are declared from the start.
        report: a file to write each thing to as it is seen, one JSON object a line: processes may share it.
        since: what was written after this moment is the run's own, in seconds since 1970; now if not given.
    """

    def __init__(
        self,
        *,
        peers: list[str],
        folders: list[str] | None = None,
        report: str | None = None,
        since: float | None = None,
    ) -> None:
        self.step: str | None = None
        self.peers = frozenset(peers)
        self._report = report
        self._since = (time.time() if since is None else since) - _CLOCK_S
        self._declared = _folders([*(folders or ()), *_of_the_environment()])
        self._known: set[Any] = set()
        self.found: dict[tuple[str, str], Seen] = {}
        self._asked: dict[Any, str] = {}
        self._busy = threading.local()

    def start(self) -> Watch:
        """Begin to look."""
        global _active, _hooked
        _active = (*_active, self)
        if not _hooked:
            _hooked = True
            sys.addaudithook(_hook)
        return self

    @property
    def since(self) -> float:
        """What was written after this moment is the run's own, in seconds since 1970."""
        return self._since + _CLOCK_S

    def told(self, kind: str, name: str, step: str | None) -> None:
        """Somebody else saw it, in a process of the same run."""
        self._add(Seen(kind, name, step))

    def stop(self, *, folders: list[str] | None = None, files: set[str] | None = None) -> list[Seen]:
        """End, and say what was seen, with the digests of the files.

        Args:
            folders, files: what turned out to be declared: folders with all below them, and absolute paths.
        """
        global _active
        _active = tuple(one for one in _active if one is not self)
        declared = _folders(folders or [])
        return _hashed(
            one
            for one in self.found.values()
            if one.kind != "file" or not (one.name in (files or ()) or f"{one.name}/".startswith(declared))
        )

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Do not look at what this thread does inside of the block."""
        before, self._busy.now = getattr(self._busy, "now", False), True
        try:
            yield
        finally:
            self._busy.now = before

    def on(self, event: str, arguments: tuple[Any, ...]) -> None:
        """One audit event; never raises."""
        if getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            if event == "open":
                self.opened(*arguments)
            elif event == "socket.connect":
                self.connected(arguments[1])
            elif event == "socket.getaddrinfo":
                self._asked[_text(arguments[1])] = _text(arguments[0])
        except Exception:  # noqa: S110 - a program must not fail because somebody looks on
            pass
        finally:
            self._busy.now = False

    def opened(self, path: Any, mode: Any, flags: Any) -> None:
        """Somebody opens a file, as Python's audit event has it; may raise what looking at the file raises."""
        if not isinstance(path, str | bytes | os.PathLike):
            return
        known = path if isinstance(path, str) else os.fspath(path)
        if known in self._known and os.path.isabs(known):
            return
        full = os.path.realpath(_source(_text(known)))
        if isinstance(mode, str):
            reads = "r" in mode or "+" in mode
        else:
            reads = (flags or 0) & (os.O_WRONLY | os.O_CREAT | os.O_TRUNC) == 0
        if not reads:
            return
        self._known.add(known)
        if f"{full}/".startswith(self._declared):
            return
        status = os.stat(full)
        if (status.st_mode & 0o170000) == 0o100000 and max(status.st_mtime, status.st_ctime) < self._since:
            self._add(Seen("file", full, self.step, None, status.st_size))

    def connected(self, address: Any) -> None:
        """Somebody connects a socket."""
        if not isinstance(address, tuple) or len(address) < 2:
            return
        port = address[1]
        names = {f"{_text(address[0])}:{port}", f"{self._asked.get(str(port), _text(address[0]))}:{port}"}
        if names & self.peers:
            return
        self._add(Seen("host", max(names, key=lambda name: not name[0].isdigit()), self.step))

    def _add(self, seen: Seen) -> None:
        if (seen.kind, seen.name) in self.found or len(self.found) >= SEEN_MAX:
            return
        self.found[seen.kind, seen.name] = seen
        if self._report is not None:
            with open(self._report, "a", encoding="utf-8") as file:
                file.write(json.dumps(seen._asdict()) + "\n")


def with_digest(seen: Seen, bytes_max: int = HASHED_BYTES_MAX) -> Seen:
    """A file with the digest that it has now; as it is if it is gone or larger than that."""
    try:
        size = os.stat(seen.name).st_size
        if size > bytes_max:
            return seen._replace(bytes=size)
        with open(seen.name, "rb") as file:
            return seen._replace(bytes=size, digest="sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
    except OSError:
        return seen


def injected(folder: str, *, folders: list[str], peers: list[str]) -> tuple[dict[str, str], str]:
    """Make a folder that a Python process with it on PYTHONPATH watches itself from its start, and its children too.

    Returns:
        The environment variables to add, and the report, which `read_report` reads.
    """
    report = os.path.join(folder, "seen.jsonl")
    with open(__file__, encoding="utf-8") as file:
        source = file.read()
    with open(os.path.join(folder, f"{_MODULE}.py"), "w", encoding="utf-8") as file:
        file.write(source + "\n\n_begin()\n")
    told = {"folders": [*folders, folder], "peers": peers, "report": report, "since": time.time()}
    return {VARIABLE: json.dumps(told)}, report


def read_report(report: str) -> list[Seen]:
    """What watched processes wrote, each thing once, with the digests that the files have now."""
    found: dict[tuple[str, str], Seen] = {}
    with contextlib.suppress(OSError), open(report, encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError, TypeError):
                one = Seen(**json.loads(line))
                found.setdefault((one.kind, one.name), one)
    return _hashed(found.values())


def _hashed(seen: Iterable[Seen]) -> list[Seen]:
    told, left = [], HASHED_BYTES_MAX
    for one in seen:
        told.append(with_digest(one, left) if one.kind == "file" else one)
        left -= (told[-1].bytes or 0) if told[-1].digest else 0
    return told


_active: tuple[Watch, ...] = ()
_hooked = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    # Called for every audit event of the process: nothing may come before this line.
    if _active and event in _EVENTS:
        for watch in _active:
            watch.on(event, arguments)


def _of_the_environment() -> list[str]:
    home = os.path.expanduser("~")
    cache = os.environ.get("XDG_CACHE_HOME")
    found = [sys.prefix, sys.base_prefix, sys.exec_prefix, *_SYSTEM, *(f"{home}/{name}" for name in _SETTINGS)]
    found += [f"{cache}/everline"] if cache else []
    packages = [path for path in sys.path if path.rstrip("/").endswith("-packages")]
    return [*found, *packages, *_installed_from_folders(packages)]


def _installed_from_folders(packages: list[str]) -> list[str]:
    """Where the sources lie of distributions that were installed from a folder: the environment has their digest."""
    found = []
    for folder in packages:
        with contextlib.suppress(OSError, ValueError):
            for name in os.listdir(folder):
                if name.endswith(".pth"):
                    with open(os.path.join(folder, name), encoding="utf-8") as file:
                        found += [line.strip() for line in file if line.startswith("/")]
    return found


def _source(path: str) -> str:
    """The file that was compiled to this one, or the path itself."""
    folder, _, name = path.rpartition("/")
    if not name.endswith(".pyc") or not folder.endswith("__pycache__"):
        return path
    return f"{folder.removesuffix('__pycache__')}{name.partition('.')[0]}.py"


def _folders(paths: list[str]) -> tuple[str, ...]:
    """Beginnings of the paths of all that lies in some folders, or is one of them."""
    found = set()
    for path in paths:
        for one in (path, os.path.realpath(path)):
            if one and one != "/":
                found.add(one.rstrip("/") + "/")
    return tuple(sorted(found))


def _text(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, str | bytes) else str(value)


def _begin() -> None:
    """Watch this process, and go on with the `sitecustomize` that it would have had."""
    own = os.path.dirname(os.path.realpath(__file__))
    with contextlib.suppress(KeyError, ValueError, TypeError):
        Watch(**json.loads(os.environ[VARIABLE])).start()
    others = [path for path in sys.path if os.path.realpath(path) != own]
    spec = importlib.machinery.PathFinder.find_spec(_MODULE, others)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
