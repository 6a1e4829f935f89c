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
from everline.serving.dataplane.http.messages import Reply
from everline.serving.dataplane.lanes import Lane
from everline.serving.dataplane.metrics import Metrics
from everline.serving.dataplane.plan import Plan
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

    def follow(self, call: Call, shadow: ServedRevision, plan: Plan) -> None:
        """Let a shadow be asked the same once the call is answered, if the call is one of its share.

        Args:
            plan: of the revision for which the call was read.
        """

        def mirror(predictions: list[str]) -> None:
            if position(f"shadow {call.ask.request}") < shadow.desired.share:
                self._ask(call, plan, shadow=shadow, predictions=predictions)

        call.mirror = mirror

    def _ask(self, call: Call, plan: Plan, *, shadow: ServedRevision, predictions: list[str]) -> None:
        if shadow.stats.queue_rows + len(predictions) > _QUEUE_ROWS_MAX:
            self._dropped.labels(call.endpoint.name, shadow.desired.revision).inc()
            return
        try:
            lane = self._find_lane(call.endpoint, shadow)
        except EverlineError as error:
            shadow.stats.refused(code=error.status, reason=error.code, started=False)
            return
        ask = replace(call.ask)
        if lane.plan.signature != plan.signature:  # its inputs may stand in another order, and be of other types
            ask = replace(ask, columns=ask.by_column(plan.names), table=None, typed=False)
        started_ns, deadline = time.perf_counter_ns(), time.monotonic() + _WAIT_S
        silent = Call(
            ask, call.form, call.endpoint, _nobody_listens, at_hand=self._at_hand, started_ns=started_ns,
            deadline=deadline,
        )  # fmt: skip
        silent.role, silent.primaries = RevisionRole.SHADOW, predictions
        lane.submit(silent)


def _nobody_listens(reply: Reply) -> None:
    if reply.status >= 500:
        log.error("a shadow failed: %s", reply.body[:300].decode("utf-8", "replace"))
