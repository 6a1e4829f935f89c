"""What a column looks like: counts, missing values, extremes, mean, quantiles, frequent values. All exact."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from everline.datasets.arrow import column_digest, decode, type_name
from everline.datasets.manifest import table_manifest
from everline.datasets.reading import Columns
from everline.datasets.types import Column, TableSummary, TopValue
from everline.ids import digest_bytes

TOP_MAX = 10
QUANTILES = tuple(round(step / 20, 2) for step in range(21))
TEXT_CHARS_MAX = 200
_THREADS_MAX = 8


def summarise(columns: Columns) -> TableSummary:
    """Digest and profile every column of a table, reading each once."""

    def one(index: int) -> Column:
        return profile_column(columns.names[index], columns.column(index))

    with ThreadPoolExecutor(min(_THREADS_MAX, os.cpu_count() or 1)) as pool:
        found = tuple(pool.map(one, range(len(columns.names))))
    return TableSummary(digest=digest_bytes(manifest_of(columns.rows, found)), rows=columns.rows, columns=found)


def identify(columns: Columns) -> TableSummary:
    """Digest every column of a table, reading each once, and leave its profile for later."""

    def one(index: int) -> Column:
        values = columns.column(index)
        return Column(
            name=columns.names[index],
            type=type_name(values.type),
            digest=column_digest(values),
            rows=len(values),
            nulls=decode(values).null_count,
        )

    with ThreadPoolExecutor(min(_THREADS_MAX, os.cpu_count() or 1)) as pool:
        found = tuple(pool.map(one, range(len(columns.names))))
    digest = digest_bytes(manifest_of(columns.rows, found))
    return TableSummary(digest=digest, rows=columns.rows, columns=found, profiled=False)


def manifest_of(rows: int, columns: Sequence[Column]) -> bytes:
    """The canonical manifest of a table whose columns were profiled."""
    return table_manifest(rows, [(column.name, column.type, column.digest) for column in columns])


def profile_column(name: str, column: pa.ChunkedArray) -> Column:
    """Digest and profile one column.

    Args:
        column: any Arrow type that has a canonical form; shape (rows,).

    Returns:
        The column's values at a glance. NaN counts as `nans`, not as missing, and is left out of all statistics.
    """
    values = decode(column)
    facts: dict[str, Any] = {}
    if is_number(values.type):
        facts = _numbers(values)
    elif not pa.types.is_nested(values.type) and not pa.types.is_null(values.type):
        facts = _extremes(values)
    if _is_countable(values.type):
        facts |= _frequent(values)
    return Column(
        name=name,
        type=type_name(column.type),
        digest=column_digest(column),
        rows=len(column),
        nulls=values.null_count,
        **facts,
    )


def is_number(kind: pa.DataType) -> bool:
    """Whether mean and quantiles make sense: integers, floats, decimals, booleans."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind))


def is_moment(kind: pa.DataType) -> bool:
    """Whether values lie on a time axis, so that their order can be compared."""
    types = pa.types
    return bool(types.is_timestamp(kind) or types.is_date(kind) or types.is_time(kind) or types.is_duration(kind))


def finite(values: pa.ChunkedArray) -> tuple[np.ndarray[Any, np.dtype[np.float64]], int]:
    """The finite numbers of a column as float64, shape (n,), and how many of its values are NaN."""
    numbers = values.drop_null().cast(pa.float64(), safe=False).to_numpy().astype(np.float64, copy=False)
    return numbers[np.isfinite(numbers)], int(np.isnan(numbers).sum())


def as_json(value: Any) -> Any:
    """A cell as JSON that people can read: times in ISO form, bytes in base64, long text cut."""
    if isinstance(value, bool | int) or value is None:
        return value if not isinstance(value, int) or abs(value) < 2**53 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value[:TEXT_CHARS_MAX]).decode()
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, timedelta | Decimal):
        return str(value)
    return str(value)[:TEXT_CHARS_MAX]


def _numbers(values: pa.ChunkedArray) -> dict[str, Any]:
    numbers, nans = finite(values)
    if not len(numbers):
        return {"nans": nans}
    quantiles = np.quantile(numbers, QUANTILES)
    extremes = {"minimum": float(quantiles[0]), "maximum": float(quantiles[-1])}
    if pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
        bounds = pc.min_max(values).as_py()
        extremes = {"minimum": as_json(bounds["min"]), "maximum": as_json(bounds["max"])}
    return {
        "nans": nans,
        **extremes,
        "mean": _finite_or_none(numbers.mean()),
        "deviation": _finite_or_none(numbers.std(ddof=1)) if len(numbers) > 1 else None,
        "quantiles": tuple(float(value) for value in quantiles),
    }


def _finite_or_none(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _extremes(values: pa.ChunkedArray) -> dict[str, Any]:
    kind = values.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        values = values.cast(pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary())
    try:
        bounds = pc.min_max(values)
    except pa.ArrowNotImplementedError:  # a type that Arrow does not order has no extremes
        return {}
    return {"minimum": as_json(cell(bounds["min"])), "maximum": as_json(cell(bounds["max"]))}


def _is_countable(kind: pa.DataType) -> bool:
    types = pa.types
    return not (types.is_nested(kind) or types.is_floating(kind) or types.is_null(kind) or types.is_interval(kind))


def _frequent(values: pa.ChunkedArray) -> dict[str, Any]:
    counted = counts(values)
    # Ties go by the value itself, so that the profile does not depend on the order of a hash table.
    keys = [("counts", "descending"), ("values", "ascending")]
    most = min(TOP_MAX, counted.num_rows)
    try:  # among millions of values, the first ten are found sooner than all are sorted
        best = counted.take(pc.select_k_unstable(counted, most, keys)) if most else counted
    except pa.ArrowNotImplementedError:  # a type of which Arrow sorts all, and selects none
        best = counted.take(pc.sort_indices(counted, sort_keys=keys).slice(0, most))
    top = tuple(
        TopValue(value=as_json(cell(value)), count=count.as_py())
        for value, count in zip(best.column("values"), best.column("counts"), strict=True)
    )
    return {"top": top, "distinct": counted.num_rows}


def counts(values: pa.ChunkedArray) -> pa.Table:
    """How often each value that is not null occurs: columns `values` and `counts`, in no certain order."""
    kind = values.type
    if pa.types.is_string_view(kind):
        values = values.cast(pa.large_string())
    elif pa.types.is_binary_view(kind):
        values = values.cast(pa.large_binary())
    counted = pc.value_counts(values.drop_null())
    return pa.table({"values": counted.field("values"), "counts": counted.field("counts")})


def cell(scalar: pa.Scalar) -> Any:
    """A cell as a Python value; as text where Python has none."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        # Nanoseconds and far years are beyond Python's own times, also inside of lists.
        return " ".join(pa.array([scalar], scalar.type).to_string().split())[2:-2]
