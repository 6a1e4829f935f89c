"""A rebuild's process: started apart from this one, stopped with all that it started, heard when it fails."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from everline.runs.environment import REDACTED, SECRET_NAME

if TYPE_CHECKING:
    from everline.sdk.syscalls import Supervisor

_OUTPUT_CHARS_MAX = 2_000
_SECRET_CHARS_MIN = 6


def run_process(
    command: Sequence[str],
    *,
    folder: Path,
    variables: Mapping[str, str],
    timeout_s: float,
    supervisor: Supervisor | None = None,
) -> str | None:
    """Run a command to its end.

    Args:
        supervisor: is told what it opens, where the kernel can.

    Returns:
        None, or in one sentence what went wrong, with the end of what it said.
    """
    process = subprocess.Popen(
        command if supervisor is None else supervisor.command(command),
        cwd=folder,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=() if supervisor is None else supervisor.descriptors,
    )
    if supervisor is not None:
        supervisor.started()
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        stop(process)
        return f"the rebuild took longer than {timeout_s:g} s and was stopped"
    except BaseException:
        stop(process)
        raise
    if process.returncode == 0:
        return None
    said = err.decode("utf-8", errors="replace").strip() or out.decode("utf-8", errors="replace")
    said = without_secrets(said.strip(), variables)[-_OUTPUT_CHARS_MAX:]
    return f"the rebuild ended with code {process.returncode}: {said}"


def without_secrets(said: str, variables: Mapping[str, str]) -> str:
    """What a process said, without the values of its secret variables: this ends up in a certificate."""
    for name, value in variables.items():
        if SECRET_NAME.search(name) and len(value) >= _SECRET_CHARS_MIN:
            said = said.replace(value, REDACTED)
    return said


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, and hear it to its end."""
    kill(process)
    process.communicate()


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session, and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
