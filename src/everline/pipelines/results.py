"""What vertices gave, seen from those who take it: digests for keys, records for executors, values for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from everline.canonical import canonical_digest
from everline.pipelines import serialisers
from everline.pipelines.executors.tasks import Rows, Taken
from everline.pipelines.graph import WHOLE, DatasetRef, Kept, Node, Question, Ref, Vertex, refs_in
from everline.pipelines.journal import Data
from everline.pipelines.readiness import LEFT_OUT, needs_of
from everline.pipelines.types import DatasetUse, ValueRef
from everline.pipelines.values import Approval, Secret


@dataclass
class Result:
    """What a step or a question gave.

    Attributes:
        data: the dataset versions that it comes from, however many steps lie between.
    """

    refs: tuple[ValueRef, ...]
    maker: Node | Question
    data: tuple[DatasetUse, ...] = ()


class Results:
    """Looks through the values of a graph.

    Args:
        values: by vertex, as `Readiness` has them.
    """

    def __init__(self, values: Mapping[Vertex, Any], *, store: serialisers.ReadStore, data: Data) -> None:
        self._values, self._store, self._data = values, store, data

    def output(self, result: Any) -> Any:
        """What the pipeline function returned, with the records of results in place of refs."""
        if isinstance(result, Ref):
            value = self._values.get(result.node, LEFT_OUT)
            if isinstance(value, Result):
                return list(value.refs) if result.index == WHOLE else value.refs[result.index]
            return None if value is LEFT_OUT else self.output(value)
        if isinstance(result, list | tuple):
            return [self.output(item) for item in result]
        if isinstance(result, dict):
            return {key: self.output(item) for key, item in result.items()}
        return None

    def names_of(self, vertex: Vertex) -> tuple[str, ...]:
        """The steps whose results a vertex takes."""
        return tuple(dict.fromkeys(name for ref in needs_of(vertex) for name in self._makers(ref)))

    def _makers(self, ref: Ref) -> Iterable[str]:
        value = self._values.get(ref.node)
        if isinstance(value, Result) or value is None or value is LEFT_OUT:
            yield ref.node.name
            return
        for inner in refs_in(value):
            if isinstance(inner, Ref):
                yield from self._makers(inner)

    def shown(self, value: Any) -> Any:
        """What a person gets to see of a result: JSON values as they are, others by kind and digest."""
        found = self.output(value) if isinstance(value, Ref) else value
        if isinstance(found, ValueRef):
            if found.kind == "json":
                return self._json(found)
            return {"kind": found.kind, "digest": found.digest, **{k: v for k, v in found.meta.items() if k == "rows"}}
        return [self.shown(item) for item in found] if isinstance(found, list) else found

    def _results(self, ref: Ref) -> Any:
        """What a ref stands for: a result with its index, or what an expansion or a choice gives."""
        value = self._values[ref.node]
        if isinstance(value, Result):
            return value if ref.index != WHOLE else [Ref(ref.node, i, t) for i, t in enumerate(ref.node.outputs)]
        return value

    def digest_of(self, value: Any) -> Any:
        if isinstance(value, Ref):
            found = self._results(value)
            return {"digest": found.refs[value.index].digest} if isinstance(found, Result) else self.digest_of(found)
        if isinstance(value, Kept):
            return {"digest": value.ref.digest}
        if isinstance(value, DatasetRef):
            digests = [use.digest for use in self._data.resolve(value)]
            return {"digest": digests[0] if len(digests) == 1 else canonical_digest(digests)}
        if isinstance(value, Secret):
            return {"secret": value.name}
        if isinstance(value, list | tuple):
            return [self.digest_of(item) for item in value]
        if isinstance(value, dict):
            return {key: self.digest_of(item) for key, item in value.items()}
        return None if value is LEFT_OUT else value

    def value_of(self, value: Any) -> Any:
        if isinstance(value, Ref):
            found = self._results(value)
            if not isinstance(found, Result):
                return self.value_of(found)
            maker = found.maker
            if isinstance(maker, Question):
                return Taken(found.refs[0], Approval)
            return Taken(found.refs[value.index], maker.outputs[value.index], (maker.spec.address, value.index))
        if isinstance(value, Kept):
            return Taken(value.ref)
        if isinstance(value, DatasetRef):
            return Rows(self._data.resolve(value))
        if isinstance(value, list | tuple):
            return [self.value_of(item) for item in value]
        if isinstance(value, dict):
            return {key: self.value_of(item) for key, item in value.items()}
        return None if value is LEFT_OUT else value

    def uses_of(self, vertex: Vertex) -> tuple[DatasetUse, ...]:
        uses: dict[tuple[str, int], DatasetUse] = {}

        def collect(value: Any) -> None:
            for ref in refs_in(value):
                if isinstance(ref, DatasetRef):
                    found: Iterable[DatasetUse] = self._data.resolve(ref)
                else:
                    inner = self._values.get(ref.node)
                    if not isinstance(inner, Result):
                        collect(inner)
                        continue
                    found = inner.data
                uses.update({(use.name, use.version): use for use in found})

        for value in vertex.inputs.values():
            collect(value)
        return tuple(use for _, use in sorted(uses.items()))

    def bool_of(self, ref: Any) -> bool:
        return bool(self.plain(ref))

    def plain(self, value: Any) -> Any:
        """The value of a result that is JSON."""
        found = self.output(value)
        if isinstance(found, list):
            return [self._json(one) for one in found]
        return self._json(found)

    def _json(self, ref: Any) -> Any:
        if isinstance(ref, list):
            return [self._json(one) for one in ref]
        return None if ref is None else serialisers.json_of(ref, lambda digest: bytes(self._store.read(digest)))
