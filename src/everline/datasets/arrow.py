"""Arrow columns in one canonical form: equal content has equal bytes, whoever wrote it and however it was chunked.

A column is cut into blocks of 65,536 rows. A block's bytes are: rows and nulls as two unsigned 64-bit integers; if
there are nulls, the validity bits; then the values, little-endian, with zeros where a value is null.

What is content: type, value, null or not, order. What is not: chunks, offsets, dictionary or run-end encoding, the
width of string offsets, schema metadata, a field's `nullable` flag, the unit in which a time is written, the name of
a time zone (the instant counts), the payload bits of a NaN. A NaN is a value and not a null; -0.0 is not 0.0.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from everline.canonical import canonical_json
from everline.errors import InvalidInputError

BLOCK_ROWS = 65_536
_UNIT_STEPS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_PLAIN = {
    pa.null(): "null",
    pa.bool_(): "bool",
    pa.float16(): "float16",
    pa.float32(): "float32",
    pa.float64(): "float64",
    pa.date32(): "date",
    pa.date64(): "date",
    pa.string(): "string",
    pa.large_string(): "string",
    pa.string_view(): "string",
    pa.binary(): "binary",
    pa.large_binary(): "binary",
    pa.binary_view(): "binary",
    pa.month_day_nano_interval(): "interval",
}


def type_name(kind: pa.DataType) -> Any:
    """The canonical type: a word, or for nested types an object with one key.

    Raises:
        InvalidInputError: a union, or another type without a canonical form.
    """
    if kind in _PLAIN:
        return _PLAIN[kind]
    if pa.types.is_integer(kind):
        return str(kind)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return type_name(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return type_name(kind.storage_type)
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamp[utc]"
    if pa.types.is_time(kind):
        return "time"
    if pa.types.is_duration(kind):
        return "duration"
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_fixed_size_binary(kind):
        return f"binary[{kind.byte_width}]"
    if pa.types.is_map(kind):
        return {"map": [type_name(kind.key_type), type_name(kind.item_type)]}
    if _is_list(kind):
        return {"list": type_name(kind.value_type)}
    if pa.types.is_struct(kind):
        return {"struct": [[field.name, type_name(field.type)] for field in kind]}
    raise InvalidInputError(
        f"The Arrow type {kind} has no canonical form, so a column of it cannot be digested.",
        hint="Convert the column to a plain type first.",
    )


def column_digest(column: pa.ChunkedArray) -> str:
    """Digest of a column's type, values, nulls and order, as `sha256:…`.

    It is the hash of the hashes of its blocks, so that two versions can later be compared block by block.
    """
    decoded = decode(column)
    top = hashlib.sha256(canonical_json({"schema": 1, "type": type_name(column.type), "rows": len(column)}))
    for start in range(0, len(decoded), BLOCK_ROWS):
        block = hashlib.sha256()
        _feed(block, _one_chunk(decoded.slice(start, BLOCK_ROWS)))
        top.update(block.digest())
    return f"sha256:{top.hexdigest()}"


def decode(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values without dictionary, run-end or extension encoding at the top level."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return decode(pa.chunked_array([_looked_up(chunk) for chunk in column.chunks], _plain_type(kind.value_type)))
    if pa.types.is_run_end_encoded(kind):
        return decode(pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks], kind.value_type))
    if isinstance(kind, pa.BaseExtensionType):
        return decode(pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type))
    return column


def canonical_table(table: pa.Table) -> pa.Table:
    """The table in the types that its digest speaks of, so that equal digests are read as equal tables.

    Dictionaries are decoded, long and view strings become strings, dates days, times microseconds (nanoseconds where
    a value needs them, coarser where one is too far away), zones UTC; metadata is dropped and every column is one
    chunk.
    """
    columns = [_canonical_column(table.column(index)) for index in range(table.num_columns)]
    schema = pa.schema([pa.field(name, column.type) for name, column in zip(table.column_names, columns, strict=True)])
    return pa.Table.from_arrays([_one_chunk(column) for column in columns], schema=schema)


def _canonical_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = decode(column)
    kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return column.cast(pa.binary())
    if pa.types.is_date64(kind):
        return column.cast(pa.date32())
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        make = pa.duration if pa.types.is_duration(kind) else lambda unit: pa.timestamp(unit, kind.tz and "UTC")
        if kind.unit != "ns":
            return _in_finest(column, [make("us"), make("ms")])
        exact = bool(
            pc.all(pc.equal(column.cast(make("us"), safe=False).cast(make("ns")), column)).as_py() is not False
        )
        return column.cast(make("us" if exact else "ns"))
    return column


def _in_finest(column: pa.ChunkedArray, kinds: list[pa.DataType]) -> pa.ChunkedArray:
    """The column in the first of some types that holds all its values; far from 1970 only coarse units do."""
    for kind in kinds:
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    return column


def _looked_up(array: pa.Array) -> pa.Array:
    """The values of a dictionary array; through plain types, because Arrow looks up no views."""
    values = array.dictionary.cast(_plain_type(array.type.value_type))
    return values.take(array.indices)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks() if column.num_chunks else pa.array([], column.type)


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _feed(into: Any, array: pa.Array) -> None:
    """Hash one array, of any type and offset, in canonical form."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _feed(into, _looked_up(array))
    if pa.types.is_run_end_encoded(kind):
        return _feed(into, pc.run_end_decode(array))
    if isinstance(kind, pa.BaseExtensionType):
        return _feed(into, array.storage)
    into.update(struct.pack("<QQ", len(array), array.null_count))
    if array.null_count and not pa.types.is_null(kind):
        into.update(np.packbits(array.is_valid().to_numpy(zero_copy_only=False), bitorder="little"))
    if pa.types.is_null(kind):
        return None
    if pa.types.is_boolean(kind):
        into.update(np.packbits(_filled(array, False).to_numpy(zero_copy_only=False), bitorder="little"))
    elif pa.types.is_timestamp(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind):
        _feed_time(into, array)
    elif kind in _PLAIN and _PLAIN[kind] in ("string", "binary"):
        _feed_bytes(into, array)
    elif pa.types.is_map(kind):
        _feed(into, array.cast(pa.list_(pa.struct([kind.key_field, kind.item_field]))))
    elif _is_list(kind):
        lengths = _filled(pc.list_value_length(array).cast(pa.int64()), 0)
        into.update(_values(lengths, np.dtype("<i8")))
        _feed(into, array.flatten())
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            _feed(into, child)
    else:
        _feed_fixed(into, array)
    return None


