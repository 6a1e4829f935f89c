"""Who drives a run, told so that another process on the same machine can see whether it is still there."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_driver() -> str:
    """`host:process:moment` of this process; the moment tells it from a later one of the same number."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def is_gone(driver: str) -> bool:
    """Whether a driver is known to be gone: it was a process of this machine, and is not there any more."""
    host, _, rest = driver.rpartition(":")[0].rpartition(":")
    moment = driver.rpartition(":")[2]
    if host != socket.gethostname() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _started(int(rest)) != moment


def _started(pid: int) -> str:
    """When a process started, in the kernel's clock ticks; empty where the kernel does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
