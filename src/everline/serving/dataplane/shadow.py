"""Shadows: a share of the requests is asked of another revision too, after its answer has left, and only logged.

The answer never waits for its shadow. When the shadow's own queue is long, a request is left out and counted: what is
compared is then fewer rows, never slower answers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from msgspec.structs import replace

from everline.errors import EverlineError
from everline.serving.dataplane.calls import AtHand, Call
from everline.serving.dataplane.forms.ask import Ask
from everline.serving.dataplane.http.messages import Reply, refusal
from everline.serving.dataplane.lanes import Lane
from everline.serving.dataplane.metrics import Metrics
from everline.serving.dataplane.routing import ServedEndpoint, ServedRevision, position
from everline.serving.types import RevisionRole

log = logging.getLogger("everline.serve")

_QUEUE_ROWS_MAX = 1024
_WAIT_S = 30.0

FindLane = Callable[[ServedEndpoint, ServedRevision], Lane]


class Shadows:
    """Asks shadows what others have answered."""

    def __init__(self, metrics: Metrics, find_lane: FindLane) -> None:
        self._dropped = metrics.shadow_dropped
        self._find_lane = find_lane
        self._at_hand = AtHand()  # their own: shadows take nobody's place

    def follow(self, call: Call, shadow: ServedRevision) -> None:
        """Let a shadow be asked the same once the call is answered, if the call is one of its share."""
        # The columns as they were read: answering may put arrays of the answering model's types in their place.
        columns = dict(call.ask.columns)

        def mirror(predictions: list[str]) -> None:
            if position(f"shadow {call.ask.request}") < shadow.desired.share:
                self._ask(call, replace(call.ask, columns=columns), shadow=shadow, predictions=predictions)

        call.mirror = mirror

    def _ask(self, call: Call, ask: Ask, *, shadow: ServedRevision, predictions: list[str]) -> None:
        if shadow.stats.queue_rows + len(predictions) > _QUEUE_ROWS_MAX:
            self._dropped.labels(call.endpoint.name, shadow.desired.revision).inc()
            return
        started_ns, deadline = time.perf_counter_ns(), time.monotonic() + _WAIT_S
        silent = Call(
            ask, call.form, call.endpoint, _nobody_listens, at_hand=self._at_hand, started_ns=started_ns,
            deadline=deadline,
        )  # fmt: skip
        silent.role, silent.primaries = RevisionRole.SHADOW, predictions
        try:
            self._find_lane(call.endpoint, shadow).submit(silent)
        except EverlineError as error:
            silent.answer(refusal(error))
            shadow.stats.refused(code=error.status, reason=error.code, started=False)


def _nobody_listens(reply: Reply) -> None:
    if reply.status >= 500:
        log.error("a shadow failed: %s", reply.body[:300].decode("utf-8", "replace"))
