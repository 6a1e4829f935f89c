"""`@el.step`, `@el.pipeline` and `el.dataset`: how people write pipelines; `calls` has what shapes a graph.

    @el.step
    def double(value: int) -> int:
        return 2 * value

    @el.pipeline
    def twice(value: int = 1) -> int:
        return double(double(value))

A step called outside a pipeline is the plain function it was, so that it can be tested like one.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

import msgspec

from everline.errors import InvalidInputError
from everline.ids import check_name
from everline.pipelines.annotations import fits, show
from everline.pipelines.graph import DatasetRef, Graph, Ref, build, check_argument, current
from everline.pipelines.spec import Options, StepSpec, specify
from everline.pipelines.types import Environment, Resources
from everline.pipelines.values import Table

P = ParamSpec("P")
R = TypeVar("R")
VERSIONS_MAX = 10_000
ORDINARY = Resources()


class Step(Generic[P, R]):
    """A typed function that becomes a node when a pipeline calls it."""

    def __init__(self, function: Callable[P, R], spec: StepSpec) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.spec = spec

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        graph = current()
        if graph is None:
            return self.function(*args, **kwargs)
        return cast(R, graph.add(self.spec, args, kwargs))

    def __repr__(self) -> str:
        return f"<step {self.spec.name}>"


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    cache: bool = True,
    effect: bool = False,
    retries: int = 0,
    retry_wait_s: float = 1.0,
    timeout_s: float | None = None,
    resources: Resources = ORDINARY,
    environment: Environment | None = None,
    variables: Sequence[str] = (),
    files: Sequence[str] = (),
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    cache: bool = True,
    effect: bool = False,
    retries: int = 0,
    retry_wait_s: float = 1.0,
    timeout_s: float | None = None,
    resources: Resources = ORDINARY,
    environment: Environment | None = None,
    variables: Sequence[str] = (),
    files: Sequence[str] = (),
) -> Step[P, R] | Callable[[Callable[P, R]], Step[P, R]]:
    """Make a step of a plain function with annotated parameters and result.

    Args:
        name: what the step is called in records; the function's name if not given.
        cache: reuse the result of any earlier step with the same key.
        effect: the step changes the world outside, such as one that tells somebody: it is never cached, and
            left out when a run is rebuilt.
        retries: further attempts after a failure, 0 to 100.
        retry_wait_s: pause before the first retry, doubled for each further one, at most an hour.
        timeout_s: an attempt that takes longer is stopped, and has failed.
        resources: what the step asks for.
        environment: a locked virtual environment of the step's own, made when it is first needed.
        variables: environment variables whose values the result depends on: they count in the step key, as they are
            where the run is started. Secrets are no variables: pass `el.secret(NAME)`.
        files: files that the step opens by itself, relative to the project's folder: they count by content.

    Raises:
        InvalidInputError: an annotation is missing or an option is out of range.
    """
    options = Options(
        cache=cache, effect=effect, retries=retries, retry_wait_s=retry_wait_s, timeout_s=timeout_s,
        resources=resources, environment=environment, variables=tuple(variables), files=tuple(files),
    )  # fmt: skip

    def decorate(target: Callable[P, R]) -> Step[P, R]:
        return Step(target, specify(target, name=name, options=options))

    return decorate if function is None else decorate(function)


class Pipeline:
    """A function whose step calls make a graph; run it with `everline run` or `client.pipelines.run`."""

    def __init__(self, function: Callable[..., Any], *, name: str) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.signature = inspect.signature(function)
        self.hints = typing.get_type_hints(function)

    def build(self, **parameters: Any) -> Graph:
        """Check the parameters and return the graph; nothing runs.

        Raises:
            InvalidInputError: a parameter is unknown, missing or of the wrong type, or an edge does not fit.
        """
        graph = build(self.function, self.name, self.bind(parameters))
        self._check_result(graph.result)
        return graph

    def _check_result(self, result: Any) -> None:
        wanted = self.hints.get("return", Any)
        if result is None and wanted not in (Any, None, type(None)) and not fits(type(None), wanted):
            raise InvalidInputError(
                f"Pipeline {self.name!r} says that it returns {show(wanted)}, and returns nothing.",
                hint="Return the result of a step, or annotate `-> None`.",
                field="return",
            )
        if isinstance(result, Ref) and not fits(result.type, wanted):
            raise InvalidInputError(
                f"Pipeline {self.name!r} says that it returns {show(wanted)}, but {result} gives {show(result.type)}.",
                hint="Change one of the two annotations.",
                field="return",
            )

    def bind(self, parameters: dict[str, Any], *, strict: bool = True) -> dict[str, Any]:
        """All parameters with their defaults, checked; with `strict` off, text is read as the annotated type."""
        unknown = sorted(set(parameters) - set(self.signature.parameters))
        if unknown:
            known = ", ".join(self.signature.parameters) or "none"
            raise InvalidInputError(
                f"Pipeline {self.name!r} has no parameter {unknown[0]!r}.", hint=f"It has {known}.", field=unknown[0]
            )
        bound: dict[str, Any] = {}
        for name, parameter in self.signature.parameters.items():
            if name not in parameters and parameter.default is parameter.empty:
                raise InvalidInputError(
                    f"Pipeline {self.name!r} needs a value for its parameter {name!r}.",
                    hint=f"Give it with `--param {name}=…`.",
                    field=name,
                )
            value = parameters.get(name, parameter.default)
            bound[name] = self._convert(name, value, strict=strict)
        return bound

    def _convert(self, name: str, value: Any, *, strict: bool) -> Any:
        wanted = self.hints.get(name, Any)
        if not strict and isinstance(value, str) and wanted is not str and value[:1] in "[{":
            value = _json(name, value)
        try:
            return msgspec.convert(value, wanted, strict=strict)
        except msgspec.ValidationError as error:
            raise InvalidInputError(
                f"Parameter {name!r} of pipeline {self.name!r} must be {show(wanted)}: {error}.", field=name
            ) from None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        graph = current()
        if graph is not None:
            return self._within(graph, args, kwargs)
        raise InvalidInputError(
            f"Pipeline {self.name!r} was called like a function, so nothing would be recorded.",
            hint=f"Run it with `everline run MODULE:{self.name}` or `Client().pipelines.run({self.name})`.",
        )

    def _within(self, graph: Graph, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Called by another pipeline: its steps become a part of that one's graph."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidInputError(
                f"Pipeline {self.name!r} cannot be called like this: {error}.", field=self.name
            ) from None
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            check_argument(f"Pipeline {self.name!r}", name, self.hints.get(name, Any), value)
        with graph.within(self.name):
            result = self.function(*bound.args, **bound.kwargs)
        self._check_result(result)
        return result

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"


def _json(name: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"Parameter {name!r} is not JSON: {error}.", field=name) from None


@overload
def pipeline(function: Callable[..., Any], /) -> Pipeline: ...
@overload
def pipeline(*, name: str | None = None) -> Callable[[Callable[..., Any]], Pipeline]: ...
def pipeline(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None
) -> Pipeline | Callable[[Callable[..., Any]], Pipeline]:
    """Make a pipeline of a function that calls steps; its parameters are those of a run."""

    def decorate(target: Callable[..., Any]) -> Pipeline:
        return Pipeline(target, name=check_name(name or target.__name__, field="pipeline"))

    return decorate if function is None else decorate(function)


def dataset(
    name: str, version: str | int | Sequence[str | int] | None = None, *, contract: int | bool | None = None
) -> Table:
    """Stand for a dataset's rows inside a pipeline; each version's digest is recorded as an input of the run.

    Args:
        name: the dataset.
        version: number or label of one version, a list of them (their rows follow each other), a range of
            labels such as `"2013-01..2013-03"`, or None for the newest version when the run starts.
        contract: the dataset's contract that the pipeline relies on: its number, or True for the newest. A version
            that breaks it is refused before the run starts.

    Raises:
        InvalidInputError: called outside a pipeline, or with no or too many versions.
    """
    if current() is None:
        raise InvalidInputError(
            f"el.dataset({name!r}) was called outside a pipeline.",
            hint="Inside a `@el.pipeline` function it stands for the rows; elsewhere use `Client().datasets.table`.",
        )
    versions = () if version is None else (version,) if isinstance(version, str | int) else tuple(version)
    if (version is not None and not versions) or len(versions) > VERSIONS_MAX:
        raise InvalidInputError(
            f"Dataset {name!r} was asked for {len(versions)} versions.",
            hint=f"Ask for 1 to {VERSIONS_MAX}.",
            field="version",
        )
    return cast(Table, DatasetRef(check_name(name, field="dataset"), versions, contract))
