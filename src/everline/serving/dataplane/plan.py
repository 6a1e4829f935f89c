"""How the columns of one signature become arrays, worked out once per revision and then run on every batch.

`models.signature.check_columns` looks at a call column by column and can say everything that is wrong with it; at
fourteen columns it takes a hundred microseconds. Here numbers of all columns go through the same checks together, in
two matrices, which takes a tenth. Whatever does not pass is asked about there: this module only says `UnfitError`.

Both give the same arrays for the same call, bit for bit; `tests/property/serving` holds them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from everline.loader import late
from everline.models.signature import (
    Array,
    ColumnType,
    Field,
    Finding,
    Signature,
    SignatureError,
    check_columns,
    outside_training,
)

if TYPE_CHECKING:
    import numpy as np

    from everline.serving.dataplane.forms.ask import Ask
else:
    np = late("numpy")

_WHOLE = frozenset({ColumnType.INTEGER, ColumnType.LONG})
_REAL = frozenset({ColumnType.FLOAT, ColumnType.DOUBLE})
_NUMBERS: frozenset[type] = frozenset({float, int, type(None)})
_INTEGERS: frozenset[type] = frozenset({int, type(None)})
_INT32 = (-(1 << 31), (1 << 31) - 1)
_INT64 = (-(1 << 63), (1 << 63) - 1)


_INF = float("inf")
_NAN = float("nan")
_REAL_PLACE, _WHOLE_PLACE = 0, 1
_LISTS: frozenset[type] = frozenset({list, tuple})
_astuple = msgspec.structs.astuple


class UnfitError(Exception):
    """Something is wrong with these columns; `check_columns` says what."""


class Arrays(msgspec.Struct, frozen=True, kw_only=True):
    """Columns as a model takes them.

    Attributes:
        outside: per field with values outside of the training data, which rows.
    """

    rows: int
    arrays: dict[str, Array]
    outside: list[tuple[Field, Array]]

    def flags(self, start: int, stop: int) -> list[Finding]:
        """What lies outside of the training data in some of the rows, told as if they had come alone."""
        found: list[Finding] = []
        for field, mask in self.outside:
            if mask[start:stop].any():
                array = self.arrays[field.name][start:stop]
                found.extend(outside_training(field, array.tolist(), array))
        return found


class Plan:
    """The columns of one signature; `check` is what happens to each batch."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.names = [field.name for field in signature.inputs]
        self._known = frozenset(self.names)
        whole = [field for field in signature.inputs if field.type in _WHOLE and not field.nullable]
        real = [f for f in signature.inputs if f.type in _REAL or (f.type in _WHOLE and f.nullable)]
        self._rest = [f for f in signature.inputs if f.type not in _REAL and f.type not in _WHOLE]
        self._real = _Matrix(real)
        self._whole = _Matrix(whole)
        self._fields = {field.name: field for field in signature.inputs}
        self._categories = {
            field.name: frozenset(field.categories)
            for field in signature.inputs
            if field.categories is not None and field.type is ColumnType.STRING
        }
        # In the order of the matrices: which one, the limits of the training data, where in a row.
        place = {field.name: number for number, field in enumerate(signature.inputs)}
        self._limits = [
            (where, _limit(field, field.min, -_INF), _limit(field, field.max, _INF), place[field.name])
            for where, fields in ((_REAL_PLACE, real), (_WHOLE_PLACE, whole))
            for field in fields
        ]
        self._texts = [(field, place[field.name]) for field in self._rest]
        self._plain = all(
            field.type in (ColumnType.DOUBLE, ColumnType.LONG, ColumnType.STRING) for field in signature.inputs
        )
        self._row = _row_type(signature)
        self._decode_row = msgspec.json.Decoder(self._row)
        self._decode_rows = msgspec.json.Decoder(list[self._row])  # type: ignore[name-defined]

    def read_rows(self, body: bytes) -> tuple[list[tuple[Any, ...]], bool]:
        """Read one JSON object, or a list of them, with exactly the inputs of the signature.

        Returns:
            Rows of values that have the signature's types, in its order; and whether it was one object.

        Raises:
            UnfitError: it is anything else.
        """
        try:
            if body[:1] == b"{":
                return [_astuple(self._decode_row.decode(body))], True
            return list(map(_astuple, self._decode_rows.decode(body))), False
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise UnfitError from None

    def knows(self, ask: Ask) -> bool:
        """Whether an ask has the inputs of the signature, no more and no fewer."""
        return ask.table is not None or ask.columns.keys() == self._known

    def check(self, columns: Mapping[str, Sequence[Any] | Array], *, rows: int, typed: bool) -> Arrays:
        """Turn columns into what the model takes.

        Args:
            columns: `rows` values for each input.
            typed: the values have the signature's types already.

        Raises:
            UnfitError: something is wrong.
        """
        if rows == 1 and typed and self._plain:
            return self._check_one([columns[name][0] for name in self.names])
        arrays: dict[str, Array] = {}
        outside: list[tuple[Field, Array]] = []
        try:
            if self._real.fields:
                self._check_real(columns, rows, typed, arrays, outside)
            if self._whole.fields:
                self._check_whole(columns, rows, typed, arrays, outside)
        except (TypeError, ValueError, OverflowError):
            raise UnfitError from None
        for field in self._rest:
            self._check_rest(field, columns[field.name], rows, arrays, outside)
        return Arrays(rows=rows, arrays={name: arrays[name] for name in self.names}, outside=self._in_order(outside))

    def _check_one(self, row: list[Any]) -> Arrays:
        """The same for one row of typed values, in plain Python: it takes a third of the time of the matrices."""
        reals: list[float] = []
        wholes: list[int] = []
        outside: list[tuple[Field, Array]] = []
        for place, low, high, position in self._limits:
            value = row[position]
            if value is None:
                reals.append(_NAN)
                continue
            (reals if place is _REAL_PLACE else wholes).append(value)
            if not low <= value <= high:
                if value in (_INF, -_INF):
                    raise UnfitError
                outside.append((self.signature.inputs[position], np.ones(1, bool)))
        real, whole = np.array(reals, dtype=np.float64), np.array(wholes, dtype=np.int64)
        arrays: dict[str, Array] = {}
        for number, name in enumerate(self._real.names):
            arrays[name] = real[number : number + 1]
        for number, name in enumerate(self._whole.names):
            arrays[name] = whole[number : number + 1]
        for field, position in self._texts:
            value = row[position]
            array = np.empty(1, dtype=object)
            array[0] = value
            arrays[field.name] = array
            known = self._categories.get(field.name)
            if known is not None and value is not None and value not in known:
                outside.append((field, np.ones(1, bool)))
        return Arrays(rows=1, arrays={name: arrays[name] for name in self.names}, outside=self._in_order(outside))

    def _in_order(self, outside: list[tuple[Field, Array]]) -> list[tuple[Field, Array]]:
        return sorted(outside, key=lambda pair: self.names.index(pair[0].name)) if len(outside) > 1 else outside

    def outside(self, arrays: Mapping[str, Array]) -> list[tuple[Field, Array]]:
        """Which rows of checked arrays lie outside of the training data, by field."""
        found: list[tuple[Field, Array]] = []
        for matrix in (self._real, self._whole):
            if matrix.fields:
                matrix.flag(np.array([arrays[name] for name in matrix.names], dtype=np.float64), found)
        for name, known in self._categories.items():
            self._flag_categories(name, arrays[name], known, found)
        return self._in_order(found)

    def _flag_categories(
        self, name: str, column: Any, known: frozenset[str], outside: list[tuple[Field, Array]]
    ) -> None:
        if known.issuperset(column):
            return
        mask = np.fromiter((value is not None and value not in known for value in column), bool, len(column))
        if mask.any():
            outside.append((self._fields[name], mask))

    def _check_real(
        self,
        columns: Mapping[str, Any],
        rows: int,
        typed: bool,
        arrays: dict[str, Array],
        outside: list[tuple[Field, Array]],
    ) -> None:
        matrix = self._real
        values = matrix.filled(columns, rows, typed, np.float64)
        for position in matrix.float32:
            with np.errstate(over="ignore"):
                values[position] = values[position].astype(np.float32)
        if not np.isfinite(values).all():
            missing = np.isnan(values)
            if np.isinf(values).any() or (missing & ~matrix.nullable).any():
                raise UnfitError
            values[missing] = np.nan  # one NaN for all: the bits of another would not survive the log
        if matrix.integer_nullable and not typed:
            self._whole_in_range(matrix, values)
        matrix.flag(values, outside)
        for position, name in enumerate(matrix.names):
            row = values[position]
            arrays[name] = row.astype(np.float32) if position in matrix.float32 else row

    def _check_whole(
        self,
        columns: Mapping[str, Any],
        rows: int,
        typed: bool,
        arrays: dict[str, Array],
        outside: list[tuple[Field, Array]],
    ) -> None:
        matrix = self._whole
        values = matrix.filled(columns, rows, typed, np.int64)
        if not typed:
            self._whole_in_range(matrix, values)
        matrix.flag(values, outside)
        for position, name in enumerate(matrix.names):
            row = values[position]
            arrays[name] = row.astype(np.int32) if position in matrix.int32 else row

    def _whole_in_range(self, matrix: _Matrix, values: Array) -> None:
        for position in matrix.int32:
            row = values[position]
            if ((row < _INT32[0]) | (row > _INT32[1])).any():
                raise UnfitError
        for position in matrix.integer_nullable:
            if (np.abs(values[position]) >= 2.0**63).any():
                raise UnfitError

    def _check_rest(
        self, field: Field, column: Any, rows: int, arrays: dict[str, Array], outside: list[tuple[Field, Array]]
    ) -> None:
        if field.type is not ColumnType.STRING:
            try:
                alone = check_columns(Signature(inputs=[field]), {field.name: list(column)})
            except SignatureError:
                raise UnfitError from None
            arrays[field.name] = alone.arrays[field.name]
            return
        kinds = set(map(type, column))
        if len(column) != rows or not kinds <= ({str, type(None)} if field.nullable else {str}):
            raise UnfitError
        array = np.empty(rows, dtype=object)
        array[:] = column
        arrays[field.name] = array
        known = self._categories.get(field.name)
        if known is not None:
            self._flag_categories(field.name, column, known, outside)


