"""Requests on their way to an answer, alone and in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec

from everline.loader import late
from everline.models.signature import Array, Finding
from everline.serving.dataplane.forms.ask import Ask, Form
from everline.serving.dataplane.http.messages import Answering, Reply
from everline.serving.dataplane.plan import Arrays
from everline.serving.dataplane.routing import ServedEndpoint
from everline.serving.types import RevisionRole

if TYPE_CHECKING:
    import numpy as np
else:
    np = late("numpy")


class AtHand:
    """How many requests a process has at hand."""

    requests = 0


class Call:
    """One request that waits for its answer."""

    __slots__ = (
        "_at_hand", "_reply", "alone", "ask", "deadline", "digest", "done", "endpoint", "explanations", "flags", "form",
        "mirror", "primaries", "role", "started_ns",
    )  # fmt: skip

    def __init__(
        self,
        ask: Ask,
        form: Form,
        endpoint: ServedEndpoint,
        reply: Answering,
        *,
        at_hand: AtHand,
        started_ns: int,
        deadline: float,
    ) -> None:
        """Wait for an answer.

        Args:
            deadline: when the answer is of no use any more, by `time.monotonic`.
        """
        self.ask = ask
        self.form = form
        self.endpoint = endpoint
        self.started_ns = started_ns
        self.deadline = deadline
        self.alone = False
        """Whether it must not be asked together with others: a batch that it was in has failed."""
        self.flags: list[Finding] = []
        self.explanations: dict[str, Any] = {}
        """What each input contributed, where that was asked."""
        self.digest = b""
        """Of what was asked, where answers are kept."""
        self.done = False
        self.role = RevisionRole.PRIMARY
        """What the answering revision was when it was chosen."""
        self.mirror: Callable[[list[str]], None] | None = None
        """Is told the predictions once they were answered, for a shadow to be asked the same."""
        self.primaries: list[str] = []
        """Of a shadow's call, the predictions that were answered in its place: nobody waits for this one."""
        self._reply = reply
        self._at_hand = at_hand
        at_hand.requests += 1

    def answer(self, reply: Reply) -> None:
        """Give the reply, unless it was given."""
        if not self.done:
            self.done = True
            self._at_hand.requests -= 1
            self._reply(reply)


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that are asked together; call i has the rows from bounds[i] to bounds[i + 1]."""

    calls: list[Call]
    bounds: list[int]
    runtime: str
    given: Arrays


def part(batch: Batch, positions: Sequence[int]) -> Batch:
    """Some of a batch's calls as a batch of their own."""
    rows = rows_of(batch, positions)
    calls = [batch.calls[position] for position in positions]
    bounds = list(accumulate((call.ask.rows for call in calls), initial=0))
    given = Arrays(
        rows=bounds[-1],
        arrays={name: array[rows] for name, array in batch.given.arrays.items()},
        outside=[(field, mask[rows]) for field, mask in batch.given.outside],
    )
    return Batch(calls=calls, bounds=bounds, runtime=batch.runtime, given=given)


def rows_of(batch: Batch, positions: Sequence[int]) -> Array:
    """The numbers of the rows that some of a batch's calls have in it."""
    parts = [np.arange(batch.bounds[position], batch.bounds[position + 1]) for position in positions]
    return np.concatenate(parts)
