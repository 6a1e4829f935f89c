"""Many calls of one step as one: names by family, states by count. Pictures and tables of runs share it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

FOLD_FROM = 5
"""So many calls of one step are shown as one."""
PENDING = "pending"
LOST = "lost"
STATES = (
    "failed", "waiting", "running", "succeeded", "cached", "cancelled", LOST, "skipped", PENDING,
)  # fmt: skip
"""In the order in which they matter; the state of many is the first that one of them has."""
_INDEX = re.compile(r"\[\d+\]")
_LOOP = "-…"
_AGAIN = re.compile(r"-\d+(?=/|$)")
WORDS = {PENDING: "not yet", "skipped": "not taken", "waiting": "waits for an answer", LOST: "lost with its driver"}
GOOD = frozenset({"succeeded", "cached"})


def family(name: str) -> str:
    """What all calls of a step in a fan-out or a loop have in common: `square[17]` and `add-3` lose their number."""
    return _AGAIN.sub(_LOOP, _INDEX.sub("[…]", name))


def families(names: Iterable[str], *, fold_from: int = FOLD_FROM) -> dict[str, str]:
    """By name what it is shown as: its family where that is large, else itself.

    The first call of a loop has no number: it joins the others, and all of them take its name.
    """
    found = {name: family(name) for name in names}
    loops = set(found.values())
    found = {name: f"{of}{_LOOP}" if f"{of}{_LOOP}" in loops else of for name, of in found.items()}
    sizes = Counter(found.values())
    return {name: of if sizes[of] >= fold_from else name for name, of in found.items()}


def belongs(name: str, key: str) -> bool:
    """Whether a step is among those that a picture shows as `key`: its family, its expansion or its part."""
    of = family(name)
    return key in (name, of, f"{of}{_LOOP}", of.partition("/")[0]) or of in (f"{key}[…]", f"{key}{_LOOP}")


def state_of(counts: Mapping[str, int]) -> str:
    """The state of many: what needs eyes first; some that are done and some that are not are at work."""
    present = [state for state in STATES if counts.get(state)]
    if not present:
        return PENDING
    return "running" if present[0] in GOOD and PENDING in present else present[0]


def counted(counts: Mapping[str, int]) -> str:
    """`980 succeeded, 20 not yet`."""
    return ", ".join(f"{counts[state]} {words(state)}" for state in STATES if counts.get(state))


def words(state: str) -> str:
    """A state as people read it."""
    return WORDS.get(state, state)


def shares(counts: Mapping[str, int], width: float) -> Sequence[tuple[str, float, float]]:
    """State, place and width of each part of a bar, in the order of `STATES`."""
    total = sum(counts.values())
    found, at = [], 0.0
    for state in STATES:
        if counts.get(state):
            part = width * counts[state] / total
            found.append((state, round(at, 2), round(part, 2)))
            at += part
    return found
