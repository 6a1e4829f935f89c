"""What one revision did since the start of the process: for Prometheus, and for the health report.

The event loop counts a whole batch at a time, and in plain numbers: a counter of `prometheus_client` takes a lock, and
would cost a request as much as its model does.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from everline.models.signature import Finding

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
WINDOW_S = 60.0
_WINDOW_REQUESTS_MAX = 10_000
_BUSY_S = 10.0
_BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_BATCH_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0)
_WHICH = ("endpoint", "revision")


class Histogram(Collector):
    """Counts of values below growing bounds, per endpoint and revision."""

    def __init__(self, name: str, about: str, bounds: Sequence[float], *, registry: CollectorRegistry) -> None:
        self._name = name
        self._about = about
        self._bounds = bounds
        self._kept: dict[tuple[str, str], Distribution] = {}
        registry.register(self)

    def labels(self, endpoint: str, revision: str) -> Distribution:
        """The distribution of one revision."""
        return self._kept.setdefault((endpoint, revision), Distribution(self._bounds))

    def collect(self) -> Iterator[Metric]:
        """All of them, as Prometheus reads them."""
        family = HistogramMetricFamily(self._name, self._about, labels=_WHICH)
        for which, distribution in list(self._kept.items()):
            total, buckets = 0, []
            for bound, count in zip((*self._bounds, float("inf")), distribution.counts, strict=True):
                total += count
                buckets.append(("+Inf" if bound == float("inf") else repr(bound), total))
            family.add_metric(which, buckets, distribution.sum)
        yield family


class Distribution:
    """How many values lie below each bound; written by one thread."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, values: Iterable[float]) -> None:
        """Count values."""
        for value in values:
            self.counts[bisect_left(self._bounds, value)] += 1
            self.sum += value


class Metrics:
    """The metric families of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "everline_requests", "Requests to an endpoint, by HTTP status.", (*_WHICH, "code"), registry=self.registry
        )
        self.errors = Counter(
            "everline_request_errors", "Requests that were not answered.", (*_WHICH, "reason"), registry=self.registry
        )
        self.latency = Histogram(
            "everline_request_seconds",
            "Time from a request's arrival to its answer.",
            _BUCKETS_S,
            registry=self.registry,
        )
        self.batch = Histogram(
            "everline_batch_rows", "Rows that a model was asked together.", _BATCH_BUCKETS, registry=self.registry
        )
        self.in_flight = Gauge(
            "everline_requests_in_flight", "Requests that a revision is working on.", _WHICH, registry=self.registry
        )
        self.queue = Gauge(
            "everline_queue_rows", "Rows that wait until the model is free.", _WHICH, registry=self.registry
        )
        self.kept_answers = Counter(
            "everline_kept_answers", "Requests whose answer was known.", _WHICH, registry=self.registry
        )
        self.predictions = Counter("everline_predictions", "Answered rows.", _WHICH, registry=self.registry)
        self.flags = Counter(
            "everline_input_flags",
            "Rows with an input outside of the training data.",
            (*_WHICH, "field", "problem"),
            registry=self.registry,
        )
        self.ready = Gauge(
            "everline_revision_ready", "1 if a revision is verified and loaded.", _WHICH, registry=self.registry
        )
        self.load_s = Gauge(
            "everline_model_load_seconds",
            "How long it took to verify and load a revision.",
            _WHICH,
            registry=self.registry,
        )
        busy = Gauge("everline_busy_ratio", "Share of one core that this process took lately.", registry=self.registry)
        busy.set_function(_Busy().ratio)
        self.shadow_dropped = Counter(
            "everline_shadow_dropped", "Requests that a busy shadow was not asked.", _WHICH, registry=self.registry
        )
        self.spool_bytes = Gauge(
            "everline_spool_bytes", "Prediction log on this disk that has not shipped.", registry=self.registry
        )

    def text(self) -> bytes:
        """Everything in the Prometheus text format."""
        return generate_latest(self.registry)


class _Busy:
    """How busy a process is: what autoscalers go by. Near 1, answers wait for one another."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, float]] = deque([(time.monotonic(), time.process_time())], maxlen=100)

    def ratio(self) -> float:
        """CPU seconds for each second of the last ten or more."""
        now, used = time.monotonic(), time.process_time()
        while len(self._looks) > 1 and now - self._looks[1][0] >= _BUSY_S:
            self._looks.popleft()
        since, before = self._looks[0]
        self._looks.append((now, used))
        return (used - before) / max(now - since, 1e-3)


class RevisionStats:
    """Counters of one revision; written by the event loop, read by the reporting thread."""

    def __init__(self, metrics: Metrics, *, endpoint: str, revision: str) -> None:
        self._metrics = metrics
        self._labels = (endpoint, revision)
        self._latency = metrics.latency.labels(endpoint, revision)
        self._batch = metrics.batch.labels(endpoint, revision)
        self._predictions = metrics.predictions.labels(endpoint, revision)
        self._answered = metrics.requests.labels(endpoint, revision, "200")
        metrics.in_flight.labels(endpoint, revision).set_function(lambda: self.in_flight)
        metrics.queue.labels(endpoint, revision).set_function(lambda: self.queue_rows)
        self._window: deque[tuple[float, float]] = deque(maxlen=_WINDOW_REQUESTS_MAX)
        self.requests = 0
        self.errors = 0
        self.flags = 0
        self.in_flight = 0
        self.queue_rows = 0
        self._last_at = 0.0

    @property
    def last_prediction_at(self) -> datetime | None:
        """When a request was answered last."""
        return datetime.fromtimestamp(self._last_at, UTC) if self._last_at else None

    def started(self) -> None:
        """A request was given to this revision."""
        self.requests += 1
        self.in_flight += 1

    def answered(self, seconds: Sequence[float], *, rows: int) -> None:
        """Requests were answered together, after so many seconds each."""
        self.in_flight -= len(seconds)
        self._answered.inc(len(seconds))
        self._predictions.inc(rows)
        self._batch.add((rows,))
        self._latency.add(seconds)
        now = time.monotonic()
        self._window.extend((now, one) for one in seconds)
        self._last_at = time.time()

    def kept(self, requests: int) -> None:
        """Requests were answered with what the model had said to the same before."""
        self._metrics.kept_answers.labels(*self._labels).inc(requests)

    def refused(self, *, code: int, reason: str, started: bool = True) -> None:
        """A request was not answered; only failures of this process count as errors of the revision."""
        self.in_flight -= started
        self._metrics.requests.labels(*self._labels, str(code)).inc()
        self._metrics.errors.labels(*self._labels, reason).inc()
        if code >= 500:
            self.errors += 1

    def flagged(self, findings: list[Finding]) -> None:
        """Inputs lay outside of the training data."""
        for finding in findings:
            # An unknown column's name comes from the caller: it must not become a label.
            field = "" if finding.problem == "unknown" else finding.field
            self._metrics.flags.labels(*self._labels, field, finding.problem).inc(finding.count)
            self.flags += finding.count

    def percentiles_ms(self) -> tuple[int, list[float | None]]:
        """Requests of the last `WINDOW_S` seconds, and their p50, p95 and p99 latency by nearest rank."""
        since = time.monotonic() - WINDOW_S
        recent = sorted(seconds for at, seconds in list(self._window) if at >= since)
        if not recent:
            return 0, [None, None, None]
        ranks = [min(int(share * len(recent)), len(recent) - 1) for share in (0.5, 0.95, 0.99)]
        return len(recent), [round(recent[rank] * 1000, 3) for rank in ranks]
