"""What a model takes and gives: the types of its inputs and outputs, and the check of a call against them.

A call arrives as columns. Two kinds of things can be wrong with it:

- *refused*: the model cannot be asked at all (a column is missing or unknown, a value has the wrong
  type, is null or NaN where the signature does not allow it, columns differ in length);
- *flagged*: the model can answer, but the value lies outside what it was trained on (a number outside
  the range, an unknown category). Flags are counted; whoever serves the model may choose to refuse them.

Light on purpose: numpy and msgspec only, because the data plane imports this module.
Type names are MLflow's: https://mlflow.org/docs/latest/ml/model/signatures
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from everline.errors import InvalidInputError
from everline.loader import late

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]
else:
    np = late("numpy")
    Array = Any

_FINDINGS_SHOWN_MAX = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NULLS = frozenset({type(None)})


class ColumnType(StrEnum):
    """MLflow's column types; `integer` has 32 bits, `long` 64, `float` 32, `double` 64."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    STRING = "string"
    DATETIME = "datetime"


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a model.

    Attributes:
        nullable: whether null is an answerable value; in a numeric column the model then sees NaN.
        min, max: smallest and largest finite number seen in training; None for other types.
        categories: the values seen in training, sorted; None when there were too many, or for numbers.
    """

    name: str
    type: ColumnType
    nullable: bool = False
    min: float | None = None
    max: float | None = None
    categories: list[str] | None = None


class OutputField(msgspec.Struct, frozen=True, kw_only=True):
    """One output of a model."""

    name: str
    type: ColumnType


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs and outputs of a model, in the order in which the model knows them."""

    inputs: list[Field]
    outputs: list[OutputField] = []


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with one column.

    Attributes:
        problem: `missing`, `unknown`, `type`, `null`, `nan`, `length`, `range` or `category`.
        row: the first row that shows it, from 0; None when it concerns the whole column.
        count: how many rows show it.
    """

    field: str
    problem: str
    message: str
    hint: str
    row: int | None = None
    count: int = 1


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A call that a model can answer.

    Attributes:
        arrays: one array of `rows` values per input, as the model takes them: NaN, NaT or None for null.
        values: the same as plain Python values that can be written down and read back without loss.
        flags: what lies outside of the training data.
    """

    rows: int
    arrays: dict[str, Array]
    values: dict[str, list[Any]]
    flags: list[Finding]


class SignatureError(InvalidInputError):
    """A call does not fit the model's signature."""

    code = "signature_mismatch"

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = list(findings)
        shown = " ".join(finding.message for finding in findings[:_FINDINGS_SHOWN_MAX])
        more = len(findings) - _FINDINGS_SHOWN_MAX
        super().__init__(
            f"{shown} And {more} more." if more > 0 else shown, hint=findings[0].hint, field=findings[0].field
        )


def check_columns(
    signature: Signature,
    columns: Mapping[str, Sequence[Any] | Array],
    *,
    ignore_unknown: bool = False,
) -> Checked:
    """Check a call against a signature and turn it into what the model takes.

    Args:
        columns: one value per row under each input's name; plain Python values or arrays.
        ignore_unknown: drop and flag columns that the model does not know, instead of refusing them.

    Raises:
        SignatureError: the model cannot be asked; every reason is in `findings`.
    """
    refused: list[Finding] = []
    flags: list[Finding] = []
    arrays: dict[str, Array] = {}
    plain: dict[str, list[Any]] = {}
    known = {field.name for field in signature.inputs}
    for name in columns:
        if name not in known:
            (flags if ignore_unknown else refused).append(_unknown(name, known))
    rows = -1
    for field in signature.inputs:
        given = columns.get(field.name)
        if given is None:
            refused.append(_missing(field))
            continue
        values = _plain_list(given)
        rows = len(values) if rows < 0 else rows
        if len(values) != rows:
            refused.append(_length(field, len(values), rows))
            continue
        array, problem = _READERS[field.type](field, values)
        if problem is not None:
            refused.append(problem)
            continue
        arrays[field.name] = array
        plain[field.name] = _written(field, values, array)
        flags.extend(outside_training(field, values, array))
    if refused:
        raise SignatureError(refused)
    return Checked(rows=max(rows, 0), arrays=arrays, values=plain, flags=flags)


def example_columns(signature: Signature, *, rows: int = 8) -> dict[str, list[Any]]:
    """Make up a call that fits a signature, the same one every time.

    Numbers walk through the range by the golden ratio, categories take turns, and every nullable
    column has a null in some row. It stands in for data: a package never carries a row of training data.
    """
    made: dict[str, list[Any]] = {}
    for position, field in enumerate(signature.inputs):
        values = [_example_value(field, row, position) for row in range(rows)]
        if field.nullable:
            values = [None if (row + position) % 5 == 4 else value for row, value in enumerate(values)]
        made[field.name] = values
    return made


