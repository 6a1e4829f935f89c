"""The graph of a pipeline: built by calling its function, checked before anything runs.

Inside a pipeline function a step call does not run the step. It adds a vertex and answers a `Ref`, a placeholder that
the next call takes as an argument; the annotations at both ends must fit. Vertices come in the order of their calls,
so that each comes after everything it needs: there can be no cycle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from everline.errors import EverlineError, InvalidInputError
from everline.pipelines.annotations import fits, is_table, item_of, show
from everline.pipelines.spec import StepSpec
from everline.pipelines.types import ValueRef
from everline.pipelines.values import Secret

NODES_MAX = 200_000
WHOLE = -1
"""The index of a `Ref` to all that a step returns."""


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


class Ref:
    """The result of something that has not run yet.

    Attributes:
        index: which of several returned values; `WHOLE` for all that is returned.
    """

    __slots__ = ("index", "node", "type")

    def __init__(self, node: Vertex, index: int, type_: Any) -> None:
        self.node, self.index, self.type = node, index, type_

    def __iter__(self) -> Iterator[Ref]:
        outputs = self.node.outputs
        if len(outputs) == 1 or self.index != WHOLE:
            raise InvalidInputError(
                f"{str(self).capitalize()} returns one value; it cannot be taken apart while the graph is built.",
                hint="Annotate a fixed tuple, such as `-> tuple[el.Table, el.Table]`, map a step over a list with "
                "`el.map`, or take it apart in a step.",
            )
        return (Ref(self.node, index, type_) for index, type_ in enumerate(outputs))

    def __bool__(self) -> bool:
        raise InvalidInputError(
            f"The result of {self} is not known while the graph is built, so no `if` can ask for it.",
            hint="Use `el.when(condition, …)`, or decide inside a step or on a parameter of the pipeline.",
        )

    def __str__(self) -> str:
        return f"step {self.node.name!r}"


@dataclass(frozen=True)
class Condition:
    """A vertex that has it runs only if the value, a result of type bool, is as it says."""

    value: Ref
    holds: bool


class Vertex:
    """Something that waits for results and gives one.

    Attributes:
        name: unique in the graph.
        position: 0 for the first.
        inputs: by parameter: constants, refs, dataset refs, and lists or dicts of them.
        conditions: all must hold.
    """

    __slots__ = ("conditions", "inputs", "name", "position")

    def __init__(self, name: str, position: int, inputs: dict[str, Any], conditions: tuple[Condition, ...]) -> None:
        self.name, self.position, self.inputs, self.conditions = name, position, inputs, conditions

    @property
    def outputs(self) -> tuple[Any, ...]:
        """The annotations of the values that it gives."""
        return (Any,)

    def refs(self) -> Iterator[Ref | DatasetRef]:
        """Every placeholder among the inputs."""
        for value in self.inputs.values():
            yield from refs_in(value)


class Node(Vertex):
    """One call of one step."""

    __slots__ = ("spec",)

    def __init__(
        self,
        spec: StepSpec,
        name: str,
        position: int,
        inputs: dict[str, Any],
        conditions: tuple[Condition, ...] = (),
    ) -> None:
        super().__init__(name, position, inputs, conditions)
        self.spec = spec

    @property
    def outputs(self) -> tuple[Any, ...]:
        return self.spec.outputs


class Question(Vertex):
    """What a person with a role must answer before the run goes on.

    Attributes:
        required: a no fails the run; otherwise the answer goes on as a result.
        others: whoever started the run cannot answer.
    """

    __slots__ = ("others", "required", "role", "text")

    def __init__(
        self, name: str, position: int, inputs: dict[str, Any], conditions: tuple[Condition, ...], *, text: str,
        role: str, required: bool, others: bool,
    ) -> None:  # fmt: skip
        super().__init__(name, position, inputs, conditions)
        self.text, self.role, self.required, self.others = text, role, required, others


class Choice(Vertex):
    """The result of the branch that was taken; `inputs` has `condition`, `then` and `otherwise`."""

    __slots__ = ()


class Expansion(Vertex):
    """A part of the graph that is built when the results that it depends on are known.

    Attributes:
        target: the step or pipeline to call: once for each item of the input `over`, or once if that is None.
    """

    __slots__ = ("over", "target")

    def __init__(
        self, name: str, position: int, inputs: dict[str, Any], conditions: tuple[Condition, ...], *, target: Any,
        over: str | None,
    ) -> None:  # fmt: skip
        super().__init__(name, position, inputs, conditions)
        self.target, self.over = target, over


def refs_in(value: Any) -> Iterator[Ref | DatasetRef]:
    """Every placeholder in a value."""
    if isinstance(value, Ref | DatasetRef):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from refs_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from refs_in(item)


@dataclass
class Graph:
    """Vertices in the order of their calls, so that each comes after everything it needs.

    Attributes:
        nodes: also what is no step: choices, expansions and questions.
        result: what the pipeline function returned.
    """

    pipeline: str
    parameters: dict[str, Any] = field(default_factory=dict)
    nodes: list[Vertex] = field(default_factory=list)
    result: Any = None
    _names: dict[str, int] = field(default_factory=dict)
    _prefix: str = ""
    _conditions: tuple[Condition, ...] = ()

    @property
    def steps(self) -> list[Node]:
        """The calls of steps."""
        return [node for node in self.nodes if isinstance(node, Node)]

    def add(self, spec: StepSpec, args: tuple[Any, ...], kwargs: dict[str, Any], *, name: str | None = None) -> Ref:
        """Add a call of a step.

        Raises:
            InvalidInputError: an argument is missing, unknown, or of a type that does not fit.
        """
        inputs = _bind(spec, args, kwargs)
        for parameter, value in inputs.items():
            check_argument(f"Step {spec.name!r}", parameter, spec.hints[parameter], value)
        node = Node(spec, name or self.named(spec.name), len(self.nodes), inputs, self._conditions)
        self.put(node)
        return Ref(node, 0 if len(spec.outputs) == 1 else WHOLE, spec.hints.get("return", Any))

    def put(self, vertex: Vertex) -> None:
        """Add a vertex, which must see the results that it takes.

        Raises:
            InvalidInputError: it takes a result of a branch that may not be taken, or the graph is too large.
        """
        if len(self.nodes) >= NODES_MAX:
            raise InvalidInputError(
                f"Pipeline {self.pipeline!r} has more than {NODES_MAX} steps.", hint="Let a step do more at once."
            )
        if not isinstance(vertex, Choice):
            for ref in vertex.refs():
                if isinstance(ref, Ref) and any(one not in self._conditions for one in ref.node.conditions):
                    raise InvalidInputError(
                        f"Step {vertex.name!r} takes the result of {ref}, whose branch may not be taken.",
                        hint="Take the result of `el.when(…)` instead, or call the step inside the branch.",
                        field=vertex.name,
                    )
        self.nodes.append(vertex)

    def named(self, name: str) -> str:
        """A name that nothing in the graph has: the name itself for the first, then `name-2`, `name-3`, …"""
        full = self._prefix + name
        count = self._names.get(full, 0) + 1
        self._names[full] = count
        return full if count == 1 else f"{full}-{count}"

    @contextlib.contextmanager
    def within(self, name: str) -> Iterator[None]:
        """What is added inside of the block belongs to a part, whose name comes before its own and a slash."""
        before, self._prefix = self._prefix, f"{self.named(name)}/"
        try:
            yield
        finally:
            self._prefix = before

    @contextlib.contextmanager
    def under(self, condition: Condition) -> Iterator[None]:
        """What is added inside of the block runs only under a condition."""
        before, self._conditions = self._conditions, (*self._conditions, condition)
        try:
            yield
        finally:
            self._conditions = before

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Under which the next vertex would run."""
        return self._conditions

    def expand(self, at: Vertex, build: Any, *, name: str) -> tuple[list[Vertex], Any]:
        """Build a part of the graph while it runs, as if it had been written where `at` stands.

        Args:
            build: a function that calls steps.
            name: put before the names in the part.

        Returns:
            The new vertices, and what the function returned.
        """
        first, before = len(self.nodes), (self._prefix, self._conditions)
        self._prefix, self._conditions = name, at.conditions
        token = _building.set(self)
        try:
            value = _called(self.pipeline, build)
        finally:
            _building.reset(token)
            self._prefix, self._conditions = before
        return self.nodes[first:], value


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
        graph.result = _called(name, lambda: function(**parameters))
    finally:
        _building.reset(token)
    if not graph.nodes:
        raise InvalidInputError(f"Pipeline {name!r} calls no step.", hint="Call functions that carry `@el.step`.")
    if graph.result is not None and not any(True for _ in refs_in(graph.result)):
        raise InvalidInputError(
            f"Pipeline {name!r} returns {graph.result!r:.80}, which is no result of a step.",
            hint="Return what a step call gave, several of them in a list or tuple, or nothing.",
        )
    return graph


