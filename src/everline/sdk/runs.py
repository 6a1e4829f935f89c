"""Runs through the client, and `everline.run()`: logging that does not hold up the training loop.

with everline.run(experiment="flights", params={"depth": 6}) as run:
    for step in range(100):
        run.log_metric("loss", loss, step=step)
    run.log_artifact("confusion.png")
"""

from __future__ import annotations

import atexit
import io
import math
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from everline.errors import EverlineError, TooBusyError, UnavailableError
from everline.loader import load
from everline.runs.types import (
    DEFAULT_EXPERIMENT,
    Artifact,
    Comparison,
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

METRICS_PER_BATCH_MAX = 1_000
PAIRS_PER_BATCH_MAX = 100
BUFFERED_ITEMS_MAX = 100_000
FLUSH_S = 0.5
RETRIES_MAX = 5
JOIN_S = 30.0


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
    ) -> Sequence[Run]:
        """Find runs in MLflow's language, such as `metrics.auc > 0.7 AND params.depth = '6'`."""
        body = {"filter": filter, "order_by": order_by, "experiments": experiments, "limit": limit}
        page = self._client.call("POST", "/runs/search", body=body, returns=Page)
        return msgspec.convert(page.items, tuple[Run, ...])

    def compare(self, runs: Sequence[str]) -> Comparison:
        """Put runs side by side: parameters, metrics, code, environment and data."""
        compared: Comparison = self._client.call(
            "GET", "/runs/compare", query={"runs": ",".join(runs)}, returns=Comparison
        )
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


