"""The environment of a model that answers in a process of its own: made of its lock by uv, once per lock.

Where what runs here has every pinned version already, it is this environment's Python that runs the model: the
process is its own all the same.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from everline.canonical import canonical_digest
from everline.models.requirements import installed_closure, parse_requirements
from everline.runs.uv import find_uv, install, made_whole, run_uv


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

    def make(folder: Path) -> None:
        run_uv([find_uv(), "venv", "--quiet", "--relocatable", "--clear", "--python", minor, str(folder)])
        install(lock, folder, python=folder / found.relative_to(target))

    made_whole(target, make)
    return str(found)


def is_here(pins: dict[str, str]) -> bool:
    """Whether every pinned version is installed where this runs."""
    return all(installed_closure(name).get(name) == version for name, version in pins.items())
