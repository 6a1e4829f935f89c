"""Pipelines as they are named on command lines: `module:pipeline`, found in a folder."""

from __future__ import annotations

import importlib
import linecache
import sys
from pathlib import Path

from everline.errors import EverlineError, InvalidInputError
from everline.pipelines.step import Pipeline


def named(pipeline: Pipeline | str, directory: Path | None) -> tuple[str, Pipeline]:
    """The address of a pipeline, and the pipeline."""
    if isinstance(pipeline, Pipeline):
        return f"{pipeline.function.__module__}:{pipeline.function.__name__}", pipeline
    return pipeline, find_pipeline(pipeline, directory=directory or Path.cwd())


def find_pipeline(address: str, *, directory: Path) -> Pipeline:
    """Import `module:pipeline`, looking in `directory` first.

    Raises:
        InvalidInputError: there is no such module or pipeline in it, or the module fails to import.
    """
    module_name, _, name = address.partition(":")
    if not module_name or not name:
        raise InvalidInputError(
            f"{address[:200]!r} is not a pipeline.", hint="Write `module:pipeline`, like flight_delay:flight_delay.",
            field="pipeline",
        )  # fmt: skip
    folder = str(directory.resolve())
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in (module_name, module_name.partition(".")[0]):
            raise InvalidInputError(
                f"There is no module {module_name!r} in {folder}.",
                hint="Run in the project's folder, or name it with --directory.",
                field="pipeline",
            ) from None
        if isinstance(error, EverlineError):
            raise
        raise InvalidInputError(
            f"Module {module_name!r} could not be imported: {type(error).__name__}: {error}.",
            hint=f"`python -c 'import {module_name}'` in {folder} shows where.",
            field="pipeline",
        ) from error
    found = getattr(module, name, None)
    if not isinstance(found, Pipeline):
        have = ", ".join(key for key, value in vars(module).items() if isinstance(value, Pipeline)) or "none"
        raise InvalidInputError(
            f"Module {module_name!r} has no pipeline {name!r}.", hint=f"Its pipelines: {have}.", field="pipeline"
        )
    return found


def forget_project(directory: Path) -> None:
    """Import the modules below a folder anew the next time: a worker lives longer than the code it runs.

    The folder is no longer searched either: the next project may have modules of the same names.
    """
    root = directory.resolve()
    sys.path[:] = [entry for entry in sys.path if entry != str(root)]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name != "__main__" and "site-packages" not in file and Path(file).resolve().is_relative_to(root):
            del sys.modules[name]
    importlib.invalidate_caches()
    linecache.checkcache()


def file_of(pipeline: Pipeline) -> Path:
    """Where its source lies."""
    file = getattr(sys.modules.get(pipeline.function.__module__), "__file__", None)
    return Path(file) if file else Path.cwd() / "interactive.py"
