"""The graph of a run as a picture: what is planned and what has happened, many calls of one step as one vertex.

What has not run yet comes from the plan, the rest from the records of steps. A part of the graph that was built while
the run was at work is shown in place of the vertex that stood for it, or as that vertex if it calls one step only.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from everline.pipelines.history import Outline
from everline.pipelines.types import PlannedStep
from everline.server.console.view import folding, graph, render

DRAWN_MAX = 90
"""More vertices than this are no picture any more."""
_ITEM = re.compile(r"\[\d+\]\Z")
_KINDS = {"question": "question", "choice": "branch", "expansion": "built while it runs"}
Href = Callable[[str, str], str | None]
"""From `step` and a uid, `many` and what they are shown as, or `question` and a name, to an address."""


class _Vertex(msgspec.Struct, kw_only=True):
    name: str
    kind: str = "step"
    state: str = folding.PENDING
    seconds: float | None = None
    uid: str | None = None
    members: list[str] = []
    """States of the calls that an expansion stands for."""


def draw(
    plan: Sequence[PlannedStep], steps: Sequence[Outline], *, ended: bool, href: Href
) -> tuple[graph.Drawing, graph.Drawing] | None:
    """Both drawings of `graph.both`; None if there is nothing to draw, or too much.

    Args:
        ended: nothing will run any more.
    """
    vertices, kids = _vertices(plan, steps)
    edges = _edges(plan, steps, kids)
    _settle(plan, vertices, ended=ended)
    for shown_as in (_by_family, _by_part):
        keys = shown_as(vertices.values())
        nodes = _nodes(vertices.values(), keys, href)
        if nodes and len(nodes) <= DRAWN_MAX:
            pairs = ((keys[a], keys[b]) for a, b in edges if a in keys and b in keys)
            return graph.both(nodes, pairs)
    return None


def _vertices(
    plan: Sequence[PlannedStep], steps: Sequence[Outline]
) -> tuple[dict[str, _Vertex], dict[str, list[Outline]]]:
    """By name in the order of the graph, and the steps of each expansion that have vertices of their own."""
    found = {
        one.name: _Vertex(name=one.name, kind=one.kind, members=[folding.PENDING] * one.count * (one.count > 1))
        for one in plan
    }
    expansions = {one.name for one in plan if one.kind == "expansion"}
    built: dict[str, list[Outline]] = defaultdict(list)
    for step in steps:
        expansion = None if step.name in found else _expansion_of(step.name, expansions)
        if expansion is not None:
            built[expansion].append(step)
        else:
            kind = found[step.name].kind if step.name in found else "step"
            found[step.name] = _of_step(step, kind)
    apart: dict[str, list[Outline]] = {}
    for expansion, inner in built.items():
        if all(_ITEM.fullmatch(step.name.removeprefix(expansion)) for step in inner):
            found[expansion].members = [step.status.value for step in inner]
        else:
            apart[expansion] = inner
            found |= {step.name: _of_step(step, "step") for step in inner}
            found[expansion].state = "succeeded"
    return found, apart


def _of_step(step: Outline, kind: str) -> _Vertex:
    seconds = render.seconds_between(step.started_at, step.ended_at)
    return _Vertex(name=step.name, kind=kind, state=step.status.value, seconds=seconds, uid=step.uid)


def _expansion_of(name: str, expansions: set[str]) -> str | None:
    """The longest planned expansion whose name goes on as this name."""
    for at in range(len(name) - 1, 0, -1):
        if name[at] in "[/" and name[:at] in expansions:
            return name[:at]
    return None


def _edges(
    plan: Sequence[PlannedStep], steps: Sequence[Outline], kids: Mapping[str, Sequence[Outline]]
) -> list[tuple[str, str]]:
    ends = {expansion: _last_of(inner) for expansion, inner in kids.items()}
    found = []
    for one in plan:
        for at in one.needs:
            if at < len(plan):
                found += [(source, one.name) for source in ends.get(plan[at].name, [plan[at].name])]
    inside = {step.name: expansion for expansion, inner in kids.items() for step in inner}
    planned = {one.name for one in plan}
    for step in steps:
        expansion = inside.get(step.name)
        if expansion is not None:
            within = [(need, step.name) for need in step.needs if inside.get(need) == expansion]
            found += within or [(expansion, step.name)]
        elif step.name not in planned:
            found += [(need, step.name) for need in step.needs]
    return found


def _last_of(inner: Sequence[Outline]) -> list[str]:
    needed = {need for step in inner for need in step.needs}
    return [step.name for step in inner if step.name not in needed]


def _settle(plan: Sequence[PlannedStep], vertices: Mapping[str, _Vertex], *, ended: bool) -> None:
    """A branch and an empty expansion have no records: how they stand is read off what they wait for."""
    for one in plan:
        vertex = vertices[one.name]
        if vertex.uid is not None or vertex.members or vertex.state != folding.PENDING:
            continue
        needs = {vertices[plan[at].name].state for at in one.needs if at < len(plan)}
        if needs and needs == {"skipped"}:
            vertex.state = "skipped"
        elif (one.kind == "choice" or (one.kind == "expansion" and ended)) and needs <= {*folding.GOOD, "skipped"}:
            vertex.state = "succeeded"


def _by_family(vertices: Iterable[_Vertex]) -> dict[str, str]:
    """Each vertex by itself, but many calls of one step as one."""
    every = list(vertices)
    many = folding.families(one.name for one in every if one.kind == "step")
    return {one.name: many.get(one.name, one.name) for one in every}


def _by_part(vertices: Iterable[_Vertex]) -> dict[str, str]:
    """Each part of the graph (what a pipeline in the pipeline calls) as one."""
    return {one.name: folding.family(one.name.partition("/")[0]) for one in vertices}


def _nodes(vertices: Iterable[_Vertex], keys: Mapping[str, str], href: Href) -> list[graph.Node]:
    groups: dict[str, list[_Vertex]] = defaultdict(list)
    for one in vertices:
        groups[keys[one.name]].append(one)
    return [
        _single(group[0], key, href) if len(group) == 1 and not group[0].members else _many(group, key, href)
        for key, group in groups.items()
    ]


def _single(one: _Vertex, key: str, href: Href) -> graph.Node:
    note = folding.words(one.state)
    if one.state == "succeeded" and one.kind in ("step", "question"):
        note = "answered" if one.kind == "question" else render.duration(one.seconds)
    elif one.state in ("succeeded", folding.PENDING) and one.kind != "step":
        note = _KINDS[one.kind]
    elif one.state == "waiting":
        note = "waits for answer"
    address = href("step", one.uid) if one.uid is not None else None
    if one.kind == "question" and one.state == "waiting":
        address = href("question", one.name)
    return graph.Node(key=key, title=one.name, note=note, href=address, state=one.state, shape=one.kind)


def _many(group: Sequence[_Vertex], key: str, href: Href) -> graph.Node:
    counts = Counter(state for one in group for state in (one.members or [one.state]))
    total, done = sum(counts.values()), sum(counts[state] for state in folding.GOOD)
    bad = f", {counts['failed']} failed" if counts["failed"] else ""
    return graph.Node(
        key=key, title=key, note=f"{done} of {total} done{bad}", href=href("many", key),
        state=folding.state_of(counts), shape=group[0].kind, count=total, said=folding.counted(counts),
        parts=tuple(folding.shares(counts, 1.0)),
    )  # fmt: skip
