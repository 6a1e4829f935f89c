"""What every run records by itself: code, environment, seed, and what may make it differ next time.

    captured = capture(Path("."), "flight_delay:flight_delay", sys.argv, seed=7, params={"month": "2013-06"})
    for digest, content in captured.blobs.items():
        client.upload(content)                     # content-addressed: what exists is skipped
    record = captured.record                       # JSON through msgspec; `data` is added once it is resolved

The snapshot holds the content of every source file below the project root, so a run can be rebuilt without its Git
repository; commit and diff say where that content came from. Nothing outside the root is read, no link is followed
out of it, and files whose name says "secret" are left out and listed as omitted.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from everline.canonical import canonical_json
from everline.errors import IntegrityError, InvalidInputError
from everline.ids import digest_bytes
from everline.runs.environment import (
    REDACTED,
    SECRET_NAME,
    SECRET_VALUE,
    Environment,
    capture_environment,
)

SOURCE_SUFFIXES = frozenset({
    ".py", ".pyi", ".ipynb", ".toml", ".cfg", ".ini", ".yaml", ".yml", ".json", ".sql", ".txt", ".sh", ".r", ".jinja",
    ".j2", ".lock", ".in",
})  # fmt: skip
_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "build", "dist", "mlruns"})
FILE_BYTES_MAX = 1_000_000
FILES_MAX = 5_000
NAMES_MAX = 50_000
SNAPSHOT_BYTES_MAX = 50_000_000
DIFF_BYTES_MAX = 5_000_000
GIT_TIMEOUT_S = 5.0


class SourceFile(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One file of the snapshot; `path` is relative to the project root, with forward slashes."""

    path: str
    digest: str
    bytes: int


class CodeSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The code of a run. `digest` is that of the canonical manifest of `files`: equal digests, equal code.

    Attributes:
        commit: the commit that HEAD named, or None outside Git.
        dirty: there were uncommitted changes or untracked source files.
        diff: digest of the blob with `git diff HEAD`, or None when it was empty, too large, or outside Git.
        omitted: source files left out, each with the reason; a run with omissions may not be rebuildable.
    """

    digest: str
    files: tuple[SourceFile, ...]
    commit: str | None = None
    branch: str | None = None
    repository: str | None = None
    dirty: bool = False
    diff: str | None = None
    omitted: tuple[str, ...] = ()


class DataInput(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset version that the run read."""

    name: str
    version: int
    digest: str
    label: str | None = None


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to do a run again, and to know whether it was the same.

    Attributes:
        entry: `module:pipeline`, or a script's path below the root.
        folder: where a script was started, below the root; "" for the root itself.
    """

    schema: int = 1
    entry: str
    folder: str = ""
    argv: tuple[str, ...] = ()
    code: CodeSnapshot
    environment: Environment
    seed: int | None = None
    params: dict[str, Any] = {}
    data: tuple[DataInput, ...] = ()
    nondeterminism: tuple[str, ...] = ()


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """A record and the blobs that it names, by digest, still to be uploaded."""

    record: RunRecord
    blobs: dict[str, bytes]


def capture(
    project_root: Path,
    entry: str,
    argv: list[str] | tuple[str, ...] = (),
    *,
    seed: int | None = None,
    params: Mapping[str, Any] | None = None,
    data: tuple[DataInput, ...] = (),
    folder: str = "",
    extra: Mapping[str, bytes] | None = None,
) -> Captured:
    """Snapshot code and environment at the start of a run; below 150 ms for an ordinary project.

    Args:
        project_root: the folder whose source files are the run's code; need not be a Git repository.
        entry: what runs, `module:pipeline` or a script's path below the root.
        argv: the command line; values of secret-looking options are redacted.
        seed: the seed that the run sets, or None if it sets none.
        params: JSON values by name.
        folder: where a script was started, below the root.
        extra: source files that lie nowhere, by path below the root.

    Raises:
        InvalidInputError: `project_root` is not a folder.
    """
    root = project_root.resolve()
    if not root.is_dir():
        raise InvalidInputError(f"The project root {project_root} is not a folder.", field="project_root")
    blobs: dict[str, bytes] = {}
    code = _snapshot(root, blobs, extra or {})
    environment = capture_environment()
    record = RunRecord(
        entry=entry,
        folder=folder,
        argv=redact_argv(argv),
        code=code,
        environment=environment,
        seed=seed,
        params=dict(params or {}),
        data=data,
        nondeterminism=tuple(nondeterminism(environment, seed)),
    )
    return Captured(record=record, blobs=blobs)


def nondeterminism(environment: Environment, seed: int | None) -> list[str]:
    """Name what may make the same run give another result."""
    sources = []
    if seed is None:
        sources.append("no seed was set")
    if environment.hash_seed == "random":
        sources.append("PYTHONHASHSEED was not set: the order of sets of strings may change")
    threads = environment.threads.get("OMP_NUM_THREADS", str(environment.machine.cpus_usable))
    if threads != "1":
        sources.append(f"up to {threads} threads: floating-point sums may be added in another order")
    visible = environment.variables.get("CUDA_VISIBLE_DEVICES", "0" if environment.machine.accelerators else "")
    if visible not in ("", "-1"):
        sources.append("a GPU was visible: some kernels add in no fixed order")
    return sources


def manifest_digest(files: tuple[SourceFile, ...]) -> str:
    """Digest of the canonical manifest of source files, in the order of their paths."""
    rows = [{"path": f.path, "digest": f.digest, "bytes": f.bytes} for f in sorted(files)]
    return digest_bytes(canonical_json({"schema": 1, "files": rows}))


def verify_snapshot(code: CodeSnapshot) -> None:
    """Refuse a snapshot whose digest is not that of its files, or with a path that leaves its folder.

    Raises:
        IntegrityError: the record was changed after it was made.
    """
    for file in code.files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or "\\" in file.path or "\0" in file.path or not path.parts:
            raise IntegrityError(f"The code snapshot names {file.path!r}, which is outside its folder.")
    if manifest_digest(code.files) != code.digest:
        raise IntegrityError(f"The code snapshot's files do not have the digest {code.digest} that was recorded.")


def redact_argv(argv: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Replace the values of options whose name says "secret", and values that look like one."""
    redacted: list[str] = []
    hide_next = False
    for argument in argv:
        option, equals, value = argument.partition("=")
        if hide_next and not argument.startswith("-"):
            redacted.append(REDACTED)
        elif equals and (SECRET_NAME.search(option) or SECRET_VALUE.search(value)):
            redacted.append(f"{option}={REDACTED}")
        else:
            redacted.append(REDACTED if SECRET_VALUE.search(argument) else argument)
        hide_next = argument.startswith("-") and not equals and bool(SECRET_NAME.search(argument))
    return tuple(redacted)


def _snapshot(root: Path, blobs: dict[str, bytes], extra: Mapping[str, bytes]) -> CodeSnapshot:
    git = _Git(root)
    files: list[SourceFile] = []
    omitted: list[str] = []
    found, whole = _walk(root)
    if not whole:
        omitted.append(f"(more): the folder has over {NAMES_MAX} files, so not all were looked at")
    size = 0
    for path in found:
        relative = path.relative_to(root).as_posix()
        if relative in extra:
            continue
        if git.ignores(relative) and path.suffix != ".py":
            continue
        reason = _reason_to_omit(path, root)
        if reason is None and (len(files) >= FILES_MAX or size >= SNAPSHOT_BYTES_MAX):
            reason = f"more than {FILES_MAX} source files or {SNAPSHOT_BYTES_MAX} bytes of them"
            if omitted and omitted[-1].endswith(reason):
                continue
        if reason is not None:
            omitted.append(f"{relative}: {reason}")
            continue
        content = path.read_bytes()
        digest = digest_bytes(content)
        blobs[digest] = content
        size += len(content)
        files.append(SourceFile(path=relative, digest=digest, bytes=len(content)))
    for relative, content in extra.items():
        blobs[digest_bytes(content)] = content
        files.append(SourceFile(path=relative, digest=digest_bytes(content), bytes=len(content)))
    kept = tuple(sorted(files))
    diff = git.diff()
    if diff is not None:
        blobs[digest_bytes(diff)] = diff
    return CodeSnapshot(
        digest=manifest_digest(kept),
        files=kept,
        commit=git.commit,
        branch=git.branch,
        repository=git.repository,
        dirty=git.dirty,
        diff=None if diff is None else digest_bytes(diff),
        omitted=tuple(omitted),
    )


