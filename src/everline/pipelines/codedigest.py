"""The digest of a step's code: its own and that of every project function, class and constant it reaches.

Names are resolved the way Python does, from the function's globals and closure, and followed as long as
they lead to code below the project's root. What lies outside (libraries, Everline itself) is covered by
the environment's digest instead. Code is compared as syntax trees, so comments, formatting and docstrings
do not count; a step's own decorator does not either, for retries change no result.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from everline.canonical import canonical_json
from everline.ids import digest_bytes
from everline.loader import load
from everline.pipelines.step import Pipeline, Step

_ROOT_MARKS = ("everline.toml", "pyproject.toml", ".git")
_OUTSIDE = {"site-packages", "dist-packages"}
_OWN = Path(__file__).resolve().parents[1]
PARTS_MAX = 5_000


@dataclass(frozen=True)
class CodeDigest:
    """The digest of all parts, and of each part by its qualified name."""

    digest: str
    parts: dict[str, str]


def project_root(file: Path) -> Path:
    """The folder whose code is the user's: the nearest one above `file` with a project's mark, else its own."""
    folder = file.resolve().parent
    if folder.is_relative_to(_OWN):
        return folder  # a pipeline of Everline's own, which the environment names; nobody's project is around it
    for candidate in (folder, *folder.parents):
        if candidate.name == ".everline" or (candidate / "everline.db").exists():
            break  # an Everline home is nobody's source code, and what lies around it is another project
        if any((candidate / mark).exists() for mark in _ROOT_MARKS):
            return candidate
    return folder


def code_digest(function: Any, *, root: Path) -> CodeDigest:
    """Digest a function with everything of the project that it reaches.

    Args:
        function: a step or plain function.
        root: the project's folder; code outside is not followed.
    """
    walk = _Walk(root.resolve(), home=_module_of(_plain(function)))
    walk.add(_plain(function))
    parts = dict(sorted(walk.parts.items()))
    return CodeDigest(digest_bytes(canonical_json(parts)), parts)


def _plain(value: Any) -> Any:
    while isinstance(value, Step | Pipeline):
        value = value.function
    return inspect.unwrap(value) if callable(value) else value


def _module_of(value: Any) -> str:
    return getattr(value, "__module__", None) or ""


@dataclass
class _Walk:
    root: Path
    home: str
    parts: dict[str, str] = field(default_factory=dict)

    def add(self, value: Any, label: str = "") -> None:
        """Add a value that project code names, and what it reaches in turn."""
        value = _plain(value)
        if isinstance(value, functools.partial):
            self.add(value.func)
            for number, argument in enumerate((*value.args, *value.keywords.values())):
                self.add(argument, f"{label}.{number}")
        elif isinstance(value, FunctionType | type):
            self._code(value)
        elif label and not isinstance(value, ModuleType):
            self._put(label, _constant(value))

    def _code(self, value: FunctionType | type) -> None:
        name = value.__qualname__
        if not self._is_project(value):
            return
        tree = _tree(value)
        if tree is None:
            code = getattr(value, "__code__", None)
            self._put(name, repr((code.co_code, code.co_consts, code.co_names)) if code else name)
            return
        if not self._put(name, ast.dump(tree)):
            return
        for function in _functions(value):
            scope = _Scope(function)
            for chain in _names(tree):
                self._follow(chain, scope, value)
            self._local_imports(tree)
            for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
                if callable(default):
                    self.add(default)
        if isinstance(value, type):
            for base in value.__bases__:
                self._code(base)

    def _local_imports(self, tree: ast.AST) -> None:
        """Imports inside a function count too, when they lead into the project."""
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                module = self._project_module(node.module)
                for alias in node.names if module else ():
                    self.add(getattr(module, alias.name, None), f"{node.module}.{alias.name}")
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    module = self._project_module(alias.name)
                    if module is not None:
                        self._put(alias.name, _module_source(module))

    def _project_module(self, name: str) -> ModuleType | None:
        spec = importlib.util.find_spec(name.partition(".")[0])  # finds without importing
        path = Path(spec.origin) if spec and spec.origin and spec.has_location else None
        if path is None or _OUTSIDE & set(path.parts) or not path.resolve().is_relative_to(self.root):
            return None
        return None if name.partition(".")[0] == "everline" else load(name)

    def _follow(self, chain: tuple[str, ...], scope: _Scope, owner: Any) -> None:
        found, known = scope.get(chain[0])
        if not known:
            return
        label, home = chain[0], sys.modules.get(_module_of(owner))
        for attribute in chain[1:]:
            if not isinstance(found, ModuleType) or not self._is_project_module(found):
                break
            if not hasattr(found, attribute):
                return
            home = found
            found, label = getattr(found, attribute), f"{label}.{attribute}"
        if isinstance(found, ModuleType):
            if self._is_project_module(found):
                self._put(label, _module_source(found))
            return
        plain = _plain(found)
        if isinstance(plain, FunctionType | type | functools.partial):
            self.add(plain, label)
            return
        can_change = isinstance(plain, list | dict | set) or not _is_constant(plain)
        if can_change and self._assignment(label, home, owner):
            return
        if _is_constant(plain):
            self._put(label, _constant(plain))

    def _assignment(self, label: str, module: ModuleType | None, owner: Any) -> bool:
        """An object that can change, or is no plain constant, counts as the expression that made it.

        Its content is the state of a run, not code: a key that follows it would never be found again.
        """
        expression = _assigned(module, label.rpartition(".")[2]) if module else None
        if expression is None:
            return False
        if self._put(label, ast.dump(expression)):
            scope = _Scope.of_module(module)
            for chain in _names(expression):
                self._follow(chain, scope, owner)
        return True

    def _put(self, name: str, content: str) -> bool:
        """Keep a part; False if it is already there, so that recursion ends."""
        digest = digest_bytes(content.encode())
        if self.parts.get(name) == digest or len(self.parts) >= PARTS_MAX:
            return False
        if name in self.parts:  # another thing of the same name, from another module
            return self._put(f"{name}'", content)
        self.parts[name] = digest
        return True

    def _is_project(self, value: Any) -> bool:
        name = _module_of(value)
        module = sys.modules.get(name)
        return name == self.home or (module is not None and self._is_project_module(module))

    def _is_project_module(self, module: ModuleType) -> bool:
        if module.__name__ == self.home:
            return True
        file = getattr(module, "__file__", None)
        if file is None or module.__name__.partition(".")[0] == "everline":
            return False
        path = Path(file)
        return not _OUTSIDE & set(path.parts) and path.resolve().is_relative_to(self.root)


class _Scope:
    """What a function's names mean."""

    def __init__(self, function: FunctionType | None, names: dict[str, Any] | None = None) -> None:
        self._globals = names if names is not None else getattr(function, "__globals__", {})
        self._closure: dict[str, Any] = {}
        code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
        self._local = frozenset(code.co_varnames) | frozenset(code.co_cellvars) if code else frozenset()
        if code is not None and cells:
            for name, cell in zip(code.co_freevars, cells, strict=True):
                try:
                    self._closure[name] = cell.cell_contents
                except ValueError:  # a cell that is still empty
                    continue

    @classmethod
    def of_module(cls, module: ModuleType | None) -> _Scope:
        return cls(None, vars(module) if module else {})

    def get(self, name: str) -> tuple[Any, bool]:
        if name in self._local:
            return None, False
        if name in self._closure:
            return self._closure[name], True
        return self._globals.get(name), name in self._globals


