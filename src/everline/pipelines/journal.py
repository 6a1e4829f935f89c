"""What the scheduler asks of whoever keeps the records of a run."""

from __future__ import annotations

from typing import Protocol

from everline.pipelines.graph import DatasetRef
from everline.pipelines.types import Asked, CacheEntry, DatasetUse, Orders, StepOutput, StepUpdate
from everline.pipelines.values import Approval


class Journal(Protocol):
    """Where states and kept results live."""

    def lookup(self, keys: list[str]) -> dict[str, CacheEntry]:
        """The kept results under step keys; those without one are left out."""

    def record(self, updates: list[StepUpdate], output: list[StepOutput]) -> Orders:
        """Keep what happened; it survives the death of this process when it returns."""

    def beat(self) -> Orders:
        """Say that the driver is alive, and hear whether it shall go on."""

    def ask(self, asked: Asked) -> Approval | None:
        """The answer to a question, or None while there is none; asking again changes nothing."""


class Data(Protocol):
    """Where datasets come from."""

    def resolve(self, ref: DatasetRef) -> tuple[DatasetUse, ...]:
        """The versions that a reference means, now and for the whole run."""