def _called(name: str, function: Any) -> Any:
    try:
        return function()
    except EverlineError:
        raise
    except Exception as error:
        raise InvalidInputError(
            f"Pipeline {name!r} failed while its graph was built: {type(error).__name__}: {error}.",
            hint="A pipeline function only calls steps; work on their results inside a step.",
        ) from error


def _bind(spec: StepSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        bound = spec.signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidInputError(f"Step {spec.name!r} cannot be called like this: {error}.", field=spec.name) from None
    bound.apply_defaults()
    return dict(bound.arguments)


def check_argument(taker: str, name: str, wanted: Any, value: Any) -> None:
    """See that a value, or the result that a placeholder stands for, fits an annotation.

    Args:
        taker: who takes it, such as `Step 'train'`.

    Raises:
        InvalidInputError: it does not; both ends are named.
    """
    if isinstance(value, Ref | DatasetRef):
        given = Any if isinstance(value, DatasetRef) and is_table(wanted) else _type_of(value)
        if not fits(given, wanted):
            raise InvalidInputError(
                f"{taker} takes {name}: {show(wanted)}, but {value} gives {show(given)}.",
                hint="Change one of the two annotations, or put a step between them.",
                field=name,
            )
        return
    if wanted is Any:
        return
    if isinstance(value, list | tuple | dict) and any(True for _ in refs_in(value)):
        item = item_of(wanted)
        if isinstance(value, list) and item not in (None, Any):
            for one in value:
                check_argument(taker, name, item, one)
        return
    if isinstance(value, Secret):
        if not fits(str, wanted):
            raise InvalidInputError(f"{taker} takes {name}: {show(wanted)}, but a secret is text.", field=name)
        return
    if problem := _unfit(value, wanted):
        raise InvalidInputError(
            f"{taker} takes {name}: {show(wanted)}, but was given {value!r:.80}: {problem}.",
            hint="Pass a value of that type, or a result of another step.",
            field=name,
        )


def _unfit(value: Any, wanted: Any) -> str | None:
    if isinstance(wanted, type) and isinstance(value, wanted):
        return None
    if isinstance(wanted, type) and not _is_jsonish(wanted):
        return f"got {type(value).__name__}"
    try:
        msgspec.convert(msgspec.to_builtins(value, enc_hook=_plain), wanted, dec_hook=_read)
    except (msgspec.ValidationError, TypeError) as error:
        return str(error)
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def _read(wanted: type, value: Any) -> Any:
    if issubclass(wanted, Path) and isinstance(value, str):
        return Path(value)
    raise TypeError(f"got {type(value).__name__}")


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