def _functions(value: FunctionType | type) -> Iterator[FunctionType]:
    if isinstance(value, FunctionType):
        yield value
        return
    for member in vars(value).values():
        target = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
        if isinstance(target, FunctionType):
            yield target


@functools.lru_cache(maxsize=4096)
def _tree(value: Any) -> ast.AST | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    except (OSError, TypeError, SyntaxError):  # a lambda in the middle of a line, or code without a file
        return None
    return _stripped(tree, drop_decorators=True)


def _stripped(tree: ast.AST, *, drop_decorators: bool = False) -> ast.AST:
    """Take docstrings away, and the outermost step decorator."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module
        ):
            continue
        first = body[0] if body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = body[1:]
        if drop_decorators and isinstance(node, ast.FunctionDef):
            node.decorator_list = [d for d in node.decorator_list if not _is_step_mark(d)]
    return tree


def _is_step_mark(decorator: ast.expr) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
    return name in ("step", "pipeline")


def _names(tree: ast.AST) -> list[tuple[str, ...]]:
    """Every name that is read, with the attributes that follow it: `stats.mean` is ("stats", "mean")."""
    found: dict[tuple[str, ...], None] = {}
    inner: set[int] = set()
    for node in ast.walk(tree):
        if id(node) in inner:
            continue
        chain: list[str] = []
        target: ast.AST = node
        while isinstance(target, ast.Attribute):
            chain.append(target.attr)
            target = target.value
            inner.add(id(target))
        if isinstance(target, ast.Name):
            found[(target.id, *reversed(chain))] = None
    return list(found)


def _assigned(module: ModuleType, name: str) -> ast.expr | None:
    tree = _module_tree(module)
    for node in getattr(tree, "body", []):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return getattr(node, "value", None)
    return None


@functools.lru_cache(maxsize=512)
def _module_tree(module: ModuleType) -> ast.AST | None:
    try:
        return _stripped(ast.parse(inspect.getsource(module)))
    except (OSError, TypeError, SyntaxError):
        return None


def _module_source(module: ModuleType) -> str:
    tree = _module_tree(module)
    return ast.dump(tree) if tree is not None else module.__name__


def _is_constant(value: Any) -> bool:
    if isinstance(value, list | tuple | set | frozenset):
        return all(_is_constant(item) for item in value)
    if isinstance(value, dict):
        return all(_is_constant(item) for pair in value.items() for item in pair)
    return value is None or isinstance(value, bool | int | float | complex | str | bytes | Path)


def _constant(value: Any) -> str:
    if isinstance(value, set | frozenset):
        return f"set({sorted(map(_constant, value))})"
    if isinstance(value, dict):
        return f"dict({sorted((_constant(key), _constant(item)) for key, item in value.items())})"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({[_constant(item) for item in value]})"
    if _is_constant(value):
        return repr(value)
    return f"{type(value).__module__}.{type(value).__qualname__}"