class ActiveRun:
    """A run that is going on: what is logged is buffered and sent by a thread, and all of it at the end.

    A value that the server refuses raises at the next call, or at the end. While the server does not
    answer the thread tries again; with 100,000 values waiting, the caller waits too.
    """

    def __init__(self, client: Client, run: Run, *, owns_client: bool = False) -> None:
        self.run = run.run
        self.name = run.name
        self.client = client
        self._owns_client = owns_client
        self._metrics: list[Metric] = []
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._wake = threading.Event()
        self._steps: dict[str, int] = {}
        self._failure: EverlineError | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="everline-log", daemon=True)
        self._thread.start()
        atexit.register(self._at_exit)

    def log_metric(self, key: str, value: float, *, step: int | None = None) -> None:
        """Log a value; without a step, each metric counts from 0."""
        self.log_metrics({key: value}, step=step)

    def log_metrics(self, values: Mapping[str, float], *, step: int | None = None) -> None:
        """Log values of one step."""
        now = _now_ms()
        with self._lock:
            for key, value in values.items():
                at = self._steps.get(key, -1) + 1 if step is None else step
                self._steps[key] = at
                self._metrics.append(Metric(key=key, value=float(value), at_ms=now, step=at))
            waiting = len(self._metrics)
        self._after_log(waiting)

    def log_param(self, key: str, value: Any) -> None:
        """Log a parameter; it never changes afterwards."""
        self.log_params({key: value})

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Log parameters."""
        with self._lock:
            self._params |= _texts(values)
        self._after_log(len(self._params))

    def set_tag(self, key: str, value: Any) -> None:
        """Set a tag."""
        with self._lock:
            self._tags[key] = str(value)
        self._after_log(len(self._tags))

    def log_input(self, name: str, digest: str, *, version: int | None = None, context: str = "") -> None:
        """Say which dataset version the run reads."""
        given = RunInput(name=name, digest=digest, version=version, context=context)
        self.client.runs.log_batch(self.run, inputs=[given])

    def log_artifact(self, file: Path | str, *, path: str | None = None) -> Artifact:
        """Upload a file, now."""
        uploaded: Artifact = self.client.runs.log_artifact(self.run, file, path=path)
        return uploaded

    def log_text(self, text: str, *, path: str) -> Artifact:
        """Upload a text as a file, now."""
        uploaded: Artifact = self.client.runs.log_bytes(self.run, text.encode(), path=path)
        return uploaded

    def log_table(self, table: Any, *, path: str) -> Artifact:
        """Upload a pyarrow, pandas or polars table as a Parquet file, now."""
        pyarrow, parquet = load("pyarrow"), load("pyarrow.parquet")
        if hasattr(table, "to_arrow"):
            table = table.to_arrow()
        elif not isinstance(table, pyarrow.Table):
            table = pyarrow.Table.from_pandas(table)
        target = io.BytesIO()
        parquet.write_table(table, target, compression="zstd")
        uploaded: Artifact = self.client.runs.log_bytes(self.run, target.getvalue(), path=path)
        return uploaded

    def flush(self) -> None:
        """Send what waits; returns when it is durable.

        Raises:
            EverlineError: the server refused something, or did not answer after several tries.
        """
        with self._sending:
            for attempt in range(RETRIES_MAX + 1):
                try:
                    self._send_all()
                    break
                except (UnavailableError, TooBusyError):
                    if attempt == RETRIES_MAX:
                        raise
                    time.sleep(min(0.1 * 2**attempt, 2.0))
        self._raise_failure()

    def finish(self, status: RunStatus | str = RunStatus.FINISHED) -> Run:
        """Send the rest and end the run."""
        self._ended = True
        self._wake.set()
        atexit.unregister(self._at_exit)
        self._thread.join(JOIN_S)
        try:
            self.flush()
        finally:
            run: Run = self.client.runs.finish(self.run, status=status)
            if self._owns_client:
                self.client.close()
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
            return
        try:
            self.finish(RunStatus.KILLED if issubclass(kind, KeyboardInterrupt) else RunStatus.FAILED)
        except EverlineError as second:  # the first error is what the user must see
            if error is not None:
                error.add_note(f"everline could not finish the run {self.run}: {second}")

    def _after_log(self, waiting: int) -> None:
        self._raise_failure()
        if waiting >= BUFFERED_ITEMS_MAX:
            self.flush()
        elif waiting >= METRICS_PER_BATCH_MAX:
            self._wake.set()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _work(self) -> None:
        while not self._ended:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            try:
                with self._sending:
                    self._send_all()
            except (UnavailableError, TooBusyError):
                continue  # it is all still in the buffer
            except EverlineError as error:
                self._failure = error

    def _send_all(self) -> None:
        while True:
            with self._lock:
                metrics = self._metrics[: METRICS_PER_BATCH_MAX - 2 * PAIRS_PER_BATCH_MAX]
                params = dict(list(self._params.items())[:PAIRS_PER_BATCH_MAX])
                tags = dict(list(self._tags.items())[:PAIRS_PER_BATCH_MAX])
            if not metrics and not params and not tags:
                return
            try:
                self.client.runs.log_batch(self.run, metrics=metrics, params=params, tags=tags)
            except (UnavailableError, TooBusyError):
                raise
            except EverlineError:
                self._forget(len(metrics), params, tags)
                raise
            self._forget(len(metrics), params, tags)

    def _forget(self, metrics: int, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Take what was sent, or refused for good, out of the buffer; a tag set anew meanwhile stays."""
        with self._lock:
            del self._metrics[:metrics]
            for key, value in params.items():
                if self._params.get(key) == value:
                    del self._params[key]
            for key, value in tags.items():
                if self._tags.get(key) == value:
                    del self._tags[key]

    def _at_exit(self) -> None:
        if self._ended:
            return
        self._ended = True
        try:
            self.flush()
        except EverlineError as error:
            sys.stderr.write(f"everline: the last values of run {self.run} were not logged: {error}\n")


def run(
    *,
    experiment: str = DEFAULT_EXPERIMENT,
    name: str | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    client: Client | None = None,
    record: bool = True,
) -> ActiveRun:
    """Start a run; use it as a context manager, or call `finish()`.

    Args:
        experiment: made if it is new.
        client: None opens one for `EVERLINE_URL`, or embedded over `./.everline`.
        record: keep code and environment with the run, so that it can be done again.
    """
    owned = client is None
    client = client or Client()
    started: Run = client.runs.create(experiment=experiment, name=name, params=params, tags=tags)
    if record:
        _record(client, started.run, params)
    return ActiveRun(client, started, owns_client=owned)


def _record(client: Client, run: str, params: Mapping[str, Any] | None) -> None:
    entry = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "interactive"
    captured = load("everline.runs.capture").capture(Path.cwd(), entry, sys.argv[1:], params=_texts(params))
    for content in captured.blobs.values():
        client.blobs.put_bytes(content)
    client.runs.set_record(run, msgspec.to_builtins(captured.record))


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
