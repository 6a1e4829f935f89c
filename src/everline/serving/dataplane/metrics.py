"""What one revision did since the start of the process: for Prometheus, and for the health report."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from everline.models.signature import Finding

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
WINDOW_S = 60.0
_WINDOW_REQUESTS_MAX = 10_000
_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """The metric families of one process, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        which = ("endpoint", "revision")
        self.requests = Counter(
            "everline_requests", "Requests to an endpoint, by HTTP status.", (*which, "code"), registry=self._registry
        )
        self.errors = Counter(
            "everline_request_errors", "Requests that were not answered.", (*which, "reason"), registry=self._registry
        )
        self.latency = Histogram(
            "everline_request_seconds",
            "Time from a request's arrival to its answer.",
            which,
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "everline_requests_in_flight", "Requests that a revision is working on.", which, registry=self._registry
        )
        self.predictions = Counter("everline_predictions", "Answered rows.", which, registry=self._registry)
        self.flags = Counter(
            "everline_input_flags",
            "Rows with an input outside of the training data.",
            (*which, "field", "problem"),
            registry=self._registry,
        )
        self.ready = Gauge(
            "everline_revision_ready", "1 if a revision is verified and loaded.", which, registry=self._registry
        )
        self.spool_bytes = Gauge(
            "everline_spool_bytes", "Prediction log on this disk that has not shipped.", registry=self._registry
        )

    def text(self) -> bytes:
        """Everything in the Prometheus text format."""
        return generate_latest(self._registry)


class RevisionStats:
    """Counters of one revision; written by the event loop, read by the reporting thread."""

    def __init__(self, metrics: Metrics, *, endpoint: str, revision: str) -> None:
        self._metrics = metrics
        self._labels = (endpoint, revision)
        self._latency = metrics.latency.labels(endpoint, revision)
        self._in_flight = metrics.in_flight.labels(endpoint, revision)
        self._predictions = metrics.predictions.labels(endpoint, revision)
        self._answered = metrics.requests.labels(endpoint, revision, "200")
        self._window: deque[tuple[float, float]] = deque(maxlen=_WINDOW_REQUESTS_MAX)
        self.requests = 0
        self.errors = 0
        self.flags = 0
        self.in_flight = 0
        self.last_prediction_at: datetime | None = None

    def started(self) -> None:
        """A request was given to this revision."""
        self.requests += 1
        self.in_flight += 1
        self._in_flight.inc()

    def ended(self) -> None:
        """The request is over, whichever way."""
        self.in_flight -= 1
        self._in_flight.dec()

    def answered(self, *, rows: int, seconds: float) -> None:
        """The request was answered."""
        self._answered.inc()
        self._predictions.inc(rows)
        self._latency.observe(seconds)
        self._window.append((time.monotonic(), seconds))
        self.last_prediction_at = datetime.now(UTC)

    def refused(self, *, code: int, reason: str) -> None:
        """The request was not answered; only failures of this process count as errors of the revision."""
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
