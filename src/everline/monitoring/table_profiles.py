"""`profile`: a whole table as counts, in constant memory; profiles of one reference merge and compare without rows.

Columns of Arrow are counted piece by piece where they lie; what cannot be Arrow (values of several types in one
column) is read value by value first. Types come first, as in `drift.columns`: a column whose values are not of the
reference's kind is known by its kind and rows alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from everline.errors import InvalidInputError
from everline.monitoring.drift.columns import Column, Kind, arrow_of, as_kind, column_of, named_columns
from everline.monitoring.profiles import (
    CategoryAxis,
    CategoryCounting,
    CategoryProfile,
    FloatArray,
    NumberAxis,
    NumberCounting,
    NumberProfile,
    merge_categories,
    merge_numbers,
    profile_category,
    profile_number,
)

AXIS_ROWS_MAX = 32_768
_AXIS_VALUES_MIN = 1_000
_PIECE_ROWS = 262_144
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_VALUES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """One column as counts.

    Attributes:
        kind: what its values are; "none" when every row is missing, "other" for lists, structs and the like.
        rows: all rows.
        missing: rows that are null or NaN.
        strays: rows of another type than `kind`, such as a text among numbers.
        counts: the values' profile; None for times, for kinds "none" and "other", and where the kind is not the
            reference's.
    """

    kind: Kind
    rows: int
    missing: int
    strays: int
    counts: NumberProfile | CategoryProfile | None = None

    @property
    def present(self) -> int:
        """Rows with a value of the column's own kind."""
        return self.rows - self.missing - self.strays

    def to_dict(self) -> dict[str, Any]:
        """Return what a reader wants to know, as plain values: quantiles of a number, frequent values of a category."""
        facts: dict[str, Any] = {
            "kind": self.kind,
            "rows": self.rows,
            "missing": self.missing,
            "strays": self.strays,
        }
        if isinstance(self.counts, NumberProfile) and self.counts.present:
            values = self.counts.quantile(np.asarray(_QUANTILES))
            # JSON has no infinity: an infinite quantile is told by the count of infinite rows.
            facts["quantiles"] = {
                f"{share:g}": float(value) if np.isfinite(value) else None
                for share, value in zip(_QUANTILES, values, strict=True)
            }
            facts["infinite"] = self.counts.infinite
        if isinstance(self.counts, CategoryProfile):
            known = zip(self.counts.axis.known, self.counts.counts.tolist(), strict=True)
            together = [(value, rows) for value, rows in known if rows] + list(self.counts.unseen.items())
            together.sort(key=lambda pair: (-pair[1], pair[0]))
            facts["values"] = dict(together[:_VALUES_SHOWN])
            facts["distinct_at_least"] = len(together)
        return facts


