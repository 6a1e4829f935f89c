"""What a run tells whoever keeps its records: many things at a time, in the order in which they happened."""

from __future__ import annotations

import time
from collections.abc import Callable

from everline.pipelines.journal import Journal
from everline.pipelines.types import RunCancelledError, StepOutput, StepUpdate

BATCH = 1_000
BEAT_S = 1.0
"""How often a driver that has nothing to tell asks whether to go on."""
LINGER_S = 0.25
"""How long output waits for more before it is sent."""


class Reporter:
    """Gathers states and output, and hears whether the run is cancelled.

    Args:
        watch: is told of each state at once, for live progress.
    """

    def __init__(self, journal: Journal, *, run: str, watch: Callable[[StepUpdate], None]) -> None:
        self._journal, self._run, self._watch = journal, run, watch
        self.ends: list[StepUpdate] = []
        """How each step ended, in the order of their ends."""
        self._pending: dict[str, StepUpdate] = {}
        self._output: list[StepOutput] = []
        self._output_at = 0.0
        self._told_at = time.monotonic()

    def state(self, update: StepUpdate) -> None:
        """A step stands like this now; of several states before the next `flush` the last one is recorded."""
        self._pending[update.uid] = update
        self._watch(update)

    def end(self, update: StepUpdate) -> None:
        """A step ended like this."""
        self.ends.append(update)
        self.state(update)

    def known(self, update: StepUpdate) -> None:
        """A step ended like this in an earlier driver of the run; it is recorded already."""
        self.ends.append(update)
        self._watch(update)

    def printed(self, uid: str, data: bytes) -> None:
        """A step printed something."""
        if not self._output:
            self._output_at = time.monotonic()
        self._output.append(StepOutput(uid=uid, text=data.decode(errors="replace")))

    @property
    def pause_s(self) -> float:
        """How long nothing needs to be told."""
        return LINGER_S if self._output else BEAT_S

    def flush(self) -> None:
        """Record everything, and return when it is kept.

        Raises:
            RunCancelledError: somebody cancelled the run.
        """
        if not self._pending and not self._output:
            return
        pending, self._pending = list(self._pending.values()), {}
        output, self._output = self._output, []
        for start in range(0, max(1, len(pending)), BATCH):
            orders = self._journal.record(pending[start : start + BATCH], output if start == 0 else [])
            self._obey(orders.cancel)
        self._told_at = time.monotonic()

    def tell(self, *, soon: bool) -> None:
        """Record what has waited long enough, or only say that the driver is alive.

        Args:
            soon: there will be more to record in a moment, so that states may wait for it.
        """
        now = time.monotonic()
        if (self._output and now - self._output_at >= LINGER_S) or (self._pending and not soon):
            self.flush()
        elif now - self._told_at >= BEAT_S:
            self._told_at = now
            self._obey(self._journal.beat().cancel)

    def _obey(self, cancel: str | None) -> None:
        if cancel is not None:
            raise RunCancelledError(
                f"The run {self._run} was cancelled by {cancel}.",
                hint="`everline run --resume` goes on where it stopped.",
            )
