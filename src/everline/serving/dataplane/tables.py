"""From desired states to routing tables: what is new is verified and loaded, what did not change is kept."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from everline.errors import EverlineError, IntegrityError
from everline.governance.signing import VerifyKey
from everline.models.package import Predictor
from everline.serving.dataplane.applying import IsNewest
from everline.serving.dataplane.loading import Loader
from everline.serving.dataplane.metrics import Metrics, RevisionStats
from everline.serving.dataplane.routing import RoutingTable, ServedEndpoint, ServedRevision, route
from everline.serving.dataplane.store import LocalStore
from everline.serving.types import DesiredEndpoint, DesiredRevision, DesiredState

log = logging.getLogger("everline.serve")


class Tables:
    """Applies desired states in this process.

    Attributes:
        table: what is served; None until a first state was applied. Replaced whole, so that readers need no lock.
    """

    def __init__(
        self,
        store: LocalStore,
        metrics: Metrics,
        *,
        download: Callable[[str, Path], object],
        pickle_projects: str = "",
    ) -> None:
        """Begin with nothing.

        Args:
            download: writes the blob of a digest to a path.
            pickle_projects: by comma, projects whose MLflow models may hold pickles.
        """
        self._pickle_projects = [one.strip() for one in pickle_projects.split(",") if one.strip()]
        self._store = store
        self._metrics = metrics
        self._download = download
        self.table: RoutingTable | None = None
        self._lock = threading.Lock()
        self._spare: dict[str, ServedRevision] = {}
        """What was loaded for a state that a newer one overtook."""

    def prefer(self, state: DesiredState) -> bool:
        """Route by a state as far as its revisions are loaded; whether all of them are.

        What is not loaded yet is left out: the primary before it goes on, a canary's share stays with the primary.
        """
        with self._lock:
            if self.table is None:
                return False
            before = {_key(one.desired): one for one in self.table.endpoints}
            endpoints, complete = [], True
            for desired in state.endpoints:
                old = before.get(_key(desired))
                revisions = [_kept(old, one) or _not_yet(old, one) for one in desired.revisions]
                routed = route(desired, revisions, before=old)
                known = [one for one in revisions if one.ready]
                complete = complete and len(known) == len(revisions)
                endpoints.append(msgspec.structs.replace(routed, revisions=known))
            generation = state.generation if complete else self.table.generation
            self.table = RoutingTable(generation=generation, endpoints=endpoints)
            return complete

    def apply(self, state: DesiredState, *, key: VerifyKey, is_newest: IsNewest) -> bool:
        """Verify and load what is new, and replace the table; whether nothing was refused."""
        loader = Loader(
            self._store, download=self._download, key=key, rotations=state.rotations,
            pickle_projects=self._pickle_projects,
        )  # fmt: skip
        table = self.table
        before = {} if table is None else {_key(one.desired): one for one in table.endpoints}
        found: dict[str, ServedRevision] = {}
        for desired in state.endpoints:
            for revision in desired.revisions:
                if not is_newest():
                    self._spare = {one.desired.revision: one for one in found.values() if one.ready}
                    return False
                found[revision.revision] = self._serve(loader, desired, revision, before.get(_key(desired)))
        with self._lock:
            if not is_newest():
                self._spare = {one.desired.revision: one for one in found.values() if one.ready}
                return False
            now = {} if self.table is None else {_key(one.desired): one for one in self.table.endpoints}
            endpoints = [
                route(one, [found[item.revision] for item in one.revisions], before=now.get(_key(one)))
                for one in state.endpoints
            ]
            self.table = RoutingTable(generation=state.generation, endpoints=endpoints)
            self._spare = {}
        return all(one.ready for one in found.values())

    def _serve(
        self, loader: Loader, endpoint: DesiredEndpoint, revision: DesiredRevision, old: ServedEndpoint | None
    ) -> ServedRevision:
        known = _find(old, revision.revision) or self._spare.get(revision.revision)
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
        # Frameworks take seconds to import; the compiled model answers requests of any size until then.
        threading.Thread(target=_prepare, args=(predictor,), name="prepare", daemon=True).start()
        return ServedRevision(desired=revision, stats=stats, predictor=predictor)


def _kept(endpoint: ServedEndpoint | None, revision: DesiredRevision) -> ServedRevision | None:
    known = _find(endpoint, revision.revision)
    if known is None or not known.ready or not _same_code(known.desired, revision):
        return None
    return msgspec.structs.replace(known, desired=revision)


def _not_yet(endpoint: ServedEndpoint | None, revision: DesiredRevision) -> ServedRevision:
    known = _find(endpoint, revision.revision)
    stats: Any = known.stats if known is not None else None  # nothing is counted of what is left out
    return ServedRevision(desired=revision, stats=stats, reason="It is not loaded yet.")


def _prepare(predictor: Predictor) -> None:
    """Load the runtime that answers large requests."""
    try:
        predictor.prepare()
    except EverlineError as error:
        log.warning("requests of any size are answered by %s: %s", predictor.runtimes[0], error.message)
    except Exception:  # the first runtime answers all the same
        log.exception("requests of any size are answered by %s", predictor.runtimes[0])


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
