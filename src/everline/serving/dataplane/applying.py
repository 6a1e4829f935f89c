"""Bringing desired states about beside the one who hears of them.

A model may take minutes to fetch and load. Whoever follows must hear of a rollback meanwhile, and what it goes back to
is loaded: that takes effect at once, before anything else is looked at. A state that a newer one has overtaken is
not brought to its end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from everline.governance.signing import VerifyKey
from everline.serving.dataplane.routing import RoutingTable
from everline.serving.types import DesiredState

log = logging.getLogger("everline.serve")

IsNewest = Callable[[], bool]
"""Whether no newer state has come meanwhile."""


class Applier(Protocol):
    """What brings a desired state about."""

    table: RoutingTable | None

    def prefer(self, state: DesiredState) -> bool:
        """Bring about what needs no fetching and loading; whether that is everything. Called from any thread."""

    def apply(self, state: DesiredState, *, key: VerifyKey, is_newest: IsNewest) -> bool:
        """Bring a state about as far as possible; whether nothing of it was refused. Called from one thread."""


class Applying:
    """Brings about the newest state that it was given, in a thread of its own."""

    def __init__(
        self,
        applier: Applier,
        *,
        early: Callable[[DesiredState], None],
        done: Callable[[DesiredState, bool], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Begin with nothing.

        Args:
            early: is told a state that is in force already, although it was not looked at as a whole yet.
            done: is told a state that was brought about, and whether nothing of it was refused.
            failed: is told a fault; the next state is tried all the same.
        """
        self._applier = applier
        self._early = early
        self._done = done
        self._failed = failed
        self._newest: tuple[DesiredState, VerifyKey] | None = None
        self._given = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="apply", daemon=True)

    def now(self, state: DesiredState, key: VerifyKey) -> None:
        """Bring a state about in the caller's thread; only before `start`."""
        self._done(state, self._applier.apply(state, key=key, is_newest=lambda: True))

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; what is being loaded dies with the process."""
        self._ending = True
        self._given.set()

    def give(self, state: DesiredState, key: VerifyKey) -> None:
        """Make this the state to bring about."""
        self._newest = state, key
        if self._applier.prefer(state):
            self._early(state)
        self._given.set()

    def _run(self) -> None:
        while True:
            self._given.wait()
            self._given.clear()
            if self._ending:
                return
            if self._newest is not None:
                self._apply(*self._newest)

    def _apply(self, state: DesiredState, key: VerifyKey) -> None:
        def is_newest() -> bool:
            return self._newest is not None and self._newest[0] is state

        try:
            complete = self._applier.apply(state, key=key, is_newest=is_newest)
            if is_newest():
                self._done(state, complete)
        except Exception as error:  # a fault of ours must not end the following; it is shown in /health
            log.exception("the desired state could not be applied")
            self._failed(error)
