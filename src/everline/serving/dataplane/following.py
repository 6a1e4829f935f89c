"""Follows the desired state, and tells the control plane how it goes: two threads beside the event loop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from everline.errors import EverlineError, IntegrityError, UnavailableError
from everline.governance.signing import VerifyKey
from everline.serving.dataplane.control_plane import ControlPlane
from everline.serving.dataplane.loading import Loader
from everline.serving.dataplane.metrics import WINDOW_S, Metrics, RevisionStats
from everline.serving.dataplane.routing import RoutingTable, ServedEndpoint, ServedRevision, route
from everline.serving.dataplane.store import LocalStore
from everline.serving.types import DesiredEndpoint, DesiredRevision, DesiredState, Health, RevisionHealth

log = logging.getLogger("everline.serve")

_BACK_OFF_FIRST_S = 0.25
_BACK_OFF_MAX_S = 10.0


class Source(Protocol):
    """Where a process learns what to serve: a control plane that it follows, or a bundle.

    Attributes:
        table: what is served; None until there is anything.
        trouble: why no control plane is followed; None while one is.
    """

    table: RoutingTable | None
    trouble: str | None

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
        metrics: Metrics,
        *,
        key: VerifyKey | None,
        wait_s: float,
        refused_retry_s: float,
    ) -> None:
        self._store = store
        self._control_plane = control_plane
        self._metrics = metrics
        self._key = key
        self._wait_s = wait_s
        self._refused_retry_s = refused_retry_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)
        self._retry_at = 0.0
        self._desired: DesiredState | None = None
        self.table: RoutingTable | None = None
        """What is served; None until a first state was applied. Replaced whole, so that readers need no lock."""
        self.trouble: str | None = "no state was received yet"
        """Why the control plane cannot be followed; None while it can."""

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; a question that waits for newer state dies with the process."""
        self._stop.set()

    def _run(self) -> None:
        kept = self._store.read_state()
        try:
            self._key = self._key or self._store.read_pinned_key()
            if kept is not None and self._key is not None:
                self._apply(kept, key=self._key)
        except EverlineError as error:
            self._troubled(error)
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
        retry = self._refused_something()
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

    def _refused_something(self) -> bool:
        table = self.table
        return table is not None and any(not one.ready for endpoint in table.endpoints for one in endpoint.revisions)

    def _apply(self, state: DesiredState, *, key: VerifyKey) -> None:
        loader = Loader(self._store, download=self._control_plane.download, key=key)
        before = {} if self.table is None else {_key(one.desired): one for one in self.table.endpoints}
        endpoints = []
        for desired in state.endpoints:
            old = before.get(_key(desired))
            revisions = [self._serve(loader, desired, revision, old) for revision in desired.revisions]
            endpoints.append(route(desired, revisions, before=old))
        self.table = RoutingTable(generation=state.generation, endpoints=endpoints)
        self._desired = state
        self._retry_at = time.monotonic() + self._refused_retry_s
        self._store.write_state(state)

    def _serve(
        self, loader: Loader, endpoint: DesiredEndpoint, revision: DesiredRevision, old: ServedEndpoint | None
    ) -> ServedRevision:
        known = _find(old, revision.revision)
        stats = (
            known.stats
            if known
            else RevisionStats(self._metrics, endpoint=endpoint.endpoint, revision=revision.revision)
        )
        if known is not None and known.ready and _same_code(known.desired, revision):
            return msgspec.structs.replace(known, desired=revision)
        ready = self._metrics.ready.labels(endpoint.endpoint, revision.revision)
        what = f"{endpoint.endpoint}: {revision.model}/{revision.version} (revision {revision.revision})"
        try:
            began = time.monotonic()
            predictor = loader.load(endpoint, revision)
            log.debug("%s costs %s", what, predictor.cost_us)  # measured here, so that no request waits for it
            self._metrics.load_s.labels(endpoint.endpoint, revision.revision).set(time.monotonic() - began)
        except EverlineError as error:
            ready.set(0)
            refused = isinstance(error, IntegrityError)
            log.error("%s %s: %s", "refused" if refused else "not loaded", what, error.message)
            return ServedRevision(desired=revision, stats=stats, reason=error.message)
        except Exception as error:  # one package that cannot be loaded must not stop the others
            ready.set(0)
            log.exception("not loaded %s", what)
            return ServedRevision(desired=revision, stats=stats, reason=f"{type(error).__name__}: {error}")
        ready.set(1)
        log.info("serving %s", what)
        return ServedRevision(desired=revision, stats=stats, predictor=predictor)

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
        while not self._stop.wait(self._every_s):
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


def _key(endpoint: DesiredEndpoint) -> tuple[str, str]:
    return endpoint.project, endpoint.endpoint


def _find(endpoint: ServedEndpoint | None, revision: str) -> ServedRevision | None:
    if endpoint is None:
        return None
    return next(
        (one for one in [*endpoint.revisions, endpoint.primary] if one and one.desired.revision == revision), None
    )


def _same_code(known: DesiredRevision, now: DesiredRevision) -> bool:
    """Whether nothing changed but share and role, so that the verified model in memory still is the right one."""
    return msgspec.structs.replace(now, share=known.share, role=known.role) == known
