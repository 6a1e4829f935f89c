"""The questions of a run to people that have no answer yet."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from everline.canonical import canonical_digest
from everline.pipelines import keys
from everline.pipelines.graph import Question
from everline.pipelines.journal import Journal
from everline.pipelines.results import Results
from everline.pipelines.types import Asked, KeyMaterial, StepStatus, StepUpdate
from everline.pipelines.values import Approval


class Questions:
    """Asks, and looks for answers; an answer holds for what was shown."""

    def __init__(self, journal: Journal, results: Results) -> None:
        self._journal, self._results = journal, results
        self._asked: dict[Question, StepUpdate] = {}

    @property
    def open(self) -> list[str]:
        """The names of the questions that wait."""
        return [update.name for update in self._asked.values()]

    def is_answered(self, question: Question, before: StepUpdate) -> bool:
        """Whether an earlier driver of the run had the answer to this very question."""
        return before.material == self._material(question)

    def ask(self, question: Question, *, uid: str, now: datetime) -> StepUpdate:
        """A question is ready to be asked; it is sent with the next look for answers."""
        update = StepUpdate(
            uid=uid, name=question.name, position=question.position, status=StepStatus.WAITING,
            material=self._material(question), started_at=now, needs=self._results.names_of(question),
            reason=question.text,
        )  # fmt: skip
        self._asked[question] = update
        return update

    def answered(self) -> Iterator[tuple[Question, StepUpdate, Approval]]:
        """The questions that have an answer now; they are open no more."""
        for question, update in list(self._asked.items()):
            assert update.material is not None
            asked = Asked(
                step=question.name, question=question.text, role=question.role, others=question.others,
                material=canonical_digest(update.material.inputs),
                shown={name: self._results.shown(value) for name, value in question.inputs.items()},
            )  # fmt: skip
            answer = self._journal.ask(asked)
            if answer is not None:
                del self._asked[question]
                yield question, update, answer

    def _material(self, question: Question) -> KeyMaterial:
        shown = {name: self._results.digest_of(value) for name, value in question.inputs.items()}
        return KeyMaterial(code="", environment="", inputs={name: keys.plain(v, name) for name, v in shown.items()})
