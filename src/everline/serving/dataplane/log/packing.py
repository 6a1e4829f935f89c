"""Columns of the prediction log as bytes: numbers as they lie in memory, the rest as lists.

How a column is packed follows from its type in the signature alone:

| type | not nullable | nullable |
| --- | --- | --- |
| double, float | float64, float32 | the same; NaN is null |
| long, integer | int64, int32 | float64, as the model saw it; NaN is null |
| datetime | int64 microseconds since 1970 UTC; the smallest number is null | |
| boolean | one byte | list |
| string | list | list |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from everline.loader import late
from everline.models.signature import Array, ColumnType, Field, OutputField

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = late("numpy")
    pa = late("pyarrow")

Packed = bytes | list[Any]
_DTYPES = {
    ColumnType.DOUBLE: "<f8",
    ColumnType.FLOAT: "<f4",
    ColumnType.LONG: "<i8",
    ColumnType.INTEGER: "<i4",
    ColumnType.DATETIME: "<i8",
    ColumnType.BOOLEAN: "?",
}
_WHOLE = frozenset({ColumnType.LONG, ColumnType.INTEGER})
_REAL = frozenset({ColumnType.DOUBLE, ColumnType.FLOAT})


class Packer:
    """Packs the columns of one list of fields; what each field needs is worked out once."""

    def __init__(self, fields: Sequence[Field] | Sequence[OutputField]) -> None:
        dtypes = [(field, _dtype(field)) for field in fields]
        self._listed = [field.name for field, dtype in dtypes if dtype is None]
        self._times = [field.name for field, _ in dtypes if field.type is ColumnType.DATETIME]
        self._packed = [
            (field.name, np.dtype(dtype))
            for field, dtype in dtypes
            if dtype is not None and field.type is not ColumnType.DATETIME
        ]

    def pack(self, arrays: Mapping[str, Array]) -> dict[str, Packed]:
        """Columns as they go into a frame.

        Args:
            arrays: the rows as a model takes or gives them; see `models.signature.Checked`.
        """
        packed: dict[str, Packed] = {}
        for name, dtype in self._packed:
            array = arrays[name]
            packed[name] = array.tobytes() if array.dtype == dtype else array.astype(dtype).tobytes()
        for name in self._listed:
            packed[name] = arrays[name].tolist()
        for name in self._times:
            packed[name] = arrays[name].astype("datetime64[us]").view("int64").tobytes()
        return packed


def unpack(field: Field | OutputField, packed: Packed) -> pa.Array:
    """A column as it goes into the Parquet file."""
    if isinstance(packed, list):
        return pa.array(packed, type=_arrow()[field.type])
    array = np.frombuffer(packed, dtype=_dtype(field))
    nullable = isinstance(field, Field) and field.nullable
    if field.type is ColumnType.DATETIME:
        return pa.array(array, type=pa.int64(), mask=array == np.iinfo(np.int64).min).cast(_arrow()[field.type])
    if field.type in _WHOLE and nullable:
        missing = np.isnan(array)
        largest = 2.0**63
        whole = np.where(missing | (array >= largest), 0.0, array).astype(np.int64)
        whole[array >= largest] = np.iinfo(np.int64).max
        return pa.array(whole, type=pa.int64(), mask=missing).cast(_arrow()[field.type])
    return pa.array(array, type=_arrow()[field.type], from_pandas=nullable and field.type in _REAL)


def _dtype(field: Field | OutputField) -> str | None:
    nullable = isinstance(field, Field) and field.nullable
    if nullable and field.type is ColumnType.BOOLEAN:
        return None
    if nullable and field.type in _WHOLE:
        return "<f8"
    return _DTYPES.get(field.type)


def _arrow() -> dict[ColumnType, pa.DataType]:
    return {
        ColumnType.BOOLEAN: pa.bool_(),
        ColumnType.INTEGER: pa.int32(),
        ColumnType.LONG: pa.int64(),
        ColumnType.FLOAT: pa.float32(),
        ColumnType.DOUBLE: pa.float64(),
        ColumnType.STRING: pa.string(),
        ColumnType.DATETIME: pa.timestamp("us", tz="UTC"),
    }
