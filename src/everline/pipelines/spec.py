"""A step as the engine knows it: its function with its annotations and options, read once when it is declared."""

from __future__ import annotations

import inspect
import sys
import typing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from everline.errors import InvalidInputError
from everline.ids import check_name
from everline.pipelines.types import Environment, Resources
from everline.pipelines.values import RunContext

RETRIES_MAX = 100
WAIT_S_MAX = 3_600.0
TIMEOUT_S_MAX = 30 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a step is run.

    Attributes:
        cache: whether a result may be reused.
        effect: it changes the world outside; never cached, and left out when a run is rebuilt.
        retries: further attempts after a failure.
        retry_wait_s: pause before the first retry; doubled for each further one.
        timeout_s: an attempt that takes longer is stopped, and has failed; None for no limit.
        environment: a virtual environment of the step's own; None for that of the run.
        variables: environment variables whose values the result depends on; never secrets.
        files: files of the project that the step opens by itself, relative to the project's folder.
    """

    cache: bool = True
    effect: bool = False
    retries: int = 0
    retry_wait_s: float = 1.0
    timeout_s: float | None = None
    resources: Resources = field(default_factory=Resources)
    environment: Environment | None = None
    variables: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class StepSpec:
    """A function with what the engine must know about it.

    Attributes:
        hints: resolved annotation by parameter name, and `return`.
        context: name of the parameter that takes the `RunContext`, or None.
        signature: of what a pipeline passes: without the context.
    """

    function: Any
    name: str
    signature: inspect.Signature
    hints: dict[str, Any]
    context: str | None
    options: Options

    @property
    def cache(self) -> bool:
        """Whether a result may be reused."""
        return self.options.cache and not self.options.effect

    @property
    def effect(self) -> bool:
        """Whether it changes the world outside."""
        return self.options.effect

    @cached_property
    def outputs(self) -> tuple[Any, ...]:
        """The annotations of the returned values: several for a fixed tuple, else one."""
        hint = self.hints.get("return", Any)
        arguments = typing.get_args(hint)
        if typing.get_origin(hint) is tuple and arguments and arguments[-1] is not Ellipsis:
            return arguments
        return (hint,)

    @cached_property
    def address(self) -> str | None:
        """`module:qualified.name` under which another process finds the step; None if it cannot.

        It cannot if the step was made inside of a function, in a notebook, or in the script that was started.
        """
        module = getattr(self.function, "__module__", "") or ""
        path = self.function.__qualname__
        found: Any = sys.modules.get(module)
        if module == "__main__" or "<" in path or not is_importable(found):
            return None
        for name in path.split("."):
            found = getattr(found, name, None)
        return f"{module}:{path}" if getattr(found, "spec", None) is self else None


def is_importable(module: Any) -> bool:
    """Whether `import` in another process with the same search path gives this module."""
    spec = getattr(module, "__spec__", None)
    if spec is None or not spec.has_location:
        return False
    file = Path(spec.origin or "").resolve()
    parts = spec.name.split(".")
    file = file.parent if file.stem == "__init__" else file.with_suffix("")
    if file.parts[-len(parts) :] != tuple(parts):
        return False
    root = Path(*file.parts[: -len(parts)])
    return any(Path(entry or ".").resolve() == root for entry in sys.path)


def specify(function: Any, *, name: str | None, options: Options) -> StepSpec:
    """Read a step function's signature.

    Raises:
        InvalidInputError: an annotation is missing or unknown, or an option is out of range.
    """
    title = check_name(name or function.__name__, field="step")
    _check_options(title, options)
    signature = inspect.signature(function)
    hints = _hints(function, title)
    context = None
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise InvalidInputError(
                f"Step {title!r} has the parameter {parameter}, which cannot be recorded by name.",
                hint="Give every input of a step a name of its own.",
                field=parameter.name,
            )
        if parameter.name not in hints:
            raise InvalidInputError(
                f"Step {title!r} does not say what type its parameter {parameter.name!r} has.",
                hint=f"Annotate it, for example `{parameter.name}: el.Table`.",
                field=parameter.name,
            )
        if RunContext in (hints[parameter.name], *typing.get_args(hints[parameter.name])):
            context = parameter.name
    if "return" not in hints:
        raise InvalidInputError(
            f"Step {title!r} does not say what it returns.",
            hint="Annotate it, for example `-> el.Table`; a step that returns nothing says `-> None`.",
            field="return",
        )
    if context is not None:
        kept = [p for p in signature.parameters.values() if p.name != context]
        signature = signature.replace(parameters=kept)
    return StepSpec(function=function, name=title, signature=signature, hints=hints, context=context, options=options)


def _check_options(title: str, options: Options) -> None:
    if not 0 <= options.retries <= RETRIES_MAX or not 0 <= options.retry_wait_s <= WAIT_S_MAX:
        raise InvalidInputError(
            f"Step {title!r}: retries {options.retries} or retry_wait_s {options.retry_wait_s} is out of range.",
            hint="retries lies in 0 to 100, retry_wait_s in 0 to 3600.",
            field="retries",
        )
    if options.timeout_s is not None and not 0 < options.timeout_s <= TIMEOUT_S_MAX:
        raise InvalidInputError(
            f"Step {title!r}: timeout_s {options.timeout_s} is out of range.",
            hint="It lies above 0 and goes up to 30 days, in seconds.",
            field="timeout_s",
        )
    resources = options.resources
    if resources.cpus <= 0 or (resources.memory_mb is not None and resources.memory_mb <= 0):
        raise InvalidInputError(
            f"Step {title!r}: resources must be more than nothing, not {resources.cpus} CPUs and "
            f"{resources.memory_mb} MB.",
            field="resources",
        )


def _hints(function: Any, title: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, AttributeError) as error:
        raise InvalidInputError(
            f"An annotation of step {title!r} cannot be resolved: {error}.",
            hint="Import the type at the top of the module, not only for type checkers.",
        ) from None
