"""The environment of a model that answers in a process of its own: made of its lock by uv, once per lock.

Where what runs here has every pinned version already, it is this environment's Python that runs the model: the
process is its own all the same.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from everline.canonical import canonical_digest
from everline.models.requirements import installed_closure, parse_requirements
from everline.runs.uv import find_uv, run_uv


def python_for(requirements: str, *, python: str) -> str:
    """The interpreter of an environment with these pins, which is made if it is not there.

    Args:
        requirements: lines `name==version`.
        python: version of Python that the model was packaged with, such as `3.11.7`.

    Raises:
        EnvironmentUnavailableError: uv is missing, or could not install a line.
    """
    pins = parse_requirements(requirements)
    minor = ".".join(python.split(".")[:2])
    if minor == ".".join(platform.python_version_tuple()[:2]) and is_here(pins):
        return sys.executable
    lock = "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "everline" / "environments"
    target = home / canonical_digest({"lock": lock, "python": minor}).removeprefix("sha256:")[:32]
    found = target / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if found.exists():
        return str(found)
    home.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=home))
    try:
        run_uv([find_uv(), "venv", "--quiet", "--relocatable", "--clear", "--python", minor, str(making)])
        listed = making / "requirements.txt"
        listed.write_text(lock)
        python_here = str(making / found.relative_to(target))
        run_uv([find_uv(), "pip", "install", "--quiet", "--no-deps", "--python", python_here, "-r", str(listed)])
        making.rename(target)
    except OSError:
        if not found.exists():  # another process was first
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return str(found)


def is_here(pins: dict[str, str]) -> bool:
    """Whether every pinned version is installed where this runs."""
    return all(installed_closure(name).get(name) == version for name, version in pins.items())
