"""Arrow tables and NumPy arrays as files: canonical, written batch by batch, read where they lie.

A table is an Arrow IPC file of batches with a fixed number of rows, uncompressed, so that whoever takes it maps the
file into memory instead of reading it. Equal tables give equal bytes: how the rows came in chunks, what lies under a
null, and metadata that only one library reads make no difference.
"""

from __future__ import annotations

import io
import typing
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from everline.errors import InvalidInputError
from everline.loader import load
from everline.pipelines.annotations import is_table

_BATCH_ROWS_MAX = 65_536
_BATCH_CELLS = 1 << 21


class Body(Protocol):
    """Where bytes go."""

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes, which do not change until the next call."""


def as_arrow(value: Any) -> pa.Table:
    """Any frame as an Arrow table; a pandas index that says something becomes a column."""
    library = type(value).__module__.partition(".")[0]
    if library == "pandas":
        named = [name for name in value.index.names if name is not None]
        return pa.Table.from_pandas(value.reset_index() if named else value, preserve_index=False)
    if library == "polars":
        return value.to_arrow()
    return value


def as_frame(table: pa.Table, wanted: Any) -> Any:
    """An Arrow table as the frame that an annotation asks for; Arrow itself if it asks for none."""
    options = typing.get_args(wanted) or (wanted,)
    libraries = {getattr(option, "__module__", "").partition(".")[0] for option in options if is_table(option)}
    if libraries == {"pandas"}:
        return table.to_pandas()
    if libraries == {"polars"}:
        return load("polars").from_arrow(table)
    return table


def canonical_batches(table: pa.Table) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The same rows in batches whose size depends on the number of columns alone, without residue and metadata.

    Only one batch at a time is in memory beside the table.
    """
    if any(pa.types.is_dictionary(field.type) for field in table.schema):
        table = table.unify_dictionaries()
    schema = pa.schema([pa.field(field.name, field.type) for field in table.schema])
    rows = max(1, min(_BATCH_ROWS_MAX, _BATCH_CELLS // max(1, table.num_columns)))

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, table.num_rows, rows):
            columns = [_without_residue(_joined(column.slice(start, rows))) for column in table.columns]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return schema, batches()


def write_table(table: pa.Table, body: Body) -> None:
    """Write the canonical file of a table."""
    schema, batches = canonical_batches(table)
    sink = pa.PythonFile(_Sink(body), mode="w")
    with pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def read_table(data: memoryview) -> pa.Table:
    """A table over the bytes of its file, which are not copied."""
    return pa.ipc.open_file(pa.py_buffer(data)).read_all()


def write_array(value: Any, body: Body) -> None:
    """Write NumPy's npy file of an array.

    Raises:
        InvalidInputError: it holds Python objects.
    """
    value = np.ascontiguousarray(value)
    if value.dtype.hasobject:
        raise InvalidInputError(
            "It returned an array of Python objects, which could only be stored as a pickle.",
            hint="Return an array of numbers or text, or a table.",
        )
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(value))
    body.write(header.getvalue())
    if value.size:
        body.write(value.reshape(-1).view(np.uint8).data)


def read_array(data: memoryview) -> Any:
    """A read-only array over the bytes of its file, which are not copied."""
    header = io.BytesIO(data[: 1 << 16])
    version = np.lib.format.read_magic(header)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(header)
    if dtype.hasobject:
        raise InvalidInputError("An array of Python objects is not read: it is a pickle.")
    flat = np.frombuffer(data, dtype=dtype, offset=header.tell(), count=int(np.prod(shape)))
    return flat.reshape(shape, order="F" if fortran else "C")


class _Sink:
    """A file for Arrow to write to."""

    closed = False

    def __init__(self, body: Body) -> None:
        self._body = body
        self._at = 0

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._body.write(view)
        self._at += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def writable(self) -> bool:
        return True


def _joined(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)


def _without_residue(array: pa.Array) -> pa.Array:
    """A slice keeps its parent's bytes and a null keeps what was there before it; a copy keeps neither."""
    plain = pa.types.is_primitive(array.type) and not pa.types.is_boolean(array.type)
    if plain and array.null_count == 0:  # the file gets the slice alone, without a bitmap
        return pa.Array.from_buffers(array.type, len(array), [None, array.buffers()[1]], offset=array.offset)
    if array.null_count == 0 or pa.types.is_nested(array.type) or pa.types.is_dictionary(array.type):
        return pa.concat_arrays([array])
    if pa.types.is_null(array.type):
        return array
    valid = pc.is_valid(array)
    zero = pa.scalar(None, array.type)
    try:
        zero = pa.scalar("", array.type) if _is_text(array.type) else pa.scalar(0, pa.int64()).cast(array.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):  # Arrow has no zero of this type
        return pa.concat_arrays([array])
    filled = pa.concat_arrays([pc.fill_null(array, zero)])
    buffers = filled.buffers()
    buffers[0] = pa.concat_arrays([valid]).buffers()[1]
    return pa.Array.from_buffers(array.type, len(array), buffers)


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))
