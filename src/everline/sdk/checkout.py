"""A version's files on this machine: what is there already stays, the rest is fetched, verified and put in place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from everline.datasets.manifest import check_path
from everline.datasets.types import DatasetFile
from everline.errors import ConflictError
from everline.ids import digest_file, new_uid
from everline.sdk.folders import SMALL_BYTES_MAX
from everline.sdk.seen import Folder, now_ns

if TYPE_CHECKING:
    from everline.sdk.client import Client


def place_files(client: Client, files: Sequence[DatasetFile], root: Path, *, folder: Folder, force: bool) -> None:
    """Write the files of a version below `root`, each under another name until it is whole.

    A folder that was not there appears with all its files at once.

    Raises:
        ConflictError: a file with other content is in the way; nothing was written.
        IntegrityError: stored bytes were altered.
    """
    for file in files:
        check_path(file.path)
    if not (root.exists() or root.is_symlink()):
        partial = root.with_name(f".{root.name}.{new_uid()}.partial")
        try:
            _write(client, files, partial, folder=folder, mark="")
            root.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(root)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return
    missing = [file for file in files if not _is_there(root / file.path, file, folder)]
    taken = [path for file in missing if (path := root / file.path).exists() or path.is_symlink()]
    if taken and not force:
        raise ConflictError(
            f"{taken[0]} is there with other content.",
            hint="Choose an empty folder, or use --force.",
            field="target",
        )
    _write(client, missing, root, folder=folder, mark=f".{os.getpid()}.partial")


def _is_there(path: Path, file: DatasetFile, folder: Folder) -> bool:
    try:
        stat = path.stat()
    except OSError:
        return False
    if not path.is_file() or stat.st_size != file.bytes:
        return False
    return (folder.digest(file.path, stat) or digest_file(path)) == file.digest


def _write(client: Client, files: Sequence[DatasetFile], root: Path, *, folder: Folder, mark: str) -> None:
    """Write files.

    Args:
        mark: what a file's name ends in until it is whole; nothing in a folder that nobody sees yet.
    """
    small: dict[str, list[DatasetFile]] = {}
    made: set[str] = set()
    written: list[tuple[DatasetFile, os.stat_result]] = []
    for file in files:
        parent = file.path.rpartition("/")[0]
        if parent not in made:
            (root / parent).mkdir(parents=True, exist_ok=True)
            made.add(parent)
        if file.bytes <= SMALL_BYTES_MAX:
            small.setdefault(file.digest, []).append(file)
        else:
            written.append((file, _link(client.blobs.path(file.digest), root / file.path)))
    base = str(root)
    for digest, content in client.blobs.get_many((same[0].digest, same[0].bytes) for same in small.values()):
        for file in small[digest]:
            target = f"{base}/{file.path}"
            written.append((file, _write_file(target, content, partial=target + mark)))
    at_ns = now_ns()
    for file, stat in written:
        folder.remember(file.path, stat, file.digest, at_ns=at_ns)


def _write_file(target: str, content: bytes, *, partial: str) -> os.stat_result:
    # Plain calls of the system: a checkout may have a hundred thousand files.
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(handle, rest) :]
        if partial != target:
            os.replace(partial, target)  # noqa: PTH105
        return os.fstat(handle)
    finally:
        os.close(handle)


def _link(source: Path, target: Path) -> os.stat_result:
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        # The cache is verified at each use, so that an edit of the link harms nobody else.
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(target)
    return target.stat()
