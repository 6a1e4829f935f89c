"""Values of an import. Light: no database."""

from __future__ import annotations

import msgspec

PROBLEMS_MAX = 1_000


class Count(msgspec.Struct, kw_only=True):
    """One kind of thing: how many the source has, how many of them were new here, how many are here now."""

    kind: str
    source: int = 0
    imported: int = 0
    here: int = 0


class ImportReport(msgspec.Struct, kw_only=True):
    """What an import did, or would do.

    Attributes:
        renumbered: the source's number of an experiment -> its number here, where they differ.
        artifact_bytes: size of the artifacts that the source has.
        left_elsewhere: runs and models whose artifacts stay where clients put them, such as a bucket.
        problems: what could not be taken, by name; at most 1,000 are kept, `problem_count` counts all.
    """

    source: str
    project: str
    dry_run: bool
    counts: list[Count] = msgspec.field(default_factory=list)
    renumbered: dict[str, str] = msgspec.field(default_factory=dict)
    artifact_bytes: int = 0
    left_elsewhere: int = 0
    problems: list[str] = msgspec.field(default_factory=list)
    problem_count: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether everything that the source has is here."""
        return self.problem_count == 0 and all(count.here >= count.source for count in self.counts)

    def count(self, kind: str, *, source: int = 0, imported: int = 0, here: int = 0) -> None:
        """Add to the numbers of a kind."""
        found = next((count for count in self.counts if count.kind == kind), None)
        if found is None:
            found = Count(kind=kind)
            self.counts.append(found)
        found.source += source
        found.imported += imported
        found.here += here

    def merge(self, part: ImportReport) -> None:
        """Add the numbers of a part that is done."""
        for count in part.counts:
            self.count(count.kind, source=count.source, imported=count.imported, here=count.here)

    def problem(self, sentence: str) -> None:
        """Remember what could not be taken."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(sentence)
