"""Whether bytes are a segment of the prediction log, and the ranges under which it is found again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from everline.config import Settings
from everline.errors import InvalidInputError, TooLargeError
from everline.loader import late

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
else:
    pa = late("pyarrow")
    pc = late("pyarrow.compute")
    pq = late("pyarrow.parquet")

COLUMNS = {
    "prediction": "string",
    "at": "timestamp",
    "event_time": "timestamp",
    "endpoint": "string",
    "revision": "string",
    "package": "string",
    "release": "string",
    "request": "string",
    "row": "int32",
    "latency_us": "int64",
}
"""The columns of a segment and their Arrow types; a timestamp is UTC in microseconds."""
OPTIONAL = ("role", "primary", "key")
"""Columns of text that segments of older data planes lack: what the revision was, the prediction that a shadow
shadows, and the hash of the caller's sticky key."""
SHADOW = "shadow"
STRUCTS = ("inputs", "outputs")
_NULLABLE = frozenset({"event_time", "request"})
_UID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
_EXPANSION_MAX = 64
"""A segment may grow by this factor when it is unpacked, beyond which it is a bomb."""


def inspect(data: bytes, *, endpoint: str, rows: int | None, limits: Settings) -> dict[str, Any]:
    """What the table of segments keeps of these bytes.

    Args:
        rows: how many are announced; None for any number.

    Raises:
        InvalidInputError: not Parquet, or not of the prediction log's columns.
        TooLargeError: beyond `segment_bytes_max` or `segment_rows_max`.
    """
    if len(data) > limits.segment_bytes_max:
        raise TooLargeError(
            f"The segment has {len(data)} bytes; {limits.segment_bytes_max} are allowed.", hint="Cut it in pieces."
        )
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        meta = file.metadata
        unpacked = sum(meta.row_group(index).total_byte_size for index in range(meta.num_row_groups))
        if meta.num_rows > limits.segment_rows_max or unpacked > _EXPANSION_MAX * max(len(data), 1 << 20):
            raise TooLargeError(
                f"The segment unpacks to {meta.num_rows} rows and {unpacked} bytes.", hint="Cut it in pieces."
            )
        _check_schema(file.schema_arrow)
        known = [name for name in OPTIONAL if file.schema_arrow.get_field_index(name) >= 0]
        table = file.read(columns=[*COLUMNS, *known])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _bad_segment(f"it is not a readable Parquet file ({str(error).splitlines()[0][:200]})") from None
    if table.num_rows == 0 or (rows is not None and rows != table.num_rows):
        raise _bad_segment(f"it has {table.num_rows} rows where {rows or 'at least one'} were announced", field="rows")
    _check_values(table, endpoint)
    times = pc.coalesce(table["event_time"], table["at"])
    ids, at, event = pc.min_max(table["prediction"]), pc.min_max(table["at"]), pc.min_max(times)
    return {
        "shadow": _is_shadow(table),
        "rows": table.num_rows,
        "first_prediction": ids["min"].as_py(),
        "last_prediction": ids["max"].as_py(),
        "at_start": _utc(at["min"]),
        "at_end": _utc(at["max"]),
        "event_start": _utc(event["min"]),
        "event_end": _utc(event["max"]),
    }


def _is_shadow(table: pa.Table) -> bool:
    """Whether these rows are what a shadow said; they come in segments of their own.

    Raises:
        InvalidInputError: some rows are, others not, or one names no prediction that it shadows.
    """
    if "role" not in table.column_names:
        return False
    shadows = pc.equal(pc.fill_null(table["role"], ""), SHADOW)
    count = pc.sum(shadows).as_py()
    if count == 0:
        return False
    if count != table.num_rows:
        raise _bad_segment("rows of shadows are mixed with answers", field="role")
    if "primary" not in table.column_names or table["primary"].null_count:
        raise _bad_segment("a row of a shadow names no prediction in the column 'primary'", field="primary")
    return True


def kinds() -> dict[str, pa.DataType]:
    """The Arrow type of each column of a segment."""
    return {name: time_type() if kind == "timestamp" else pa.type_for_alias(kind) for name, kind in COLUMNS.items()}


def time_type() -> pa.DataType:
    """Microseconds in UTC."""
    return pa.timestamp("us", tz="UTC")


def _check_schema(schema: pa.Schema) -> None:
    for name, kind in kinds().items():
        if schema.get_field_index(name) < 0:
            raise _bad_segment(f"the column {name!r} is missing", field=name)
        found = schema.field(name).type
        if found != kind and not (pa.types.is_large_string(found) and kind == pa.string()):
            raise _bad_segment(f"the column {name!r} is of type {found}, not {kind}", field=name)
    for name in STRUCTS:
        if schema.get_field_index(name) < 0 or not pa.types.is_struct(schema.field(name).type):
            raise _bad_segment(f"the column {name!r} is missing or no struct", field=name)


def _check_values(table: pa.Table, endpoint: str) -> None:
    for name in COLUMNS:
        if name not in _NULLABLE and table[name].null_count:
            raise _bad_segment(f"the column {name!r} has empty values", field=name)
    if not pc.all(pc.match_substring_regex(table["prediction"], _UID_PATTERN)).as_py():
        raise _bad_segment("an id in the column 'prediction' is not a UUIDv7 in lower case", field="prediction")
    if pc.count_distinct(table["prediction"]).as_py() != table.num_rows:
        raise _bad_segment("an id in the column 'prediction' is there twice", field="prediction")
    if not pc.all(pc.equal(table["endpoint"], endpoint)).as_py():
        raise _bad_segment(f"a row is of another endpoint than {endpoint!r}", field="endpoint")


def _bad_segment(why: str, *, field: str | None = None) -> InvalidInputError:
    return InvalidInputError(
        f"The prediction segment cannot be taken: {why}.",
        hint="docs/serving.md lists the columns of the prediction log.",
        field=field,
    )


def _utc(value: pa.Scalar) -> datetime:
    moment: datetime = value.as_py()
    return moment.astimezone(UTC)