def _feed_fixed(into: Any, array: pa.Array) -> None:
    kind = array.type
    if pa.types.is_date64(kind):
        return _feed_fixed(into, array.cast(pa.date32()))
    if pa.types.is_decimal(kind) and kind.bit_width < 128:
        return _feed_fixed(into, array.cast(pa.decimal128(kind.precision, kind.scale)))
    if pa.types.is_decimal(kind) and kind.precision <= 38 and kind.bit_width > 128:
        return _feed_fixed(into, array.cast(pa.decimal128(kind.precision, kind.scale)))
    width = kind.bit_width // 8
    if array.null_count:
        array = array.fill_null(_zero(kind, width))
    values = _values(array, np.dtype((np.void, width)))
    if pa.types.is_floating(kind):
        numbers = values.view(f"<f{width}")
        nan = np.isnan(numbers)
        if nan.any():
            numbers = numbers.copy()
            numbers[nan] = np.nan
            values = numbers.view(values.dtype)
    into.update(values.view(np.uint8))
    return None


def _zero(kind: pa.DataType, width: int) -> pa.Scalar:
    if pa.types.is_fixed_size_binary(kind):
        return pa.scalar(bytes(width), kind)
    if kind == pa.month_day_nano_interval():
        return pa.scalar((0, 0, 0), kind)
    return pa.scalar(0, pa.int32()).cast(kind) if pa.types.is_date(kind) else pa.scalar(0, kind)


def _feed_time(into: Any, array: pa.Array) -> None:
    """Hash times in the coarsest unit that is exact for the whole block, so that the written unit does not count."""
    unit = array.type.unit
    width = pa.int32() if pa.types.is_time32(array.type) else pa.int64()
    numbers = _filled(array.cast(width), 0).cast(pa.int64())
    values = _values(numbers, np.dtype("<i8"))
    finest = _UNIT_STEPS[unit]
    for coarser, steps in _UNIT_STEPS.items():
        divisor = finest // steps
        if steps >= finest or not (values % divisor).any():
            into.update(coarser.encode() + b"\0")
            into.update(values if divisor == 1 else values // divisor)
            return


def _feed_bytes(into: Any, array: pa.Array) -> None:
    kind = array.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        array = array.cast(pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary())
    if array.null_count:
        array = array.fill_null(b"" if _PLAIN[kind] == "binary" else "")
    if not len(array):
        return
    long = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    _, offsets_buffer, data = array.buffers()
    width = 8 if long else 4
    offsets = np.frombuffer(
        offsets_buffer, dtype=f"<i{width}", count=len(array) + 1, offset=array.offset * width
    ).astype("<i8", copy=False)
    into.update(np.diff(offsets))
    if data is not None and offsets[-1] > offsets[0]:
        into.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])


def _filled(array: pa.Array, value: Any) -> pa.Array:
    return array.fill_null(value) if array.null_count else array


def _values(array: pa.Array, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The value buffer of a fixed-width array as numpy, from its offset on, without a copy."""
    if not len(array):
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype=dtype, count=len(array), offset=array.offset * dtype.itemsize)