class _Matrix:
    """Several columns of numbers, with their limits as columns too."""

    def __init__(self, fields: list[Field]) -> None:
        self.fields = fields
        self.names = [field.name for field in fields]
        self.nullable = np.array([[field.nullable] for field in fields], dtype=bool)
        self.float32 = frozenset(i for i, field in enumerate(fields) if field.type is ColumnType.FLOAT)
        self.int32 = frozenset(i for i, field in enumerate(fields) if field.type is ColumnType.INTEGER)
        self.integer_nullable = [i for i, field in enumerate(fields) if field.type in _WHOLE and field.nullable]
        self._low = np.array([[_limit(field, field.min, -np.inf)] for field in fields], dtype=np.float64)
        self._high = np.array([[_limit(field, field.max, np.inf)] for field in fields], dtype=np.float64)

    def filled(self, columns: Mapping[str, Any], rows: int, typed: bool, dtype: Any) -> Array:
        """The columns as an array of shape (fields, rows).

        Raises:
            UnfitError: a value is of a type that its field does not take, or a column is of another length.
            TypeError, ValueError, OverflowError: a value does not fit the array.
        """
        given = [columns[name] for name in self.names]
        if not typed:
            for field, column in zip(self.fields, given, strict=True):
                _allow(column, field)
        values = np.array(given, dtype=dtype)
        if values.shape != (len(given), rows):
            raise UnfitError
        return values

    def flag(self, values: Array, outside: list[tuple[Field, Array]]) -> None:
        """Note which values lie outside of the training range."""
        wrong = (values < self._low) | (values > self._high)
        if wrong.any():
            outside.extend((self.fields[i], wrong[i]) for i in np.flatnonzero(wrong.any(axis=1)))


