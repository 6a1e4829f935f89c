"""Walks a log from its first event and holds it against every signed root on the way.

Used on the database and on exported bundles alike; needs neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from everline.errors import IntegrityError
from everline.governance.signing import VerifyKey
from everline.governance.tree import merkle
from everline.governance.tree.checkpoint import Checkpoint, open_checkpoint
from everline.governance.types import LogProblem

PROBLEMS_MAX = 20
"""Most problems that a report lists: the first ones say enough."""


class Walk:
    """Grows a tree from the events that are there, comparing it at the size of every checkpoint."""

    def __init__(self, notes: Iterable[str], key: VerifyKey | Sequence[VerifyKey]) -> None:
        self.problems: list[LogProblem] = []
        self.checkpoints: dict[int, Checkpoint] = {}
        self.tree = merkle.Growth.start()
        self.agreed = 0
        """The largest signed size whose root was met."""
        self._broken = False
        for note in notes:
            self._open(note, key)
        self._ahead = sorted(self.checkpoints, reverse=True)
        if self._ahead and self._ahead[-1] == 0:
            self._compare()

    def _open(self, note: str, key: VerifyKey | Sequence[VerifyKey]) -> None:
        try:
            opened = open_checkpoint(note, key)
        except IntegrityError as error:
            self.report("unsigned", None, error.message)
            return
        other = self.checkpoints.setdefault(opened.size, opened)
        if other.root != opened.root:
            self.report("rewritten", None, f"Two signed checkpoints of {opened.size} events have different roots.")

    def feed(self, leaf_hashes: Sequence[bytes]) -> list[tuple[merkle.Node, bytes]]:
        """Append events by their hashes; return the nodes of the tree that became complete."""
        nodes: list[tuple[merkle.Node, bytes]] = []
        start = 0
        while start < len(leaf_hashes):
            room = self._ahead[-1] - self.tree.size if self._ahead else len(leaf_hashes)
            part = leaf_hashes[start : start + room]
            self.tree = merkle.grow(self.tree.size, self.tree.peaks, part)
            nodes += self.tree.nodes
            start += len(part)
            if self._ahead and self._ahead[-1] == self.tree.size:
                self._compare()
        return nodes

    def _compare(self) -> None:
        size = self._ahead.pop()
        if self.checkpoints[size].root == self.tree.root:
            self.agreed = size
        elif not self._broken:
            self._broken = True
            self.report(
                "rewritten",
                self.agreed,
                f"Among the events {self.agreed} to {size - 1} at least one is not what was signed: the root of the "
                f"first {size} events is {self.tree.root.hex()}, the signed one {self.checkpoints[size].root.hex()}.",
            )

    def finish(self, *, size: int | None = None) -> None:
        """Say what is missing at the end: signatures over events that are not there."""
        found = self.tree.size if size is None else size
        signed = max(self.checkpoints, default=0)
        if signed > found:
            self.report(
                "truncated", found, f"A signed checkpoint covers {signed} events, but the log ends after {found}."
            )

    def report(self, what: str, index: int | None, detail: str) -> None:
        """Add a problem, up to the limit."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(LogProblem(index=index, what=what, detail=detail))


def compare(walk: Walk, *, claimed: Sequence[bytes], found: Sequence[bytes]) -> None:
    """Name the events in which a log differs from the list of hashes that it should have."""
    if claimed == found:
        return
    differs = next((i for i, pair in enumerate(zip(claimed, found, strict=False)) if pair[0] != pair[1]), None)
    if differs is None:
        if len(found) < len(claimed):
            walk.report("truncated", len(found), f"The log ends after {len(found)} of {len(claimed)} events.")
        else:
            walk.report("invented", len(claimed), f"The log goes on after its {len(claimed)} events.")
        return
    missing, extra = Counter(claimed) - Counter(found), Counter(found) - Counter(claimed)
    if not missing and not extra:
        walk.report("reordered", differs, f"Event {differs} is not in its place.")
    if len(claimed) == len(found) and missing and extra:
        for index, (was, now) in enumerate(zip(claimed, found, strict=True)):
            if was != now and was in missing:
                walk.report("altered", index, f"Event {index} is not what was recorded.")
        return
    for index, value in enumerate(claimed):
        if value in missing:
            walk.report("removed", index, f"Event {index} is gone.")
    for index, value in enumerate(found):
        if value in extra:
            walk.report("invented", index, f"What stands at {index} was never recorded.")
