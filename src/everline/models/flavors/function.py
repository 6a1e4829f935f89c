"""Plain Python functions: their source goes into the package, and runs only in a process of its own.

def late(columns):                    # a module of yours; name by name one numpy array
    return {"probability": 1 / (1 + np.exp(12 - columns["hour"]))}

build_package(PythonFunction(late), flavor="function", signature=…, out_dir=…)
"""

from __future__ import annotations

import ast
import inspect
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata as installed
from pathlib import Path
from typing import Any

from everline.errors import InvalidInputError
from everline.models.flavors.isolated import (
    check_written,
    compilable,
    from_files,
    load_model,
    to_files,
    write_isolated,
)
from everline.models.isolated.pickles import pickled_files
from everline.models.isolated.process import Limits
from everline.models.signature import Signature

__all__ = ["PythonFunction", "check_written", "compilable", "from_files", "load_model", "to_files", "write_model"]

CODE_FOLDER = "code"
CODE_BYTES_MAX = 64 << 20


@dataclass(frozen=True)
class PythonFunction:
    """A function that is a model.

    Attributes:
        function: takes a dictionary of numpy arrays, one per input; gives an array, or a dictionary of arrays.
        code: files and folders that it needs beside its own module, such as a table that it reads; no pickles.
        needs: distributions that it needs beyond those that its source imports.
    """

    function: Callable[[dict[str, Any]], Any]
    code: Sequence[Path] = ()
    needs: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)


def write_model(
    model: Any, signature: Signature, *, directory: Path, metadata: Mapping[str, Any], probe: Signature
) -> tuple[Signature, dict[str, Any]]:
    """Write the function's source and what goes with it; return the whole signature and the flavor's facts.

    Raises:
        InvalidInputError: it is no function at the top of a module, its code holds a pickle, or it does not answer.
        ModelFailedError: its process cannot load it.
    """
    wanted = model if isinstance(model, PythonFunction) else PythonFunction(model)
    source, entry = _source(wanted.function)
    folder = directory / CODE_FOLDER
    folder.mkdir()
    for path in (source, *wanted.code):
        _copy(path, folder)
    pickles = pickled_files(folder)
    if pickles:
        raise InvalidInputError(
            f"The function's code holds a pickle: {', '.join(pickles[:5])}.",
            hint="Keep what it needs as JSON, Parquet or numpy's .npy.",
            field="model",
        )
    return write_isolated(
        signature,
        directory=directory,
        probe=probe,
        kind="function",
        entry=entry,
        needs=("numpy", *_imported(folder), *wanted.needs),
        limits=wanted.limits,
        flavors={"everline_function": {"code": CODE_FOLDER, "entry": entry}},
    )


def _source(function: Any) -> tuple[Path, str]:
    """The file or folder with a function's source, and `module:function`."""
    name, module = getattr(function, "__qualname__", ""), getattr(function, "__module__", "")
    loaded = sys.modules.get(module)
    file = None if loaded is None else inspect.getsourcefile(loaded)
    if not inspect.isfunction(function) or "." in name or module == "__main__" or file is None:
        raise InvalidInputError(
            f"{name or function!r} cannot be packaged: it must be a function at the top of a module.",
            hint="Put it into a file of its own and import it from there; no lambda, method or notebook cell.",
            field="model",
        )
    path = Path(file)
    for _ in module.split(".")[1:]:
        path = path.parent
    top = path.parent / module.split(".")[0]
    return (top if "." in module or top.is_dir() else path), f"{module}:{name}"


def _copy(path: Path, folder: Path) -> None:
    path = Path(path)
    if path.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
        shutil.copytree(path, folder / path.name, ignore=ignored, symlinks=False)
    elif path.is_file():
        shutil.copyfile(path, folder / path.name)
    else:
        raise InvalidInputError(f"There is no file or folder {path}.", field="code")
    size = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
    if size > CODE_BYTES_MAX:
        raise InvalidInputError(f"The function's code takes {size} bytes; {CODE_BYTES_MAX} are allowed.", field="code")


def _imported(folder: Path) -> list[str]:
    """The distributions that sources import by name."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.partition(".")[0])
    known = installed.packages_distributions()
    return sorted({distribution for name in names for distribution in known.get(name, ())})
