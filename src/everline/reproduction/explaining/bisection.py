"""Where along a line of commits or versions a metric moved, in logarithmically many trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from everline.reproduction.explaining.types import Probe

Try = Callable[[int], Probe]


class Found(NamedTuple):
    """The result of a search.

    Attributes:
        among: positions that may be the first moved one; a single one if all that mattered ran. Empty if the last one
            has not moved.
        probes: in the order of trial.
    """

    among: Sequence[int]
    probes: list[Probe]


def first_moved(count: int, attempt: Try) -> Found:
    """Find the first position that has moved, taking for granted that whatever comes after it has too.

    Args:
        count: positions from 0 to count - 1; what lies before 0 has not moved.
        attempt: tries a position; `moved` is None where it has no value, and a neighbour is tried instead.

    Example:
        >>> tried = lambda at: Probe(name=str(at), value=1.0, moved=at >= 5)
        >>> found = first_moved(8, tried)
        >>> list(found.among), [probe.name for probe in found.probes]
        ([5], ['7', '3', '5', '4'])
    """
    last = attempt(count - 1)
    probes = [last]
    if not last.moved:
        return Found([], probes)
    low, high = -1, count - 1  # low has not moved, high has
    skipped: set[int] = set()
    while True:
        open_ones = [at for at in range(low + 1, high) if at not in skipped]
        if not open_ones:
            return Found(range(low + 1, high + 1), probes)
        middle = (low + high) // 2
        at = min(open_ones, key=lambda one: (abs(one - middle), one))
        probe = attempt(at)
        probes.append(probe)
        if probe.moved is None:
            skipped.add(at)
        elif probe.moved:
            high = at
        else:
            low = at
