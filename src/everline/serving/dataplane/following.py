"""Follows the desired state, and tells the control plane how it goes: two threads beside the event loop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from everline.errors import EverlineError, UnavailableError
from everline.governance.signing import VerifyKey
from everline.serving.dataplane.applying import Applier, Applying
from everline.serving.dataplane.control_plane import ControlPlane
from everline.serving.dataplane.metrics import WINDOW_S
from everline.serving.dataplane.routing import RoutingTable, ServedEndpoint, ServedRevision
from everline.serving.dataplane.store import LocalStore
from everline.serving.types import DesiredState, Health, RevisionHealth

log = logging.getLogger("everline.serve")

_BACK_OFF_FIRST_S = 0.25
_BACK_OFF_MAX_S = 10.0


class Source(Protocol):
    """Where a process learns what to serve: a control plane that it follows, or a bundle.

    Attributes:
        table: what is served; None until there is anything.
        trouble: why no control plane is followed; None while one is.
    """

    trouble: str | None

    @property
    def table(self) -> RoutingTable | None:
        """What is served."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End soon."""


class Follower:
    """Brings this process to the desired state, from local disk first, then from the control plane, for ever."""

    def __init__(
        self,
        store: LocalStore,
        control_plane: ControlPlane,
        applier: Applier,
        *,
        key: VerifyKey | None,
        wait_s: float,
        refused_retry_s: float,
        on_applied: Callable[[], None] = lambda: None,
    ) -> None:
        """Follow a control plane.

        Args:
            applier: what brings a state about.
            on_applied: called from the following thread after each state was applied and kept on disk.
        """
        self._store = store
        self._control_plane = control_plane
        self._applier = applier
        self._applying = Applying(applier, early=self._early, done=self._done, failed=self._faulted)
        self._on_applied = on_applied
        self._refused = False
        self._key = key
        self._wait_s = wait_s
        self._refused_retry_s = refused_retry_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)
        self._retry_at = 0.0
        self._desired: DesiredState | None = None
        self.trouble: str | None = "no state was received yet"
        """Why the control plane cannot be followed; None while it can."""

    @property
    def table(self) -> RoutingTable | None:
        """What is served; None until a first state was applied."""
        return self._applier.table

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; a question that waits for newer state dies with the process."""
        self._stop.set()
        self._applying.stop()

    def _run(self) -> None:
        kept = self._store.read_state()
        try:
            self._key = self._key or self._store.read_pinned_key()
            if kept is not None and self._key is not None:
                self._desired = kept
                self._applying.now(kept, self._key)
        except EverlineError as error:
            self._troubled(error)
        self._applying.start()
        pause_s = 0.0
        while not self._stop.wait(pause_s):
            try:
                self._follow_once()
                self.trouble, pause_s = None, 0.0
            except EverlineError as error:
                self._troubled(error)
                pause_s = min(max(pause_s * 2, _BACK_OFF_FIRST_S), _BACK_OFF_MAX_S)
            except Exception as error:  # a fault of ours must not end the following; it is shown in /health
                log.exception("the desired state could not be applied")
                self.trouble = f"{type(error).__name__}: {error}"
                pause_s = _BACK_OFF_MAX_S

    def _follow_once(self) -> None:
        if self._key is None:
            self._key = self._control_plane.read_key()
            self._store.pin_key(self._key)
        known = self._desired
        retry = self._refused
        if known is None:
            wait_s = 0.0
        elif retry:
            wait_s = min(self._wait_s, max(self._retry_at - time.monotonic(), _BACK_OFF_FIRST_S))
        else:
            wait_s = self._wait_s
        asked_at = time.monotonic()
        state = self._control_plane.read_state(known.generation if known else 0, wait_s=wait_s)
        if state != known or (retry and time.monotonic() >= self._retry_at):
            self._apply(state, key=self._key)
        elif time.monotonic() - asked_at < _BACK_OFF_FIRST_S:
            # The control plane holds too many such questions already and answers at once.
            self._stop.wait(_BACK_OFF_FIRST_S)

    def _apply(self, state: DesiredState, *, key: VerifyKey) -> None:
        self._refused = False  # until it was looked at
        self._desired = state
        self._applying.give(state, key)

    def _early(self, state: DesiredState) -> None:
        self._store.write_state(state)
        self._on_applied()

    def _done(self, state: DesiredState, complete: bool) -> None:
        self._retry_at = time.monotonic() + self._refused_retry_s
        self._refused = not complete
        self._store.write_state(state)
        self._on_applied()

    def _faulted(self, error: Exception) -> None:
        self.trouble = f"{type(error).__name__}: {error}"
        self._retry_at = time.monotonic() + _BACK_OFF_MAX_S
        self._refused = True

    def _troubled(self, error: EverlineError) -> None:
        if self.trouble != error.message:
            log.warning("%s", error.message)
        self.trouble = error.message


class Reporter:
    """Sends a health report every few seconds; a report that cannot be sent is not missed by anybody."""

    def __init__(
        self,
        source: Source,
        store: LocalStore,
        *,
        report: Callable[[Health], object],
        address: str,
        every_s: float,
        on_spool_bytes: Callable[[int], None],
    ) -> None:
        self._source = source
        self._store = store
        self._report = report
        self._address = address
        self._every_s = every_s
        self._on_spool_bytes = on_spool_bytes
        self._replica = store.replica()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def stop(self) -> None:
        """End with the report at hand."""
        self._stop.set()

    def health(self) -> Health:
        """What this replica says of itself now."""
        table = self._source.table
        return Health(
            replica=self._replica,
            address=self._address,
            generation=table.generation if table else 0,
            spool_bytes=self._store.spool_bytes(),
            segments_refused=self._store.refused_segments(),
            revisions=[
                _revision_health(endpoint, one)
                for endpoint in (table.endpoints if table else [])
                for one in endpoint.told()
            ],
        )

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stop.wait(pause_s):
            pause_s = self._every_s
            try:
                health = self.health()
                self._on_spool_bytes(health.spool_bytes)
                self._report(health)
            except UnavailableError:
                continue  # the follower says so already
            except (EverlineError, OSError) as error:
                log.warning("the health report was not taken: %s", error)


def describe_health(health: Health, *, trouble: str | None, started: bool) -> dict[str, object]:
    """The body of `GET /health`."""
    refused = [one for one in health.revisions if not one.ready]
    status = "starting" if not started else "degraded" if refused or health.segments_refused else "ok"
    return {"status": status, "control_plane": trouble or "reachable", **msgspec.to_builtins(health)}


def _revision_health(endpoint: ServedEndpoint, one: ServedRevision) -> RevisionHealth:
    requests, (p50, p95, p99) = one.stats.percentiles_ms()
    return RevisionHealth(
        endpoint=endpoint.name,
        project=endpoint.desired.project,
        revision=one.desired.revision,
        model=one.desired.model,
        version=one.desired.version,
        package=one.desired.package,
        role=one.desired.role.value,
        share=one.desired.share,
        ready=one.ready,
        reason=one.reason,
        requests=one.stats.requests,
        errors=one.stats.errors,
        flags=one.stats.flags,
        in_flight=one.stats.in_flight,
        window_s=WINDOW_S,
        window_requests=requests,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        last_prediction_at=one.stats.last_prediction_at,
    )
