"""A part of a pipeline: what leads to one step, which is then run on tables of earlier runs in place of its own.

So two models can be measured on each other's evaluation sets, and a mixture of two runs on both.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from everline.errors import InvalidInputError
from everline.pipelines.graph import Graph, Kept, Node, Ref, Vertex
from everline.pipelines.types import ValueRef

EXPLAINS_TAG = "everline.explains"
"""Of runs that are mixtures; its value names the two runs."""

try:
    import fcntl
except ImportError:  # Windows: two processes may then do one step at the same time, to the same result
    fcntl = None  # type: ignore[assignment]


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """What to run of a pipeline.

    Attributes:
        step: the last step.
        cells: by name of the node that stands for the step: results to take, by parameter, in place of its own. None
            at all runs the step as it stands.
        tag: for the tag `everline.explains` of the run.
        claims: folder in which processes that work for the same purpose hold step keys; None if there are no others.
    """

    step: str
    cells: dict[str, dict[str, ValueRef]] = {}
    tag: str = ""
    claims: str | None = None


def part_of(graph: Graph, measure: Measure) -> Graph:
    """The nodes that lead to a step, and the step for each cell.

    Raises:
        InvalidInputError: the graph has no such step, or the step has no such parameter.
    """
    last = next((node for node in graph.steps if node.name == measure.step), None)
    if last is None:
        names = ", ".join(node.name for node in graph.steps)
        raise InvalidInputError(
            f"Pipeline {graph.pipeline!r} has no step {measure.step!r}.", hint=f"It has {names}.", field="step"
        )
    ends = [_with(last, name, cells) for name, cells in measure.cells.items()] or [last]
    wanted: set[Vertex] = set()
    waiting: list[Vertex] = list(ends)
    while waiting:
        node = waiting.pop()
        needed = [*node.refs(), *(condition.value for condition in node.conditions)]
        for ref in needed:
            if isinstance(ref, Ref) and ref.node not in wanted:
                wanted.add(ref.node)
                waiting.append(ref.node)
    nodes = [node for node in graph.nodes if node in wanted]
    for position, end in enumerate(ends, start=len(graph.nodes)):
        end.position = position if end is not last else last.position
    return Graph(graph.pipeline, graph.parameters, [*nodes, *ends])


def claims_in(folder: str | None) -> Callable[[str], Callable[[], None] | None] | None:
    """How a process holds a step key against others that use the same folder; who dies lets go.

    Returns:
        A function that gives the way to let go of a key again, or None while another process has the key; None at all
        if there are no others.
    """
    if folder is None or fcntl is None:
        return None

    def claim(key: str) -> Callable[[], None] | None:
        descriptor = os.open(Path(folder) / key.replace(":", "-"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return lambda: os.close(descriptor)

    return claim


def _with(node: Node, name: str, cells: dict[str, ValueRef]) -> Node:
    unknown = sorted(set(cells) - set(node.inputs))
    if unknown:
        raise InvalidInputError(
            f"Step {node.name!r} takes no {unknown[0]!r}.", hint=f"It takes {', '.join(node.inputs)}.", field="step"
        )
    return Node(
        node.spec,
        name,
        node.position,
        {**node.inputs, **{key: Kept(ref) for key, ref in cells.items()}},
        node.conditions,
    )
