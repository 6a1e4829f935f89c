"""Experiments and runs through the client; `everline.run()` itself is in `sdk.logging`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from everline.runs.types import (
    DEFAULT_EXPERIMENT,
    Artifact,
    CreateRun,
    Experiment,
    FinishRun,
    Metric,
    MetricHistory,
    Run,
    RunInput,
    RunOutput,
    RunStatus,
)
from everline.sdk.client import Client, Page
from everline.sdk.frames import ComparedRuns, FoundRuns

RUNS_PER_PAGE = 1_000


class _FoundPage(msgspec.Struct, frozen=True):
    items: list[Run]
    next: str | None = None


class _Digest(msgspec.Struct, frozen=True):
    digest: str


class RunsApi:
    """Experiments and runs."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(
        self,
        *,
        experiment: str = DEFAULT_EXPERIMENT,
        name: str | None = None,
        pipeline: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start a run; values of parameters and tags are written as text."""
        body = CreateRun(experiment=experiment, name=name, pipeline=pipeline, params=_texts(params), tags=_texts(tags))
        run: Run = self._client.call("POST", "/runs", body=body, returns=Run)
        return run

    def log_batch(
        self,
        run: str,
        *,
        metrics: Mapping[str, float] | Sequence[Metric] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        inputs: Sequence[RunInput] = (),
        outputs: Sequence[RunOutput] = (),
    ) -> None:
        """Log many things at once, all or nothing; metrics given by name are of step 0 and now."""
        if isinstance(metrics, Mapping):
            now = _now_ms()
            metrics = [Metric(key=key, value=float(value), at_ms=now) for key, value in metrics.items()]
        body = {
            "metrics": [_point(point) for point in metrics],
            "params": _texts(params),
            "tags": _texts(tags),
            "inputs": inputs,
            "outputs": outputs,
        }
        self._client.call("POST", f"/runs/{run}/batch", body=body)

    def finish(self, run: str, *, status: RunStatus | str = RunStatus.FINISHED) -> Run:
        """End a run as finished, failed or killed."""
        body = FinishRun(status=RunStatus(status))
        finished: Run = self._client.call("POST", f"/runs/{run}/finish", body=body, returns=Run)
        return finished

    def get(self, run: str) -> Run:
        """Return a run."""
        found: Run = self._client.call("GET", f"/runs/{run}", returns=Run)
        return found

    def list(
        self,
        *,
        experiment: str | None = None,
        pipeline: str | None = None,
        status: RunStatus | str | None = None,
        limit: int = 100,
    ) -> list[Run]:
        """The newest runs first."""
        query = {
            "experiment": experiment,
            "pipeline": pipeline,
            "status": None if status is None else RunStatus(status).value,
        }
        return self._client.list_all("/runs", kind=Run, query=query, limit=limit)

    def search(
        self,
        filter: str = "",  # noqa: A002 - the word of the protocol
        *,
        order_by: Sequence[str] = (),
        experiments: Sequence[str] = (),
        limit: int = 100,
    ) -> FoundRuns:
        """Find runs in MLflow's language, such as `metrics.auc > 0.7 AND params.depth = '6'`.

        Args:
            limit: any number; pages are followed until it is reached.

        Returns:
            A list of runs, which is also a frame: `.to_pandas()`, `.to_polars()`, `.to_arrow()`.
        """
        found = FoundRuns()
        cursor: str | None = None
        while len(found) < limit:
            body = {"filter": filter, "order_by": order_by, "experiments": experiments, "cursor": cursor}
            asked = body | {"limit": min(RUNS_PER_PAGE, limit - len(found))}
            page = self._client.call("POST", "/runs/search", body=asked, returns=_FoundPage)
            found += page.items
            cursor = page.next
            if cursor is None:
                break
        return found

    def compare(self, runs: Sequence[str]) -> ComparedRuns:
        """Put runs side by side: parameters, metrics, code, environment and data; also a frame, as `search` is."""
        named = {"runs": ",".join(runs)}
        compared: ComparedRuns = self._client.call("GET", "/runs/compare", query=named, returns=ComparedRuns)
        return compared

    def history(self, run: str, key: str) -> MetricHistory:
        """The points of one metric in order of time."""
        history: MetricHistory = self._client.call(
            "GET", f"/runs/{run}/metrics", query={"key": key}, returns=MetricHistory
        )
        return history

    def set_record(self, run: str, record: Mapping[str, Any]) -> str:
        """Keep what is needed to do a run again; return its digest."""
        kept: _Digest = self._client.call("PUT", f"/runs/{run}/record", body=dict(record), returns=_Digest)
        return kept.digest

    def record(self, run: str) -> dict[str, Any]:
        """What is needed to do a run again."""
        record: dict[str, Any] = self._client.call("GET", f"/runs/{run}/record", returns=dict[str, Any])
        return record

    def log_artifact(self, run: str, file: Path | str, *, path: str | None = None) -> Artifact:
        """Upload a file; `path` is its name below the run's root, by default the file's own."""
        local = Path(file)
        return self._name(run, path or local.name, self._client.blobs.put_file(local))

    def log_bytes(self, run: str, data: bytes, *, path: str) -> Artifact:
        """Upload bytes as a file."""
        return self._name(run, path, self._client.blobs.put_bytes(data))

    def artifacts(self, run: str, *, path: str = "") -> Sequence[Artifact]:
        """Files and folders directly below a folder."""
        page = self._client.call("GET", f"/runs/{run}/artifacts", query={"path": path}, returns=Page)
        return msgspec.convert(page.items, tuple[Artifact, ...])

    def artifact(self, run: str, path: str) -> bytes:
        """The content of a file."""
        return self._client.send("GET", f"/api/v1/runs/{run}/artifacts/content", query={"path": path}).content

    def delete(self, run: str) -> None:
        """Hide a run."""
        self._client.call("DELETE", f"/runs/{run}")

    def restore(self, run: str) -> None:
        """Bring a deleted run back."""
        self._client.call("POST", f"/runs/{run}/restore")

    def experiments(self, *, limit: int = 1_000) -> Sequence[Experiment]:
        """Experiments, the newest first."""
        return tuple(self._client.list_all("/experiments", kind=Experiment, limit=limit))

    def _name(self, run: str, path: str, digest: str) -> Artifact:
        body = {"path": path, "digest": digest}
        named: Artifact = self._client.call("PUT", f"/runs/{run}/artifacts", body=body, returns=Artifact)
        return named


def _point(point: Metric) -> dict[str, Any]:
    """A metric on the wire. JSON has no NaN and no infinities: they travel as text."""
    return {"key": point.key, "value": _json_number(point.value), "at_ms": point.at_ms, "step": point.step}


def _json_number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _texts(values: Mapping[str, Any] | None) -> dict[str, str]:
    return {key: str(value) for key, value in (values or {}).items()}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
