"""uv, which makes virtual environments and installs into them."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from everline.errors import EverlineError

_OUTPUT_CHARS_MAX = 1_000
_INSTALL_TIMEOUT_S = 3_600.0
# What pip is told about indexes, in uv's words.
_INDEX_VARIABLES = {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL": "UV_INDEX"}


class EnvironmentUnavailableError(EverlineError):
    """A recorded environment cannot be made here."""

    code = "environment_unavailable"
    status = 422


def find_uv() -> str:
    """Where uv is.

    Raises:
        EnvironmentUnavailableError: it is not installed.
    """
    if importlib.util.find_spec("uv") is not None:
        return str(importlib.import_module("uv").find_uv_bin())
    found = shutil.which("uv")
    if found is None:
        raise EnvironmentUnavailableError(
            "What was recorded is not installed here, and uv, which would install it, is missing.",
            hint="pip install 'everline[uv]'",
        )
    return found


def run_uv(command: Sequence[str], *, stdin: str = "") -> str:
    """Run uv, with pip's indexes; return what it prints.

    Raises:
        EnvironmentUnavailableError: it failed; the message is uv's own.
    """
    variables = dict(os.environ)
    for theirs, ours in _INDEX_VARIABLES.items():
        if variables.get(theirs) and not variables.get(ours):
            variables[ours] = variables[theirs]
    try:
        done = subprocess.run(
            command, env=variables, capture_output=True, check=False, timeout=_INSTALL_TIMEOUT_S, input=stdin.encode()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentUnavailableError(f"uv did not install what was recorded: {error}") from error
    if done.returncode != 0:
        said = " ".join(done.stderr.decode("utf-8", errors="replace").split())[-_OUTPUT_CHARS_MAX:]
        raise EnvironmentUnavailableError(f"uv could not install what was recorded: {said}")
    return done.stdout.decode()


def install(lock: str, folder: Path, *, python: Path) -> None:
    """Install exactly what a lock names into the environment in a folder, which keeps the lock.

    Args:
        lock: lines `name==version`, all that is needed.
        python: the environment's interpreter.

    Raises:
        EnvironmentUnavailableError: uv is missing, or could not install a line.
    """
    listed = folder / "requirements.txt"
    listed.write_text(lock)
    run_uv([find_uv(), "pip", "install", "--quiet", "--no-deps", "--python", str(python), "-r", str(listed)])


def made_whole(target: Path, make: Callable[[Path], None]) -> None:
    """Let a folder appear whole under its name, if it is not there; of several processes the first one's stays.

    Args:
        make: fills a new folder beside it; what it leaves behind when it fails is removed.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    try:
        make(making)
        making.rename(target)
    except OSError:
        if not target.exists():  # another process was first
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
