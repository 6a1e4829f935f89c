"""What decides a step's result without being asked to: order of sets, number of threads, order of files.

A run is repeated once as it was recorded, then once for each of these with that one thing changed. The first step whose
outputs have other bits depends on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple

from everline.reproduction.types import Reproduction
from everline.runs.environment import Environment

VARY = ("nothing", "threads", "files")
_OTHER_HASH_SEED = "4242"


class Change(NamedTuple):
    """One thing to change in a repetition.

    Attributes:
        name: what it is, for people.
        what: from what to what.
        vary: the value of `everline run --vary`.
        variables: environment variables of the repetition's process.
    """

    name: str
    what: str
    vary: str = "nothing"
    variables: Mapping[str, str] = {}


def changes(environment: Environment) -> list[Change]:
    """What is changed, one after the other; the first changes nothing."""
    seed = "0" if environment.hash_seed == "random" else environment.hash_seed
    other_seed = _OTHER_HASH_SEED if seed != _OTHER_HASH_SEED else "1"
    return [
        Change("nothing", "as it was recorded"),
        Change("hash seed", f"{seed} → {other_seed}", variables={"PYTHONHASHSEED": other_seed}),
        Change("threads", "as each step declares → one more", vary="threads"),
        Change("file order", "as it comes → by name, backwards", vary="files"),
    ]


def first_step(report: Reproduction) -> str | None:
    """The first step of a repetition whose outputs have other bits, or that was not reached."""
    return next((step.name for step in report.steps if step.equal != "bits"), None)


def reverse_files() -> None:
    """From now on, list every folder of this process backwards by name; what a file system promises is no order."""
    listed, scanned = os.listdir, os.scandir

    def listdir(path: Any = None) -> list[Any]:
        return sorted(listed(path), reverse=True)

    def scandir(path: Any = None) -> _Entries:
        with scanned(path) as entries:
            return _Entries(sorted(entries, key=lambda entry: entry.name, reverse=True))

    os.listdir, os.scandir = listdir, scandir  # type: ignore[assignment]


class _Entries:
    """What `os.scandir` gives: an iterator that can be closed."""

    def __init__(self, entries: Iterable[os.DirEntry[Any]]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[os.DirEntry[Any]]:
        return self._entries

    def __next__(self) -> os.DirEntry[Any]:
        return next(self._entries)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())
