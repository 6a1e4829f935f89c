"""Read a signature off a training table: types, nulls, ranges and categories of its columns.

Apart from `signature.py` because it needs pyarrow, which the data plane does without.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from everline.errors import InvalidInputError
from everline.models.signature import ColumnType, Field, OutputField, Signature

CATEGORIES_MAX = 512
"""A text column with more distinct values than this is free text: its values are not part of the signature."""


def infer_signature(
    table: Any, *, outputs: Collection[OutputField] = (), nullable: Collection[str] | None = None
) -> Signature:
    """Return the signature of a model that is trained on `table`.

    Args:
        table: pandas, polars or pyarrow table, or a mapping of column name to values; inputs only,
            in the order in which the model takes them.
        outputs: left empty, `build_package` fills them in from the model.
        nullable: columns that may be null in a call; default: those that hold a null or NaN here.

    Raises:
        InvalidInputError: a column has a type that no signature can carry, or `nullable` names no column.
    """
    arrow = _arrow(table)
    unknown = set(nullable or ()) - set(arrow.column_names)
    if unknown:
        raise InvalidInputError(
            f"There is no column {sorted(unknown)[0]!r} that could be nullable.",
            hint=f"The columns are: {', '.join(arrow.column_names)}.",
            field="nullable",
        )
    fields = [_field(name, arrow.column(name), nullable=nullable) for name in arrow.column_names]
    return Signature(inputs=fields, outputs=list(outputs))


def _arrow(table: Any) -> pa.Table:
    if isinstance(table, pa.Table):
        return table
    if isinstance(table, Mapping):
        return pa.table({str(name): _array(str(name), values) for name, values in table.items()})
    if hasattr(table, "to_arrow"):
        return table.to_arrow()
    if type(table).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(table, preserve_index=False)
    raise InvalidInputError(
        f"A signature cannot be read off a {type(table).__name__}.",
        hint="Give a pandas, polars or pyarrow table, or a mapping of column name to values.",
        field="table",
    )


def _array(name: str, values: Any) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidInputError(
            f"Column {name!r} has no single type: {error}.", hint="Give values of one type.", field=name
        ) from error


def _field(name: str, column: pa.ChunkedArray, *, nullable: Collection[str] | None) -> Field:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = _column_type(name, column.type)
    if kind in (ColumnType.DOUBLE, ColumnType.FLOAT):
        column = pc.if_else(pc.is_finite(column), column, None)
    nulls = column.null_count > 0 if nullable is None else name in nullable
    low = high = None
    if kind in (ColumnType.INTEGER, ColumnType.LONG, ColumnType.FLOAT, ColumnType.DOUBLE):
        ends = pc.min_max(column).as_py()
        low, high = (None if ends[end] is None else float(ends[end]) for end in ("min", "max"))
    categories = None
    if kind is ColumnType.STRING:
        values = [value for value in pc.unique(column).to_pylist() if value is not None]
        categories = sorted(values) if 0 < len(values) <= CATEGORIES_MAX else None
    return Field(name=name, type=kind, nullable=nulls, min=low, max=high, categories=categories)


def _column_type(name: str, kind: pa.DataType) -> ColumnType:
    checks = (
        (pa.types.is_boolean, ColumnType.BOOLEAN),
        (pa.types.is_float64, ColumnType.DOUBLE),
        (pa.types.is_float32, ColumnType.FLOAT),
        (lambda t: pa.types.is_integer(t) and t not in (pa.int64(), pa.uint32(), pa.uint64()), ColumnType.INTEGER),
        (lambda t: t in (pa.int64(), pa.uint32()), ColumnType.LONG),
        (
            lambda t: pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t),
            ColumnType.STRING,
        ),
        (lambda t: pa.types.is_timestamp(t) or pa.types.is_date(t), ColumnType.DATETIME),
    )
    for check, column_type in checks:
        if check(kind):
            return column_type
    raise InvalidInputError(
        f"Column {name!r} has the type {kind}, which no signature can carry.",
        hint="Use booleans, integers up to 64 bits, float32, float64, text or times.",
        field=name,
    )