@dataclass(frozen=True, slots=True)
class TableProfile:
    """Every column of a table as counts: what `drift_report` needs of it, without a raw row."""

    rows: int
    columns: Mapping[str, ColumnProfile]

    def merge(self, other: "TableProfile") -> "TableProfile":
        """Add the profile of further rows of the same table, exactly; the order does not matter.

        A column that only one side has is missing in the other side's rows. Where the kinds differ, most rows decide
        and the others are strays.

        Raises:
            InvalidInputError: the two were not profiled against the same reference.
        """
        names = [*self.columns, *(name for name in other.columns if name not in self.columns)]
        absent = [ColumnProfile("none", one.rows, one.rows, 0) for one in (self, other)]
        return TableProfile(
            self.rows + other.rows,
            {
                name: _merged(name, self.columns.get(name, absent[0]), other.columns.get(name, absent[1]))
                for name in names
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as plain values."""
        return {"rows": self.rows, "columns": {name: column.to_dict() for name, column in self.columns.items()}}

    def __str__(self) -> str:
        """One line per column."""
        lines = [f"{self.rows:,} rows"]
        for name, column in self.columns.items():
            told = f"{name}: {column.kind}, {column.missing:,} missing"
            if column.strays:
                told += f", {column.strays:,} of another type"
            if isinstance(column.counts, NumberProfile) and column.counts.present:
                low, middle, high = column.counts.quantile(np.asarray([0.05, 0.5, 0.95]))
                told += f", median {middle:.4g}, 90 % in {low:.4g} to {high:.4g}"
            if isinstance(column.counts, CategoryProfile) and column.counts.present:
                values = list(column.to_dict()["values"].items())[:3]
                told += ", " + ", ".join(f"{value} {rows / column.rows:.1%}" for value, rows in values)
            lines.append(told)
        return "\n".join(lines)


def profile(table: Any, *, reference: TableProfile | None = None, side: str = "table") -> TableProfile:
    """Profile a table: one pass, constant memory, no row kept.

    Args:
        table: pandas or polars DataFrame, pyarrow Table or RecordBatch, or a mapping of columns.
        reference: count on the axes of this profile, so that the two can be compared and merged; without it the
            table is its own reference. A number's axis then comes from at most 32,768 evenly spaced rows: it decides
            only how fine the cells are, never a count.
        side: how an error calls the table.

    Raises:
        InvalidInputError: it is no table, or two of its columns share a name.

    Example:
        >>> first = profile({"x": [1.0, 2.0, None], "c": ["a", "b", "b"]})
        >>> both = first.merge(profile({"x": [3.0], "c": ["new"]}, reference=first))
        >>> both.rows, both.columns["x"].missing, both.columns["c"].counts.unseen
        (4, 1, {'new': 1})
    """
    columns: dict[str, ColumnProfile] = {}
    rows = 0
    for name, values in named_columns(table, side=side):
        if name in columns:
            raise InvalidInputError(
                f"The {side} table has two columns named {name!r}.", hint="Give every column its own name.", field=name
            )
        columns[name] = profile_column(values, like=None if reference is None else reference.columns.get(name))
        rows = max(rows, columns[name].rows)
    return TableProfile(rows, columns)


def profile_column(values: Any, *, like: ColumnProfile | None = None) -> ColumnProfile:
    """Profile one column, on the axis of `like` where its kind is the same."""
    arrow = arrow_of(values)
    if arrow is None:
        return _from_column(column_of(values), like)
    kind, rows = _kind_of(arrow.type), len(arrow)
    if arrow.null_count == rows:
        return ColumnProfile("none", rows, rows, 0)
    if kind in ("time", "other"):
        return ColumnProfile(kind, rows, arrow.null_count, 0)
    if like is not None and like.kind != kind and {kind, like.kind} == {"number", "boolean"}:
        return _from_column(column_of(arrow), like)  # 0 and 1 may be a boolean, and a boolean 0 and 1
    axis = like.counts.axis if like is not None and like.counts is not None and like.kind == kind else None
    comparable = like is None or axis is not None
    if kind == "number":
        assert axis is None or isinstance(axis, NumberAxis)
        return _numbers(arrow, axis or _number_axis(arrow), comparable=comparable)
    assert axis is None or isinstance(axis, CategoryAxis)
    counting = CategoryCounting(axis or _category_axis(arrow))
    for piece in _pieces(arrow):
        counting.add(_texts(piece))
    counted = counting.profile()
    return ColumnProfile(kind, rows, counted.missing, 0, counted if comparable else None)


def _numbers(arrow: pa.ChunkedArray, axis: NumberAxis, *, comparable: bool) -> ColumnProfile:
    counting, rows = NumberCounting(axis), len(arrow)
    for piece in _pieces(arrow):
        counting.add(_floats(piece))
    counted = counting.profile(missing=arrow.null_count)
    if counted.present == 0:
        return ColumnProfile("none", rows, rows, 0)
    return ColumnProfile("number", rows, counted.missing, 0, counted if comparable else None)


def _number_axis(arrow: pa.ChunkedArray) -> NumberAxis:
    if len(arrow) > AXIS_ROWS_MAX:
        step = -(-len(arrow) // AXIS_ROWS_MAX)
        sample = arrow.take(pa.array(np.arange(0, len(arrow), step)))
        if len(sample) - sample.null_count >= _AXIS_VALUES_MIN:
            return NumberAxis.of(_floats(sample.combine_chunks()).astype(np.float64, copy=False))
    return NumberAxis.of(np.concatenate([_floats(piece) for piece in _pieces(arrow)], dtype=np.float64))


def _category_axis(arrow: pa.ChunkedArray) -> CategoryAxis:
    whole = arrow.combine_chunks()
    return CategoryAxis.of(_texts(whole))


def _floats(piece: pa.Array) -> FloatArray:
    if pa.types.is_dictionary(piece.type):
        piece = piece.dictionary_decode()
    present = piece.drop_null() if piece.null_count else piece
    if pa.types.is_decimal(present.type) or pa.types.is_float16(present.type):
        present = pc.cast(present, pa.float64(), safe=False)
    values: FloatArray = present.to_numpy(zero_copy_only=False)
    return values


def _texts(piece: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(piece.type):
        return piece if _is_text(piece.type.value_type) else piece.dictionary_decode()
    return piece if pa.types.is_string(piece.type) or pa.types.is_boolean(piece.type) else pc.cast(piece, pa.string())


def _pieces(arrow: pa.ChunkedArray) -> Iterator[pa.Array]:
    for chunk in arrow.chunks:
        for start in range(0, len(chunk), _PIECE_ROWS):
            yield chunk.slice(start, _PIECE_ROWS)


def _kind_of(kind: pa.DataType) -> Kind:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if _is_text(kind):
        return "category"
    return "time" if pa.types.is_temporal(kind) and not pa.types.is_interval(kind) else "other"


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view())


def _from_column(column: Column, like: ColumnProfile | None) -> ColumnProfile:
    """A column that was read value by value."""
    counts: NumberProfile | CategoryProfile | None = None
    if like is not None:
        column = as_kind(column, like.kind)
    facts = (column.kind, column.rows, column.missing, column.strays)
    axis = like.counts.axis if like is not None and like.counts is not None and like.kind == column.kind else None
    if like is not None and axis is None:
        return ColumnProfile(*facts)
    if column.kind == "number":
        assert axis is None or isinstance(axis, NumberAxis)
        counts = profile_number(
            column.numbers, axis or NumberAxis.of(column.numbers), missing=column.missing, strays=column.strays
        )
    elif column.kind in ("category", "boolean"):
        assert axis is None or isinstance(axis, CategoryAxis)
        counts = profile_category(
            column.texts, axis or CategoryAxis.of(column.texts), missing=column.missing, strays=column.strays
        )
    return ColumnProfile(*facts, counts)


def _merged(name: str, first: ColumnProfile, second: ColumnProfile) -> ColumnProfile:
    rows, missing, strays = (
        first.rows + second.rows, first.missing + second.missing, first.strays + second.strays,
    )  # fmt: skip
    if "none" in (first.kind, second.kind) or first.kind != second.kind:
        # Most rows decide the kind, the name of the kind a tie; the other side's values are strays.
        kept, other = sorted((first, second), key=lambda one: (one.kind == "none", -one.present, one.kind))
        strays += other.present
        counts = kept.counts and _with_others(kept.counts, missing=other.missing, strays=other.strays + other.present)
        return ColumnProfile(kept.kind, rows, missing, strays, counts)
    if first.counts is None or second.counts is None:
        return ColumnProfile(first.kind, rows, missing, strays)
    if first.counts.axis != second.counts.axis:
        raise InvalidInputError(
            f"The column {name!r} was profiled against two references, so its profiles cannot be added.",
            hint="Profile both tables with the same `reference`.",
            field=name,
        )
    counts = (
        merge_numbers(first.counts, second.counts)
        if isinstance(first.counts, NumberProfile) and isinstance(second.counts, NumberProfile)
        else merge_categories(first.counts, second.counts)  # type: ignore[arg-type]
    )
    return ColumnProfile(first.kind, rows, missing, strays, counts)


def _with_others(
    counts: NumberProfile | CategoryProfile, *, missing: int, strays: int
) -> NumberProfile | CategoryProfile:
    missing, strays = counts.missing + missing, counts.strays + strays
    if isinstance(counts, NumberProfile):
        return NumberProfile(counts.axis, counts.cells, counts.counts, missing, strays)
    return CategoryProfile(counts.axis, counts.counts, counts.unseen, counts.overflow, missing, strays)
