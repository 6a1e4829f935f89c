"""Where tests keep their files: in memory, if the machine has a large enough file system there."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_SHARED = Path("/dev/shm")
_PREFIX = "everline-tests-"
_BYTES_MIN = 4 << 30


def use_memory() -> Path | None:
    """Let everything temporary of this process and its children lie in memory, unless `TMPDIR` says where.

    A suite that waits for a disk at every commit waits for its neighbours on the disk too. What tests kill
    dies as on a disk: the files outlive the process either way.

    Returns:
        The folder, to be removed when nobody wants to look at it; None if nothing was changed. What earlier
        processes left behind, because tests of theirs failed, is removed now.
    """
    if "TMPDIR" in os.environ or not os.access(_SHARED, os.W_OK):
        return None
    for old in _SHARED.glob(f"{_PREFIX}*"):
        if not Path(f"/proc/{old.name.removeprefix(_PREFIX)}").exists():
            shutil.rmtree(old, ignore_errors=True)
    if shutil.disk_usage(_SHARED).free < _BYTES_MIN:
        return None
    folder = _SHARED / f"{_PREFIX}{os.getpid()}"
    folder.mkdir(mode=0o711)  # PostgreSQL runs as another user in a folder below
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    return folder
