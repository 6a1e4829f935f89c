"""Turns raw segments into the Parquet files that the control plane keeps: one per endpoint and package, shadows apart.

| column | type | is |
| --- | --- | --- |
| prediction | string | UUIDv7 of the answer |
| at | timestamp us UTC | when it was answered |
| event_time | timestamp us UTC, nullable | when the thing predicted happens, if the caller said so |
| endpoint, revision, package, release | string | what answered, and by which release |
| runtime | string | which of the package's runtimes answered |
| request, row | string, int32 | the request, and the row in it |
| latency_us | int64 | from the request's arrival to just before the answer was written |
| role | string | what the revision was: primary, canary or shadow |
| primary | string, nullable | of a shadow's row, the prediction that was answered in its place |
| key | string, nullable | hash of the caller's sticky key |
| inputs, outputs | struct | typed by the model's signature |

The same raw segment always gives the same bytes, so that shipping it twice is harmless.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from everline.models.signature import Field, OutputField, Signature
from everline.serving.dataplane.log.packing import Packed, unpack
from everline.serving.dataplane.log.raw_segments import PredictionRecord, read_segment

_TIME = pa.timestamp("us", tz="UTC")
PROJECT_KEY = b"everline.project"
ENDPOINT_KEY = b"everline.endpoint"


def convert_segment(raw: Path, *, outbox: Path) -> tuple[list[Path], int]:
    """Write the Parquet files of one raw segment; return them, and the bytes of a torn last frame.

    Each file appears whole under its name; doing it again gives the same files.
    """
    content = read_segment(raw)
    groups: dict[tuple[str, str, str, bool], list[PredictionRecord]] = defaultdict(list)
    for record in content.records:
        groups[record.project, record.endpoint, record.package, bool(record.primaries)].append(record)
    written = []
    for number, key in enumerate(sorted(groups)):
        table = prediction_table(groups[key], content.signatures[key[2]])
        table = table.replace_schema_metadata({PROJECT_KEY: key[0].encode(), ENDPOINT_KEY: key[1].encode()})
        path = outbox / f"{raw.stem}-{number}.parquet"
        temporary = path.with_suffix(".writing")
        with temporary.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        written.append(path)
    return written, content.torn_bytes


def prediction_table(records: list[PredictionRecord], signature: Signature) -> pa.Table:
    """Return one table of all rows of records about the same package."""
    rows = [sum(record.rows) for record in records]

    def each(values: list[Any], kind: pa.DataType) -> pa.Array:
        return _repeated(values, rows, kind)

    def of_requests(name: str, kind: pa.DataType) -> pa.Array:
        return _repeated(
            [value for record in records for value in getattr(record, name)],
            [count for record in records for count in record.rows],
            kind,
        )

    times = [time for record, count in zip(records, rows, strict=True) for time in _event_times(record, count)]
    return pa.table(
        {
            "prediction": pa.array([one for record in records for one in record.predictions], type=pa.string()),
            "at": each([record.at_us for record in records], _TIME),
            "event_time": pa.array(times, type=_TIME),
            "endpoint": each([record.endpoint for record in records], pa.string()),
            "revision": each([record.revision for record in records], pa.string()),
            "package": each([record.package for record in records], pa.string()),
            "release": each([record.release for record in records], pa.string()),
            "runtime": each([record.runtime for record in records], pa.string()),
            "request": of_requests("requests", pa.string()),
            "row": pa.array(
                [row for record in records for count in record.rows for row in range(count)], type=pa.int32()
            ),
            "latency_us": of_requests("latency_us", pa.int64()),
            "role": pa.array(
                [role for record in records for role in _of_rows(record.roles, record, default="primary")],
                type=pa.string(),
            ),
            "primary": pa.array(
                [one for record, n in zip(records, rows, strict=True) for one in _primaries(record, n)],
                type=pa.string(),
            ),
            "key": pa.array([key for record in records for key in _of_rows(record.keys, record)], type=pa.string()),
            "inputs": _struct([record.inputs for record in records], signature.inputs),
            "outputs": _struct([record.outputs for record in records], signature.outputs),
        }
    )


def _of_rows(values: Sequence[str | None], record: PredictionRecord, *, default: str | None = None) -> list[str | None]:
    """One value for each row of what is said per request, or was not said."""
    values = values or [default] * len(record.rows)
    return [value for value, count in zip(values, record.rows, strict=True) for _ in range(count)]


def _repeated(values: list[Any], counts: list[int], kind: pa.DataType) -> pa.Array:
    return pa.array([value for value, count in zip(values, counts, strict=True) for _ in range(count)], type=kind)


def _primaries(record: PredictionRecord, rows: int) -> Sequence[str | None]:
    return record.primaries or [None] * rows


def _event_times(record: PredictionRecord, rows: int) -> list[int | None]:
    return record.event_time_us or [None] * rows


def _struct(columns: list[dict[str, Packed]], fields: list[Field] | list[OutputField]) -> pa.StructArray:
    arrays = [unpack(field, _joined([part[field.name] for part in columns])) for field in fields]
    return pa.StructArray.from_arrays(arrays, names=[field.name for field in fields])


def _joined(parts: list[Packed]) -> Packed:
    """The parts of a column as one: frames of single rows are many, and each would cost as much as all of them."""
    if set(map(type, parts)) == {bytes}:
        return b"".join(parts)  # type: ignore[arg-type]
    return [value for part in parts for value in part]
