"""Prediction segments as a data plane writes them, for tests of the control plane."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from everline.ids import new_uid


def segment(
    rows: Sequence[dict[str, Any]],
    *,
    at: datetime,
    endpoint: str = "flight-delay",
    revision: str = "rev-1",
    change: dict[str, Any] | None = None,
) -> tuple[bytes, list[str]]:
    """Parquet bytes of one segment and its prediction ids.

    Args:
        rows: per prediction `inputs`, `outputs`, and whatever else differs from the defaults.
        change: columns to overwrite (an array), or to drop (None).
    """
    columns: dict[str, list[Any]] = {name: [] for name in (
        "prediction", "at", "event_time", "endpoint", "revision", "package", "release", "request", "row",
        "latency_us", "inputs", "outputs",
    )}  # fmt: skip
    for number, row in enumerate(rows):
        values = {
            "prediction": new_uid(), "at": at, "event_time": None, "endpoint": endpoint, "revision": revision,
            "package": "sha256:" + "0" * 64, "release": "rel-1", "request": "req-1",
            "row": number, "latency_us": 900 + number,
        } | row  # fmt: skip
        for name, column in columns.items():
            column.append(values[name])
    time = pa.timestamp("us", tz="UTC")
    kinds = {"at": time, "event_time": time, "row": pa.int32(), "latency_us": pa.int64()}
    arrays = {name: pa.array(values, kinds.get(name)) for name, values in columns.items()}
    for name, array in (change or {}).items():
        arrays.pop(name) if array is None else arrays.update({name: array})
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays), buffer, compression="zstd")
    return buffer.getvalue(), columns["prediction"]


def flights(count: int, **values: Any) -> list[dict[str, Any]]:
    """`count` predictions about flights; `values` go into each row."""
    answer = {"probability": 0.25, "label": False}
    return [{"inputs": {"distance": 100.0 + n, "carrier": "UA"}, "outputs": answer} | values for n in range(count)]