def _example_value(field: Field, row: int, position: int) -> Any:
    step = ((row + 1) * 0.6180339887498949 + position * 0.137) % 1.0
    low = 0.0 if field.min is None else field.min
    high = max(low, low + 1.0 if field.max is None else field.max)
    match field.type:
        case ColumnType.BOOLEAN:
            return step < 0.5
        case ColumnType.INTEGER | ColumnType.LONG:
            return int(low + step * (high - low))
        case ColumnType.FLOAT | ColumnType.DOUBLE:
            return low + step * (high - low)
        case ColumnType.STRING:
            names = field.categories or ["a", "b", "c"]
            return names[row % len(names)]
        case ColumnType.DATETIME:
            return (_EPOCH + timedelta(days=16000 + row, hours=position)).isoformat()


def _plain_list(given: Sequence[Any] | Array) -> list[Any]:
    if isinstance(given, np.ndarray):
        moments = given.dtype.kind == "M"
        listed: list[Any] = (given.astype("datetime64[us]") if moments else given).tolist()
        return listed
    if isinstance(given, list):
        return given
    return [value.item() if isinstance(value, np.generic) else value for value in given]


def _written(field: Field, values: list[Any], array: Array) -> list[Any]:
    if field.type is ColumnType.DATETIME:
        micros: list[int] = array.astype("int64").tolist()
        return [None if value is None else micro for value, micro in zip(values, micros, strict=True)]
    if field.type in _REALS:
        numbers: list[Any] = array.tolist()
        return [None if value != value else value for value in numbers] if field.nullable else numbers
    return values


def _find(
    values: list[Any], wrong: Callable[[Any], bool], *, field: Field, problem: str, what: str, hint: str
) -> Finding:
    rows = [row for row, value in enumerate(values) if wrong(value)]
    first = rows[0] if rows else 0
    shown = repr(values[first])[:60] if values else "nothing"
    others = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
    message = f"Input {field.name!r} {what}: row {first} holds {shown}{others}."
    return Finding(field=field.name, problem=problem, message=message, hint=hint, row=first, count=max(len(rows), 1))


def _wrong_type(field: Field, values: list[Any], allowed: Collection[type]) -> Finding:
    return _find(
        values,
        lambda value: value is not None and type(value) not in allowed,
        field=field,
        problem="type",
        what=f"must be of type {field.type}",
        hint=f"Send {_HINTS[field.type]} for {field.name!r}.",
    )


def _null(field: Field, values: list[Any]) -> Finding:
    return _find(
        values,
        lambda value: value is None,
        field=field,
        problem="null",
        what="may not be null",
        hint=f"Send {_HINTS[field.type]} for {field.name!r}; the model was trained without missing values there.",
    )


def _kinds(field: Field, values: list[Any], allowed: frozenset[type]) -> tuple[bool, Finding | None]:
    """Whether there are nulls in the column, and the first thing that forbids to read it."""
    kinds = set(map(type, values))
    if not kinds <= allowed | _NULLS:
        return False, _wrong_type(field, values, allowed)
    nulls = type(None) in kinds
    if nulls and not field.nullable:
        return True, _null(field, values)
    return nulls, None


def _read_real(field: Field, values: list[Any]) -> tuple[Array, Finding | None]:
    kind = np.float32 if field.type is ColumnType.FLOAT else np.float64
    empty: Array = np.empty(0, kind)
    nulls, problem = _kinds(field, values, frozenset({float, int}))
    if problem is not None:
        return empty, problem
    try:
        with np.errstate(over="ignore"):
            array: Array = np.array([np.nan if v is None else v for v in values] if nulls else values, dtype=kind)
    except OverflowError:
        return empty, _not_finite(field, values)
    if np.isinf(array).any():
        return empty, _not_finite(field, values)
    missing = np.isnan(array)
    if not missing.any():
        return array, None
    if not field.nullable:
        return empty, _find(
            values,
            lambda value: value != value,
            field=field,
            problem="nan",
            what="may not be NaN",
            hint=f"Send a number for {field.name!r}; the model was trained without missing values there.",
        )
    # One NaN for all: a payload in its bits would not survive being logged as null.
    array[missing] = np.nan
    return array, None


def _not_finite(field: Field, values: list[Any]) -> Finding:
    largest = float(np.finfo(np.float32 if field.type is ColumnType.FLOAT else np.float64).max)
    return _find(
        values,
        lambda value: value is not None and not (value != value or -largest <= value <= largest),
        field=field,
        problem="type",
        what=f"must be a finite number of type {field.type}",
        hint=f"Send a number between {-largest:g} and {largest:g}, or null where the signature allows it.",
    )


def _read_whole(field: Field, values: list[Any]) -> tuple[Array, Finding | None]:
    bits = 31 if field.type is ColumnType.INTEGER else 63
    empty: Array = np.empty(0, np.int64)
    nulls, problem = _kinds(field, values, frozenset({int}))
    if problem is not None:
        return empty, problem
    low, high = -(1 << bits), (1 << bits) - 1
    if any(value is not None and not low <= value <= high for value in values):
        return empty, _find(
            values,
            lambda value: value is not None and not low <= value <= high,
            field=field,
            problem="type",
            what=f"must fit type {field.type}",
            hint=f"Send a whole number between {low} and {high}.",
        )
    if field.nullable:
        # A column that can be null has no integer array; MLflow and pandas read it as float64 too.
        return np.array([np.nan if v is None else v for v in values] if nulls else values, dtype=np.float64), None
    return np.array(values, dtype=np.int32 if field.type is ColumnType.INTEGER else np.int64), None


