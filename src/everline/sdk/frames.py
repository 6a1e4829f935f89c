"""Runs as frames: one row a run, one column a parameter, metric and tag, as `mlflow.search_runs` shapes them.

    client.runs.search("metrics.auc > 0.7", limit=50_000).to_polars()
    client.runs.compare([a, b]).to_pandas()

A run that lacks a metric has a null; one that logged NaN has NaN (pandas writes both as NaN). Parameters and tags are
texts. An empty result has the columns that every run has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from everline.loader import load
from everline.runs.types import Comparison, Difference, Run


class _Table(Protocol):
    def to_arrow(self) -> Any: ...


class _Frames:
    """What has `to_arrow` has all of them."""

    __slots__ = ()

    def to_pandas(self: _Table) -> Any:
        """A pandas frame; texts are objects, times are in UTC."""
        load("pandas")
        return self.to_arrow().to_pandas()

    def to_polars(self: _Table) -> Any:
        """A polars frame."""
        return load("polars").from_arrow(self.to_arrow())


class FoundRuns(list[Run], _Frames):
    """The runs that a search found, in its order."""

    def to_arrow(self) -> Any:
        """A pyarrow table: what every run has, then `params.…`, `metrics.…` and `tags.…` by name."""
        pa = load("pyarrow")
        text, time = pa.string(), pa.timestamp("us", tz="UTC")
        columns: dict[str, Any] = {
            name: pa.array([_plain(getattr(run, name)) for run in self], kind)
            for name, kind in (
                ("run", text), ("name", text), ("experiment", text), ("status", text), ("started_at", time),
                ("ended_at", time), ("pipeline", text), ("user", text),
            )
        }  # fmt: skip
        columns |= _columns(self, "params", lambda run: run.params, pa.string())
        columns |= _columns(self, "metrics", lambda run: _numbers(run.metrics), pa.float64())
        columns |= _columns(self, "tags", lambda run: run.tags, pa.string())
        return pa.table(columns)


class ComparedRuns(Comparison, _Frames, frozen=True, kw_only=True):
    """Runs side by side, in the order in which they were named."""

    def to_arrow(self) -> Any:
        """A pyarrow table: `run`, `name`, then `params.…`, `metrics.…`, `code.…`, `environment.…`, `data.…`."""
        pa = load("pyarrow")
        columns = {"run": pa.array(self.runs, pa.string()), "name": pa.array(self.names, pa.string())}
        for word in ("params", "code", "environment", "data"):
            lines: list[Difference] = getattr(self, word)
            columns |= {f"{word}.{line.key}": pa.array(map(_text, line.values), pa.string()) for line in lines}
        metrics = {f"metrics.{line.key}": pa.array(line.values, pa.float64()) for line in self.metrics}
        return pa.table(columns | metrics)


def _columns(runs: Sequence[Run], word: str, of: Callable[[Run], Mapping[str, Any]], kind: Any) -> dict[str, Any]:
    """One column for each key that any of the runs has."""
    pa = load("pyarrow")
    sides = [of(run) for run in runs]
    keys: Iterable[str] = sorted({key for side in sides for key in side})
    return {f"{word}.{key}": pa.array([side.get(key) for side in sides], kind, from_pandas=False) for key in keys}


def _numbers(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """JSON has no NaN: a metric that is there without a value is not a number."""
    return {key: float("nan") if value is None else value for key, value in metrics.items()}


def _plain(value: Any) -> Any:
    return value.value if hasattr(value, "value") else value


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
