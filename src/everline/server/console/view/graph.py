"""Places a small directed graph on a plane, so that a page can draw it as SVG without a script.

Layers by longest path, order inside a layer by the mean place of the neighbours (Sugiyama, Tagawa and Toda, 1981),
long edges bent around what lies between. Enough for some dozens of nodes: pipelines and lineage.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

_WIDTH, _HEIGHT = 164, 54
_SLIM_WIDTH, _LAYERS_MAX = 130, 6
"""With more layers than this, boxes are slim, so that the whole still fits a desk."""
_NARROW_WIDTH = 150
_ALONG, _ACROSS = 38, 16
_DOWN, _BESIDE = 30, 14
_PER_ROW = 2
_BEND = 12
_SWEEPS = 4
_MARGIN = 4


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One box. `tone` is good, warn, bad, info or muted; `here` marks what the page is about.

    The rest is for pictures of runs, which have colours and shapes of their own.

    Attributes:
        state: of a step or of many, in the words of `folding.STATES`.
        shape: step, question, choice or expansion.
        count: how many calls the box stands for.
        said: those by state, in words.
        parts: those by state: state, place and width, as shares of the whole.
    """

    key: str
    title: str
    note: str = ""
    href: str | None = None
    tone: str = "muted"
    here: bool = False
    state: str = ""
    shape: str = "step"
    count: int = 1
    said: str = ""
    parts: tuple[tuple[str, float, float], ...] = ()


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A box with the place of its upper left corner, in pixels."""

    node: Node
    x: float
    y: float


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """What the template draws: boxes, edges as SVG path data, and the size of all, in pixels."""

    nodes: list[Placed]
    edges: list[str]
    width: float
    height: float
    box_width: int
    box_height: int = _HEIGHT


def both(nodes: Sequence[Node], edges: Iterable[tuple[str, str]]) -> tuple[Drawing, Drawing]:
    """The drawing for wide screens, from left to right, and the one for narrow screens, downwards.

    Args:
        edges: pairs of keys, source first; pairs with an unknown key and those that close a cycle are left out.
    """
    known = {node.key: node for node in nodes}
    pairs = _acyclic([(a, b) for a, b in dict.fromkeys(edges) if a in known and b in known and a != b])
    depth = _depths(list(known), pairs)
    return _draw_across(nodes, pairs, dict(depth)), _draw_down(nodes, pairs, depth)


def _draw_across(nodes: Sequence[Node], pairs: list[tuple[str, str]], depth: dict[str, int]) -> Drawing:
    chains = {pair: _chain(pair, depth) for pair in pairs}
    layers = _ordered([node.key for node in nodes], depth, chains.values())
    known = {node.key for node in nodes}
    across = _across(layers, known)
    for chain in chains.values():
        for at, key in enumerate(chain[1:-1], start=1):
            depth[key] = depth[chain[0]] + at
    width = _WIDTH if len(layers) <= _LAYERS_MAX else _SLIM_WIDTH
    step = width + _ALONG
    place = {key: (depth[key] * step + _MARGIN, across[key] + _MARGIN) for key in across}
    placed = [Placed(node=node, x=place[node.key][0], y=place[node.key][1]) for node in nodes]
    return Drawing(
        nodes=placed,
        edges=[_path([place[key] for key in chain], width) for chain in chains.values()],
        width=len(layers) * step - _ALONG + 2 * _MARGIN,
        height=max((at + (_HEIGHT if key in known else _BEND) for key, at in across.items()), default=0.0)
        + 2 * _MARGIN,
        box_width=width,
    )


def _draw_down(nodes: Sequence[Node], pairs: list[tuple[str, str]], depth: dict[str, int]) -> Drawing:
    """Layers below each other, two boxes in a row; an edge runs behind the boxes that it passes."""
    layers = _ordered([node.key for node in nodes], depth, pairs)
    whole = _PER_ROW * _NARROW_WIDTH + (_PER_ROW - 1) * _BESIDE
    place: dict[str, tuple[float, float]] = {}
    top = float(_MARGIN)
    for layer in layers:
        for start in range(0, len(layer), _PER_ROW):
            row = layer[start : start + _PER_ROW]
            left = (whole - len(row) * _NARROW_WIDTH - (len(row) - 1) * _BESIDE) / 2 + _MARGIN
            for at, key in enumerate(row):
                place[key] = (left + at * (_NARROW_WIDTH + _BESIDE), top)
            top += _HEIGHT + _BESIDE
        top += _DOWN - _BESIDE
    return Drawing(
        nodes=[Placed(node=node, x=place[node.key][0], y=place[node.key][1]) for node in nodes],
        edges=[_path_down(place[source], place[target]) for source, target in pairs],
        width=whole + 2 * _MARGIN,
        height=top - _DOWN + _MARGIN,
        box_width=_NARROW_WIDTH,
    )


def _acyclic(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    after: dict[str, set[str]] = defaultdict(set)
    kept = []
    for source, target in pairs:
        reached, todo = {target}, [target]
        while todo:
            for following in after[todo.pop()] - reached:
                reached.add(following)
                todo.append(following)
        if source not in reached:
            after[source].add(target)
            kept.append((source, target))
    return kept


def _depths(keys: list[str], pairs: list[tuple[str, str]]) -> dict[str, int]:
    depth = dict.fromkeys(keys, 0)
    for _ in keys:
        changed = False
        for source, target in pairs:
            if depth[target] <= depth[source]:
                depth[target] = depth[source] + 1
                changed = True
        if not changed:
            break
    return depth


def _chain(pair: tuple[str, str], depth: dict[str, int]) -> list[str]:
    source, target = pair
    between = range(depth[source] + 1, depth[target])
    return [source, *(f"{source}\n{target}\n{level}" for level in between), target]


def _ordered(keys: list[str], depth: dict[str, int], chains: Iterable[Sequence[str]]) -> list[list[str]]:
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    near: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        layers[depth[key]].append(key)
    for chain in chains:
        for at, key in enumerate(chain[1:-1], start=1):
            layers[depth[chain[0]] + at].append(key)
        for one, other in pairwise(chain):
            near[one].append(other)
            near[other].append(one)
    for sweep in range(_SWEEPS):
        place = {key: index / max(1, len(layer)) for layer in layers for index, key in enumerate(layer)}
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            layer.sort(key=lambda key: sum(place[k] for k in near[key]) / len(near[key]) if near[key] else place[key])
            place |= {key: index / max(1, len(layer)) for index, key in enumerate(layer)}
    return layers


def _across(layers: list[list[str]], boxes: set[str]) -> dict[str, float]:
    size = {key: _HEIGHT if key in boxes else _BEND for layer in layers for key in layer}
    lengths = [sum(size[key] for key in layer) + _ACROSS * (len(layer) - 1) for layer in layers]
    widest = max(lengths, default=0)
    found: dict[str, float] = {}
    for layer, length in zip(layers, lengths, strict=True):
        at = (widest - length) / 2
        for key in layer:
            found[key] = at
            at += size[key] + _ACROSS
    return found


def _path(corners: list[tuple[float, float]], width: int) -> str:
    """From the right side of the first box, through the bends, to the left side of the last."""
    last = len(corners) - 1
    points: list[tuple[float, float]] = []
    for at, (x, y) in enumerate(corners):
        middle = y + (_HEIGHT if at in (0, last) else _BEND) / 2
        if at > 0:
            points.append((x, middle))
        if at < last:
            points.append((x + width, middle))
    text = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for index, ((x, y), (to_x, to_y)) in enumerate(pairwise(points)):
        half = (x + to_x) / 2
        straight = index % 2 == 1  # through a layer, beside its boxes
        text += (
            f"L{to_x:.1f} {to_y:.1f}"
            if straight
            else f"C{half:.1f} {y:.1f} {half:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
        )
    return text


def _path_down(source: tuple[float, float], target: tuple[float, float]) -> str:
    x, y = source[0] + _NARROW_WIDTH / 2, source[1] + _HEIGHT
    to_x, to_y = target[0] + _NARROW_WIDTH / 2, target[1]
    half = (y + to_y) / 2
    return f"M{x:.1f} {y:.1f}C{x:.1f} {half:.1f} {to_x:.1f} {half:.1f} {to_x:.1f} {to_y:.1f}"
