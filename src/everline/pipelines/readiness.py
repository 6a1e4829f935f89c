"""What waits for what: vertices become ready when all that they need is known."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

from everline.pipelines.graph import Choice, Ref, Vertex, refs_in

LEFT_OUT = object()
"""In place of a value: the vertex was skipped, or is left out of a rebuild."""


class Readiness:
    """The values of the vertices that have one, and the order in which the others become ready.

    Attributes:
        values: a result of a step, `LEFT_OUT`, or (of choices and expansions) refs and lists of them.
    """

    def __init__(self) -> None:
        self.values: dict[Vertex, Any] = {}
        self._missing: dict[Vertex, int] = {}
        self._takers: dict[Vertex, list[Vertex]] = {}
        self._ready: list[tuple[int, Vertex]] = []

    def __bool__(self) -> bool:
        """Whether a vertex is ready."""
        return bool(self._ready)

    def pop(self) -> Vertex:
        """The ready vertex that comes first in the graph."""
        return heapq.heappop(self._ready)[1]

    def add(self, vertices: Iterable[Vertex]) -> None:
        """Vertices of the graph, or of a part of it that was just built."""
        for vertex in vertices:
            self._wait(vertex, {ref.node for ref in needs_of(vertex)})

    def settle(self, vertex: Vertex, value: Any) -> None:
        """What a vertex gives is known; whoever waited for it alone is ready."""
        self.values[vertex] = value
        for taker in self._takers.pop(vertex, ()):
            self._missing[taker] -= 1
            if not self._missing[taker]:
                heapq.heappush(self._ready, (taker.position, taker))

    def give(self, vertex: Vertex, value: Any) -> None:
        """A vertex gives what others give: as soon as they do, it is ready again, to be settled with `given`."""
        vertex.inputs = {_GIVEN: value}
        self._wait(vertex, {ref.node for ref in refs_in(value) if isinstance(ref, Ref)})

    @staticmethod
    def given(vertex: Vertex) -> tuple[bool, Any]:
        """Whether a vertex only waited for what others give, and that."""
        return _GIVEN in vertex.inputs, vertex.inputs.get(_GIVEN)

    def _wait(self, vertex: Vertex, needed: set[Vertex]) -> None:
        open_ = [node for node in needed if node not in self.values]
        self._missing[vertex] = len(open_)
        for node in open_:
            self._takers.setdefault(node, []).append(vertex)
        if not open_:
            heapq.heappush(self._ready, (vertex.position, vertex))


_GIVEN = "value that is given"


def needs_of(vertex: Vertex) -> Iterable[Ref]:
    """What a vertex needs before it can run; a choice needs its condition first, and the branch that is taken later."""
    for condition in vertex.conditions:
        yield condition.value
    inputs = (vertex.inputs["condition"],) if isinstance(vertex, Choice) else vertex.inputs.values()
    for value in inputs:
        for ref in refs_in(value):
            if isinstance(ref, Ref):
                yield ref
