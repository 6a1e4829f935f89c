"""The graph of a pipeline: built by calling its function, checked before anything runs.

Inside a pipeline function a step call does not run the step. It adds a node and answers a `Ref`, a
placeholder that the next call takes as an argument; the annotations at both ends must fit.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from everline.errors import EverlineError, InvalidInputError
from everline.ids import check_name
from everline.pipelines.types import Resources, ValueRef
from everline.pipelines.values import RunContext

_TABLES = {
    ("everline.pipelines.values", "Table"),
    ("pyarrow.lib", "Table"),
    ("pandas", "DataFrame"),
    ("pandas.core.frame", "DataFrame"),
    ("pandas.DataFrame", "DataFrame"),
    ("polars.dataframe.frame", "DataFrame"),
    ("polars", "DataFrame"),
}
NODES_MAX = 100_000


@dataclass(frozen=True, kw_only=True)
class StepSpec:
    """A function with what the engine must know about it.

    Attributes:
        hints: resolved annotation by parameter name, and `return`.
        context: name of the parameter that takes the `RunContext`, or None.
        cache: whether a result may be reused.
        effect: it changes the world outside; never cached, and left out when a run is rebuilt.
        retries: further attempts after a failure.
        retry_wait_s: pause before the first retry; doubled for each further one.
    """

    function: Any
    name: str
    signature: inspect.Signature
    hints: dict[str, Any]
    context: str | None
    cache: bool
    effect: bool
    retries: int
    retry_wait_s: float
    resources: Resources

    @property
    def outputs(self) -> tuple[Any, ...]:
        """The annotations of the returned values: several for a fixed tuple, else one."""
        hint = self.hints.get("return", Any)
        arguments = typing.get_args(hint)
        if typing.get_origin(hint) is tuple and arguments and arguments[-1] is not Ellipsis:
            return arguments
        return (hint,)


def specify(
    function: Any,
    *,
    name: str | None,
    cache: bool,
    effect: bool,
    retries: int,
    retry_wait_s: float,
    resources: Resources,
) -> StepSpec:
    """Read a step function's signature.

    Raises:
        InvalidInputError: an annotation is missing or unknown, or an option is out of range.
    """
    title = check_name(name or function.__name__, field="step")
    if not 0 <= retries <= 100 or not 0 <= retry_wait_s <= 3600:
        raise InvalidInputError(
            f"Step {title!r}: retries {retries} or retry_wait_s {retry_wait_s} is out of range.",
            hint="retries lies in 0 to 100, retry_wait_s in 0 to 3600.",
            field="retries",
        )
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
            hint="Annotate it, for example `-> el.Table`.",
            field="return",
        )
    return StepSpec(
        function=function, name=title, signature=signature, hints=hints, context=context,
        cache=cache and not effect, effect=effect, retries=retries, retry_wait_s=retry_wait_s, resources=resources,
    )  # fmt: skip


def _hints(function: Any, title: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, AttributeError) as error:
        raise InvalidInputError(
            f"An annotation of step {title!r} cannot be resolved: {error}.",
            hint="Import the type at the top of the module, not only for type checkers.",
        ) from None


@dataclass(frozen=True)
class DatasetRef:
    """Versions of a dataset as one table, in the given order.

    Attributes:
        versions: version numbers or labels; empty means the newest. `"2013-01..2013-03"` is the range of all
            labels from one to the other, in the order of the versions.
        contract: the contract that every version must keep: its number, True for the newest, None for none.
    """

    name: str
    versions: tuple[str | int, ...] = ()
    contract: int | bool | None = None

    def __str__(self) -> str:
        return f"dataset {self.name!r}"


@dataclass(frozen=True)
class Kept:
    """A result of an earlier run, taken as it is."""

    ref: ValueRef


@dataclass(frozen=True)
class Ref:
    """The result of a step that has not run yet."""

    node: Node
    index: int
    type: Any

    def __iter__(self) -> Iterator[Ref]:
        outputs = self.node.spec.outputs
        if len(outputs) == 1:
            raise InvalidInputError(
                f"Step {self.node.name!r} returns one value; it cannot be taken apart while the graph is built.",
                hint="Annotate a fixed tuple, such as `-> tuple[el.Table, el.Table]`, or take it apart in a step.",
            )
        return (Ref(self.node, index, type_) for index, type_ in enumerate(outputs))

    def __bool__(self) -> bool:
        raise InvalidInputError(
            f"The result of step {self.node.name!r} is not known while the graph is built, so no `if` can ask for it.",
            hint="Decide inside a step, or on a parameter of the pipeline.",
        )

    def __str__(self) -> str:
        return f"step {self.node.name!r}"


@dataclass(eq=False)
class Node:
    """One call of one step; `inputs` holds constants, refs, dataset refs, and lists or dicts of them."""

    spec: StepSpec
    name: str
    position: int
    inputs: dict[str, Any]

    def refs(self) -> Iterator[Ref | DatasetRef]:
        """Every placeholder among the inputs."""
        for value in self.inputs.values():
            yield from _refs(value)


def _refs(value: Any) -> Iterator[Ref | DatasetRef]:
    if isinstance(value, Ref | DatasetRef):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _refs(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _refs(item)


@dataclass
class Graph:
    """Nodes in the order of their calls, so that each comes after everything it needs."""

    pipeline: str
    parameters: dict[str, Any] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    result: Any = None
    _names: dict[str, int] = field(default_factory=dict)

    def add(self, spec: StepSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ref:
        """Add a call of a step.

        Raises:
            InvalidInputError: an argument is missing, unknown, or of a type that does not fit.
        """
        if len(self.nodes) >= NODES_MAX:
            raise InvalidInputError(f"Pipeline {self.pipeline!r} has more than {NODES_MAX} steps.")
        inputs = _bind(spec, args, kwargs)
        for name, value in inputs.items():
            _check(spec, name, value)
        count = self._names.get(spec.name, 0) + 1
        self._names[spec.name] = count
        node = Node(spec, spec.name if count == 1 else f"{spec.name}-{count}", len(self.nodes), inputs)
        self.nodes.append(node)
        return Ref(node, 0, spec.hints.get("return", Any))


_building: ContextVar[Graph | None] = ContextVar("everline_graph", default=None)


def current() -> Graph | None:
    """The graph that is being built here, if any."""
    return _building.get()


def build(function: Any, name: str, parameters: dict[str, Any]) -> Graph:
    """Call a pipeline function with its parameters and return the graph of its step calls.

    Raises:
        InvalidInputError: the graph has no step, an edge does not fit, or the result is not of the graph.
    """
    graph = Graph(name, dict(parameters))
    token = _building.set(graph)
    try:
        graph.result = function(**parameters)
    except EverlineError:
        raise
    except Exception as error:
        raise InvalidInputError(
            f"Pipeline {name!r} failed while its graph was built: {type(error).__name__}: {error}.",
            hint="A pipeline function only calls steps; work on their results inside a step.",
        ) from error
    finally:
        _building.reset(token)
    if not graph.nodes:
        raise InvalidInputError(f"Pipeline {name!r} calls no step.", hint="Call functions that carry `@el.step`.")
    return graph


def _bind(spec: StepSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    signature = spec.signature
    if spec.context is not None:
        kept = [p for p in signature.parameters.values() if p.name != spec.context]
        signature = signature.replace(parameters=kept)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidInputError(f"Step {spec.name!r} cannot be called like this: {error}.", field=spec.name) from None
    bound.apply_defaults()
    return dict(bound.arguments)


def _check(spec: StepSpec, name: str, value: Any) -> None:
    wanted = spec.hints[name]
    if isinstance(value, Ref | DatasetRef):
        given = Any if isinstance(value, DatasetRef) and is_table(wanted) else _type_of(value)
        if not fits(given, wanted):
            raise InvalidInputError(
                f"Step {spec.name!r} takes {name}: {show(wanted)}, but {value} gives {show(given)}.",
                hint="Change one of the two annotations, or put a step between them.",
                field=name,
            )
        return
    if any(True for _ in _refs(value)) or wanted is Any:
        return
    if isinstance(wanted, type) and not _is_jsonish(wanted):
        if isinstance(value, wanted):
            return
        problem = f"got {type(value).__name__}"
    else:
        try:
            msgspec.convert(msgspec.to_builtins(value), wanted)
            return
        except (msgspec.ValidationError, TypeError) as error:
            problem = str(error)
    raise InvalidInputError(
        f"Step {spec.name!r} takes {name}: {show(wanted)}, but was given {value!r:.80}: {problem}.",
        hint="Pass a value of that type, or a result of another step.",
        field=name,
    )


def _is_jsonish(wanted: type) -> bool:
    simple = (bool, int, float, str, bytes, list, dict, tuple, set, frozenset, type(None))
    return wanted in simple or hasattr(wanted, "__struct_fields__") or wanted is Path


def _type_of(value: Ref | DatasetRef) -> Any:
    if isinstance(value, DatasetRef):
        return _TableOfDataset
    return value.type


class _TableOfDataset:
    """What a dataset gives when it is read."""


_TableOfDataset.__qualname__ = "Table"
_TableOfDataset.__module__ = "everline.pipelines.values"


def is_table(annotation: Any) -> bool:
    """Whether an annotation means a table in any of the frame libraries."""
    return (getattr(annotation, "__module__", ""), getattr(annotation, "__qualname__", "")) in _TABLES


def fits(given: Any, wanted: Any) -> bool:
    """Whether a value of the type `given` may go where `wanted` is asked for.

    Example:
        >>> fits(int, float), fits(int, int | None), fits(list[int], list), fits(str, int)
        (True, True, True, False)
    """
    if given is Any or wanted is Any or given == wanted:
        return True
    if is_table(given) or is_table(wanted):
        wants = typing.get_args(wanted) if _is_union(wanted) else (wanted,)
        return is_table(given) and any(is_table(option) for option in wants)
    if _is_union(given):
        return all(fits(option, wanted) for option in typing.get_args(given))
    if _is_union(wanted):
        return any(fits(given, option) for option in typing.get_args(wanted))
    given_base, wanted_base = typing.get_origin(given) or given, typing.get_origin(wanted) or wanted
    if given_base is int and wanted_base is float:
        return True
    if not isinstance(given_base, type) or not isinstance(wanted_base, type):
        return False
    if not issubclass(given_base, wanted_base):
        return False
    ours, theirs = typing.get_args(given), typing.get_args(wanted)
    return not ours or not theirs or (len(ours) == len(theirs) and all(map(fits, ours, theirs)))


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def show(annotation: Any) -> str:
    """An annotation as people write it."""
    if is_table(annotation):
        module = annotation.__module__.partition(".")[0]
        return "el.Table" if module == "everline" else f"{module}.{annotation.__qualname__}"
    if getattr(annotation, "__module__", "") == "everline.pipelines.values":
        return f"el.{annotation.__qualname__}"
    return (
        annotation.__qualname__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)
    )