def _walk(root: Path) -> tuple[list[Path], bool]:
    """The source files below a folder in order, and whether all of it was looked at."""
    found: list[Path] = []
    visited = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _SKIPPED_FOLDERS
            and not (Path(folder) / name / "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            if Path(name).suffix.lower() in SOURCE_SUFFIXES and not name.startswith("."):
                found.append(Path(folder) / name)
        visited += len(names)
        if visited > NAMES_MAX:
            return sorted(found), False
    return sorted(found), True


def _reason_to_omit(path: Path, root: Path) -> str | None:
    if SECRET_NAME.search(path.name) and path.suffix != ".py":
        return "its name says that it holds a secret"
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            return "a link that leaves the project"
        size = path.stat().st_size
    except OSError as error:
        return f"unreadable ({error.strerror})"
    if size > FILE_BYTES_MAX:
        return f"{size} bytes, more than {FILE_BYTES_MAX}"
    return None if os.access(path, os.R_OK) else "unreadable"


class _Git:
    """Commit, diff and ignore rules of the repository around a folder; all empty when there is none."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commit: str | None = None
        self.branch: str | None = None
        self.repository: str | None = None
        self.dirty = False
        self._listed: frozenset[str] | None = None
        self._diff: bytes | None = None
        self._read()

    def _read(self) -> None:
        # Started together: five short processes cost about as much as one.
        questions = {
            "head": ("rev-parse", "HEAD"),
            "branch": ("symbolic-ref", "--short", "-q", "HEAD"),
            "remote": ("config", "--get", "remote.origin.url"),
            "listed": ("ls-files", "-z", "--cached", "--others", "--exclude-standard"),
            "untracked": ("ls-files", "-z", "--others", "--exclude-standard"),
            "diff": ("diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--", "."),
        }
        if not any((folder / ".git").exists() for folder in (self.root, *self.root.parents)):
            return
        try:
            started = {name: self._start(arguments) for name, arguments in questions.items()}
            answers = {name: self._finish(process) for name, process in started.items()}
        except OSError:
            return  # Git is not installed: the snapshot of the files stands alone.
        listed = answers["listed"] or b""
        if not listed:
            return  # The folder is ignored as a whole: the repository around it is not this project's.
        self._listed = frozenset(os.fsdecode(name) for name in listed.split(b"\0") if name)
        self.commit = _text(answers["head"])
        self.branch = _text(answers["branch"])
        self.repository = _without_user(_text(answers["remote"]))
        self._diff = answers["diff"] or None
        sources = [name for name in (answers["untracked"] or b"").split(b"\0") if _is_source(name)]
        self.dirty = bool(self._diff) or bool(sources)

    def _start(self, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        command = ["git", "-c", "core.quotepath=off", "-c", "core.fsmonitor=false", "-C", str(self.root), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    @staticmethod
    def _finish(process: subprocess.Popen[bytes]) -> bytes | None:
        try:
            output, _ = process.communicate(timeout=GIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return None
        return output if process.returncode == 0 else None

    def ignores(self, relative: str) -> bool:
        return self._listed is not None and relative not in self._listed

    def diff(self) -> bytes | None:
        """The uncommitted changes below the root, unless there are none or they are too large to keep."""
        if self._diff is None or len(self._diff) > DIFF_BYTES_MAX:
            return None
        return self._diff


def _is_source(name: bytes) -> bool:
    return Path(os.fsdecode(name)).suffix.lower() in SOURCE_SUFFIXES


def _text(output: bytes | None) -> str | None:
    return (output or b"").decode("utf-8", errors="replace").strip() or None


def _without_user(url: str | None) -> str | None:
    """A remote's address without user name and password."""
    if url is None or "://" not in url:
        return url
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