def _limit(field: Field, value: float | None, otherwise: float) -> float:
    if value is None:
        return otherwise
    return float(np.float32(value)) if field.type is ColumnType.FLOAT else float(value)


def _allow(column: Any, field: Field) -> None:
    real = field.type in _REAL
    if isinstance(column, np.ndarray):
        if column.dtype.kind not in ("fiu" if real else "iu"):
            raise UnfitError
    elif not (_NUMBERS if real else _INTEGERS).issuperset(map(type, column)):
        raise UnfitError


def gather(asks: Sequence[Ask], names: Sequence[str]) -> dict[str, Any]:
    """The columns of several asks one after the other."""
    if len(asks) == 1:
        return asks[0].by_column(names)
    tables = [ask.table if ask.table is not None else _by_row(ask, names) for ask in asks]
    return dict(zip(names, zip(*chain.from_iterable(tables), strict=True), strict=True))


def _by_row(ask: Ask, names: Sequence[str]) -> list[tuple[Any, ...]]:
    columns = [ask.columns[name] for name in names]
    if not _LISTS.issuperset(map(type, columns)):
        columns = [_plain(column) for column in columns]
    return list(zip(*columns, strict=True))


def _plain(column: Sequence[Any] | Array) -> Sequence[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else column


def _row_type(signature: Signature) -> type[msgspec.Struct]:
    """A type that JSON objects of exactly these inputs decode into, with the same types and no others."""
    fields: list[tuple[str, Any]] = []
    names: dict[str, str] = {}
    for position, field in enumerate(signature.inputs):
        kind = _KINDS[field.type]
        names[f"c{position}"] = field.name
        fields.append((f"c{position}", kind | None if field.nullable else kind))
    return msgspec.defstruct("Row", fields, rename=names, forbid_unknown_fields=True, frozen=True)


_KINDS: dict[ColumnType, Any] = {
    ColumnType.BOOLEAN: bool,
    ColumnType.INTEGER: Annotated[int, msgspec.Meta(ge=_INT32[0], le=_INT32[1])],
    ColumnType.LONG: Annotated[int, msgspec.Meta(ge=_INT64[0], le=_INT64[1])],
    ColumnType.FLOAT: float,
    ColumnType.DOUBLE: float,
    ColumnType.STRING: str,
    ColumnType.DATETIME: str,
}
