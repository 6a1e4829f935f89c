"""Results of steps, and records of runs, in memory: what an engine stands on, without a control plane."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

from everline.errors import NotFoundError
from everline.ids import digest_bytes
from everline.pipelines.types import Asked, CacheEntry, Orders, StepOutput, StepUpdate
from everline.pipelines.values import Approval


class Body(io.BytesIO):
    def take(self, file: BinaryIO, *, bytes_max: int) -> None:
        self.write(file.read())

    @property
    def bytes(self) -> int:
        return len(self.getvalue())


class Results(dict[str, bytes]):
    """A result store."""

    def incoming(self) -> Any:
        return Body()

    def keep(self, body: Body) -> str:
        data = body.getvalue()
        self[digest_bytes(data)] = data
        return digest_bytes(data)

    def read(self, digest: str) -> memoryview:
        if digest not in self:
            raise NotFoundError(f"There is no blob {digest}.")
        return memoryview(self[digest])


class Records:
    """A journal."""

    def __init__(self) -> None:
        self.batches: list[list[StepUpdate]] = []
        self.kept: dict[str, CacheEntry] = {}
        self.printed: dict[str, str] = {}
        self.asked: list[Asked] = []
        self.answers: dict[str, Approval] = {}
        self.cancelled_by: str | None = None

    def lookup(self, keys: list[str]) -> dict[str, CacheEntry]:
        return {key: self.kept[key] for key in keys if key in self.kept}

    def record(self, updates: list[StepUpdate], output: list[StepOutput]) -> Orders:
        if updates:
            self.batches.append(updates)
        for piece in output:
            self.printed[piece.uid] = self.printed.get(piece.uid, "") + piece.text
        for step in updates:
            if step.cache and step.key:
                self.kept[step.key] = CacheEntry(
                    key=step.key, outputs=step.outputs, run="r1", step=step.uid, created_at=step.started_at, seconds=0
                )
        return Orders(cancel=self.cancelled_by)

    def beat(self) -> Orders:
        return Orders(cancel=self.cancelled_by)

    def ask(self, asked: Asked) -> Approval | None:
        self.asked.append(asked)
        return self.answers.get(asked.step)
