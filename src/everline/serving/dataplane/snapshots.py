"""What each worker of one data plane says of itself, in a file that its siblings read.

<home>/dataplane/workers/<number>.json

There is no channel between workers: each replaces its file twice a second, and whoever is asked for the health or the
metrics of the whole adds up what he finds. Counters of a worker that died stay: its successor begins with them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
from prometheus_client import generate_latest
from prometheus_client.core import Metric

from everline.serving.dataplane.metrics import Metrics
from everline.serving.dataplane.store import write_whole
from everline.serving.types import Health, RevisionHealth

EVERY_S = 0.5
_FRESH_S = 10.0
_MERGE: dict[str, Callable[[Iterable[float]], float]] = {
    "everline_revision_ready": min,
    "everline_busy_ratio": max,
    "everline_spool_bytes": max,
    "everline_model_load_seconds": max,
    "process_start_time_seconds": min,
    "process_max_fds": max,
}
_COUNTED = frozenset({"counter", "histogram"})

Sample = tuple[str, dict[str, str], float]


class Family(msgspec.Struct, frozen=True):
    """One metric family with its samples."""

    name: str
    about: str
    kind: str
    samples: list[Sample]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One worker at one moment.

    Attributes:
        at: seconds since 1970.
        past: what predecessors of this worker counted.
    """

    worker: int
    at: float
    health: Health
    families: list[Family]
    past: list[Family] = []


class Snapshots:
    """The workers' files; a worker has a number of its own, the supervisor has none."""

    def __init__(self, directory: Path, *, metrics: Metrics, number: int | None = None) -> None:
        self._directory = directory
        self._metrics = metrics
        self._number = number
        before = None if number is None else _read(self._file(number))
        self._past = [] if before is None else [*before.past, *(f for f in before.families if f.kind in _COUNTED)]

    def clear(self) -> None:
        """Forget the workers of an earlier run."""
        self._directory.mkdir(exist_ok=True)
        for path in self._directory.glob("*.json"):
            path.unlink()

    def write(self, health: Health) -> None:
        """Tell how this worker is."""
        assert self._number is not None
        snapshot = Snapshot(
            worker=self._number, at=time.time(), health=health, families=self._families(), past=self._past
        )
        write_whole(self._file(self._number), msgspec.json.encode(snapshot), lasting=False)

    def has(self, number: int) -> bool:
        """Whether a worker has told how it is since it was started."""
        return self._file(number).exists()

    def health(self, own: Health) -> Health:
        """The whole, as its freshest words say; `own` stands for this process."""
        others = [snapshot.health for snapshot in self._others() if time.time() - snapshot.at < _FRESH_S]
        if not others:
            return own
        # The supervisor answers nothing itself: its own words would make the whole look as if it had nothing to serve.
        return merge_health(own, others if self._number is None else [own, *others])

    def text(self) -> bytes:
        """The metrics of the whole in the Prometheus text format."""
        families = [*self._families(), *self._past]
        for snapshot in self._others():
            families += [*snapshot.families, *snapshot.past]
        return generate_latest(_Collected(merge_families(families)))

    def _families(self) -> list[Family]:
        return [
            Family(one.name, one.documentation, one.type, [(s.name, dict(s.labels), s.value) for s in one.samples])
            for one in self._metrics.registry.collect()
        ]

    def _others(self) -> Iterator[Snapshot]:
        for path in sorted(self._directory.glob("*.json")):
            snapshot = _read(path)
            if snapshot is not None and snapshot.worker != self._number:
                yield snapshot

    def _file(self, number: int) -> Path:
        return self._directory / f"{number}.json"


class _Collected:
    """What `generate_latest` takes for a registry."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """The families."""
        return self._families


def merge_families(families: Iterable[Family]) -> list[Metric]:
    """One family per name: samples of the same labels are added up, but for those that are no sums."""
    merged: dict[str, Metric] = {}
    values: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[float]] = defaultdict(list)
    for family in families:
        merged.setdefault(family.name, Metric(family.name, family.about, family.kind))
        for name, labels, value in family.samples:
            values[family.name, name, tuple(sorted(labels.items()))].append(value)
    for (family_name, name, labelled), found in values.items():
        merge = min if name.endswith("_created") else _MERGE.get(name, sum)
        merged[family_name].add_sample(name, dict(labelled), merge(found))
    return list(merged.values())


def merge_health(own: Health, every: list[Health]) -> Health:
    """The health of all workers as that of one data plane: it is as far as the slowest, and ready where all are."""
    by_revision: dict[tuple[str, str, str], list[RevisionHealth]] = defaultdict(list)
    for health in every:
        for one in health.revisions:
            by_revision[one.project, one.endpoint, one.revision].append(one)
    return msgspec.structs.replace(
        own,
        generation=min(health.generation for health in every),
        revisions=[_merge_revision(found, workers=len(every)) for found in by_revision.values()],
    )


def _merge_revision(found: list[RevisionHealth], *, workers: int) -> RevisionHealth:
    ready = len(found) == workers and all(one.ready for one in found)
    reasons = [one.reason for one in found if one.reason] or ([] if ready else ["not every worker has loaded it yet"])
    lasts = [one.last_prediction_at for one in found if one.last_prediction_at]
    return msgspec.structs.replace(
        found[0],
        ready=ready,
        reason=None if ready else reasons[0],
        requests=sum(one.requests for one in found),
        errors=sum(one.errors for one in found),
        flags=sum(one.flags for one in found),
        in_flight=sum(one.in_flight for one in found),
        window_requests=sum(one.window_requests for one in found),
        p50_ms=_worst(one.p50_ms for one in found),
        p95_ms=_worst(one.p95_ms for one in found),
        p99_ms=_worst(one.p99_ms for one in found),
        last_prediction_at=max(lasts, default=None),
    )


def _worst(values: Iterable[float | None]) -> float | None:
    """Percentiles of parts have no percentile of the whole; the slowest worker's is what an alert wants to see."""
    return max((value for value in values if value is not None), default=None)


def _read(path: Path) -> Snapshot | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Snapshot)
    except (OSError, msgspec.DecodeError):
        return None
