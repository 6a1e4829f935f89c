"""A recorded environment, made anew: a virtual environment with the recorded distributions and nothing else.

A distribution that is installed here with the recorded digest is taken from here, each of its files held against the
SHA-256 in its `RECORD`, so that a file somebody edited in place is found. Whatever is not here is installed by uv from
the package index, in the recorded version and without its dependencies, for the record names these too.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from everline.runs.environment import (
    Distribution,
    Environment,
    capture_environment,
    distribution_folders,
    installed_distributions,
)
from everline.runs.uv import EnvironmentUnavailableError, find_uv, run_uv

_OTHER_PATHS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


def search_path(python: str, variables: Mapping[str, str]) -> list[str]:
    """Where a Python process with these environment variables looks for modules."""
    code = "import json, sys; print(json.dumps(sys.path[1:]))"
    done = subprocess.run([python, "-c", code], env=dict(variables), capture_output=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def is_here(recorded: Environment, paths: Sequence[str]) -> bool:
    """Whether a search path holds the recorded distributions, and this is the recorded Python."""
    software = (recorded.python, recorded.implementation, list(recorded.distributions))
    here = (platform.python_version(), platform.python_implementation(), installed_distributions(list(paths)))
    return software == here


def make(
    recorded: Environment, directory: Path, *, paths: Sequence[str], watch: Callable[[str], None] = lambda _: None
) -> Path:
    """Make a virtual environment of what was recorded.

    Args:
        directory: does not exist yet.
        paths: where to look for distributions that are here already.

    Returns:
        Its Python.

    Raises:
        EnvironmentUnavailableError: a distribution is neither here nor on the index, a file of it was edited, or uv is
            needed and missing.
    """
    python = _create(recorded, directory)
    site = Path(_ask(python, "import sysconfig; print(sysconfig.get_path('purelib'))"))
    here = {one.name: one for one in installed_distributions(list(paths))}
    folders = distribution_folders(list(paths))
    kept = {d.name for d in recorded.distributions if d.digest is not None and here.get(d.name) == d} & folders.keys()
    missing = [one for one in recorded.distributions if one.name not in kept]
    if missing:  # first, for it may not succeed
        watch(f"installing {len(missing)} distributions that are not here as recorded")
        _install(missing, python)
    for one in recorded.distributions:
        if one.name in kept:
            _take(one, importlib.metadata.PathDistribution(folders[one.name]), site)
    return python


def as_required(here: Environment, requirements: Sequence[str], python: str | None) -> Environment:
    """The environment that is here, with the required versions in place of its own: what a model's record allows.

    Args:
        requirements: `name==version`, normalised names.
        python: the required Python, in as many parts as were recorded, or None.

    Returns:
        `here` itself if it meets them all.
    """
    found = {one.name: one for one in here.distributions}
    for pin in requirements:
        name, _, version = pin.partition("==")
        # The client alone is the same code as the whole of MLflow, of one version.
        is_client = name == "mlflow" and name not in found and "mlflow-skinny" in found
        name = "mlflow-skinny" if is_client else name
        if name not in found or found[name].version != version:
            found[name] = Distribution(name=name, version=version)
    required = here.python if python is None or f"{here.python}.".startswith(f"{python}.") else python
    kept = tuple(found[name] for name in sorted(found))
    if kept == here.distributions and required == here.python:
        return here
    return msgspec.structs.replace(here, python=required, distributions=kept)


def environment_of(python: str, variables: Mapping[str, str]) -> Environment:
    """The environment of a process that this Python starts with these variables, as it would record it itself."""
    version = platform.python_version()
    if python != sys.executable:
        version = _ask(Path(python), "import platform; print(platform.python_version())")
    return capture_environment(variables, paths=search_path(python, variables), python=version)


def variables_for(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables for a process inside of a made environment: nothing leads to another one's modules."""
    return {name: value for name, value in variables.items() if name not in _OTHER_PATHS}


def _create(recorded: Environment, directory: Path) -> Path:
    python = directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (recorded.python, recorded.implementation) == (platform.python_version(), platform.python_implementation()):
        venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(directory)
    else:
        run_uv([find_uv(), "venv", "--quiet", "--python", recorded.python, str(directory)])
    return python


def _take(recorded: Distribution, found: importlib.metadata.Distribution, site: Path) -> None:
    """Put the files of a distribution that is here into another environment, each after a look at its digest."""
    for file in found.files or ():
        if file.is_absolute() or ".." in file.parts or file.suffix == ".pyc":
            continue  # scripts carry the path of their interpreter, and compiled files are made again
        source = Path(str(file.locate()))
        try:
            if file.hash is not None and file.hash.value != _digest(source, file.hash.mode):
                raise EnvironmentUnavailableError(
                    f"{recorded.name} {recorded.version}: {file} was edited after it was installed.",
                    hint=f"pip install --force-reinstall --no-deps {recorded.name}=={recorded.version}",
                )
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(source, target)
        except OSError as error:
            raise EnvironmentUnavailableError(f"{recorded.name} {recorded.version}: {file}: {error}") from error


def _digest(path: Path, mode: str) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, mode).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _install(missing: Sequence[Distribution], python: Path) -> None:
    local = [one for one in missing if one.editable]
    if local:
        names = ", ".join(f"{one.name} {one.version}" for one in local)
        raise EnvironmentUnavailableError(
            f"Installed from a folder when it was recorded, and not here as it was then: {names}.",
            hint="Check out the recorded commit of that folder and install it again, or run with --environment here.",
        )
    wanted = [f"{one.name}=={one.version}" for one in missing]
    run_uv([find_uv(), "pip", "install", "--quiet", "--no-deps", "--python", str(python), *wanted])


def _ask(python: Path, code: str) -> str:
    done = subprocess.run([str(python), "-c", code], capture_output=True, check=True, env=variables_for(os.environ))
    return done.stdout.decode().strip()