def _read_boolean(field: Field, values: list[Any]) -> tuple[Array, Finding | None]:
    _, problem = _kinds(field, values, frozenset({bool}))
    if problem is not None:
        return np.empty(0, bool), problem
    return np.array(values, dtype=object if field.nullable else bool), None


def _read_string(field: Field, values: list[Any]) -> tuple[Array, Finding | None]:
    _, problem = _kinds(field, values, frozenset({str}))
    return np.array([] if problem else values, dtype=object), problem


def _read_datetime(field: Field, values: list[Any]) -> tuple[Array, Finding | None]:
    empty: Array = np.empty(0, "datetime64[us]")
    _, problem = _kinds(field, values, frozenset({str, datetime}))
    if problem is not None:
        return empty, problem
    micros = [_micros(value) for value in values]
    bad = {row for row, micro in enumerate(micros) if micro is None and values[row] is not None}
    if bad:
        return empty, _find(
            values,
            lambda value: value is not None and _micros(value) is None,
            field=field,
            problem="type",
            what="must be a time",
            hint=f"Send {_HINTS[field.type]} for {field.name!r}.",
        )
    nat = np.iinfo(np.int64).min
    return np.array([nat if m is None else m for m in micros], dtype=np.int64).view("datetime64[us]"), None


def _micros(value: str | datetime | None) -> int | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (aware - _EPOCH) // timedelta(microseconds=1)


def outside_training(field: Field, values: list[Any], array: Array) -> list[Finding]:
    """What of a column lies outside of the data that the model was trained on; at most one finding."""
    if field.categories is not None and field.type is ColumnType.STRING:
        known = set(field.categories)
        if set(values) - known - {None}:
            return [_outside_category(field, values, known)]
        return []
    if field.type not in _NUMBERS or (field.min is None and field.max is None) or array.size == 0:
        return []
    low = -np.inf if field.min is None else field.min
    high = np.inf if field.max is None else field.max
    outside = (array < low) | (array > high)
    if not outside.any():
        return []
    first = int(outside.argmax())
    count = int(outside.sum())
    message = f"Input {field.name!r} lies outside of the training range {low:g} to {high:g} in {count} rows."
    hint = f"Row {first} holds {values[first]!r}; check the unit and the source of {field.name!r}."
    return [Finding(field=field.name, problem="range", message=message, hint=hint, row=first, count=count)]


def _outside_category(field: Field, values: list[Any], known: set[str]) -> Finding:
    return _find(
        values,
        lambda value: value is not None and value not in known,
        field=field,
        problem="category",
        what="holds a category that was not in the training data",
        hint=f"Check the spelling of {field.name!r}; the model knows {len(known)} categories.",
    )


def _unknown(name: str, known: set[str]) -> Finding:
    return Finding(
        field=name[:128],
        problem="unknown",
        message=f"The model has no input {name[:128]!r}.",
        hint=f"Leave it out; the inputs are: {', '.join(sorted(known))}.",
    )


def _missing(field: Field) -> Finding:
    null = ", or null where it is not known" if field.nullable else ""
    return Finding(
        field=field.name,
        problem="missing",
        message=f"The input {field.name!r} is missing.",
        hint=f"Send {_HINTS[field.type]} for {field.name!r} in every row{null}.",
    )


def _length(field: Field, found: int, rows: int) -> Finding:
    return Finding(
        field=field.name,
        problem="length",
        message=f"The input {field.name!r} has {found} values where the columns before it have {rows}.",
        hint="Send one value per row in every column; null stands for a missing value.",
    )


_REALS = frozenset({ColumnType.FLOAT, ColumnType.DOUBLE})
_NUMBERS = _REALS | {ColumnType.INTEGER, ColumnType.LONG}
_HINTS = {
    ColumnType.BOOLEAN: "true or false",
    ColumnType.INTEGER: "a whole number of 32 bits",
    ColumnType.LONG: "a whole number of 64 bits",
    ColumnType.FLOAT: "a number",
    ColumnType.DOUBLE: "a number",
    ColumnType.STRING: "text",
    ColumnType.DATETIME: "a time such as 2013-06-01T05:00:00Z",
}
_READERS: dict[ColumnType, Callable[[Field, list[Any]], tuple[Array, Finding | None]]] = {
    ColumnType.BOOLEAN: _read_boolean,
    ColumnType.INTEGER: _read_whole,
    ColumnType.LONG: _read_whole,
    ColumnType.FLOAT: _read_real,
    ColumnType.DOUBLE: _read_real,
    ColumnType.STRING: _read_string,
    ColumnType.DATETIME: _read_datetime,
}
