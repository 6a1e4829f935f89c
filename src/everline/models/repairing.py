"""What an endpoint with the guard `repair` mends before it asks the model: only what has one meaning.

| found | becomes |
| --- | --- |
| a number as text, in a column of numbers | the number |
| a float without a fraction, in a column of whole numbers | the whole number |
| NaN or infinity, where null is allowed | null |
| 0, 1, "true", "false" in a column of booleans | false, true |
| a whole number in a column of text | its digits |
| text with white space around a known category | the category |
| a column that is not there, where null is allowed | null in every row |

Whatever else does not fit the signature is refused as ever. Nothing is guessed: no mean in place of a null, no nearest
category, no number clipped to a range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from everline.ids import whole_number
from everline.models.signature import Array, ColumnType, Field, Finding, Signature

_TRUTH = {"true": True, "false": False, "1": True, "0": False}
_TEXT_CHARACTERS_MAX = 64


def repair(
    signature: Signature, columns: Mapping[str, Sequence[Any] | Array]
) -> tuple[dict[str, Sequence[Any] | Array], list[Finding]]:
    """Mend a call.

    Args:
        columns: one value per row under each input's name, as a caller sent them.

    Returns:
        The columns, mended where they could be; and per mended column one finding with the problem `repaired`, the
        first row and how many rows.
    """
    mended: dict[str, Sequence[Any] | Array] = dict(columns)
    findings: list[Finding] = []
    rows = max((len(column) for column in columns.values()), default=0)
    for field in signature.inputs:
        column = columns.get(field.name)
        if column is None:
            if field.nullable and rows:
                mended[field.name] = [None] * rows
                findings.append(_finding(field, 0, rows, "was not there", "null"))
            continue
        values = column if isinstance(column, (list, tuple)) else column.tolist()  # type: ignore[union-attr]
        new = [_mended(field, value) for value in values]
        changed = [row for row, (old, now) in enumerate(zip(values, new, strict=True)) if not _same(old, now)]
        if changed:
            first = changed[0]
            mended[field.name] = new
            findings.append(_finding(field, first, len(changed), f"held {values[first]!r:.60}", repr(new[first])))
    return mended, findings


def _mended(field: Field, value: Any) -> Any:
    return value if value is None else _MENDERS[field.type](field, value)


def _real(field: Field, value: Any) -> Any:
    if type(value) is str and len(value) <= _TEXT_CHARACTERS_MAX and "_" not in value:
        try:
            value = float(value)
        except ValueError:
            return value
    if type(value) is float and not math.isfinite(value) and field.nullable:
        return None
    return value


def _whole(field: Field, value: Any) -> Any:
    if type(value) is str:
        text = value.strip()
        number = whole_number(text.removeprefix("-"))
        return value if number is None else -number if text.startswith("-") else number
    if type(value) is float:
        if math.isfinite(value):
            return int(value) if value.is_integer() else value
        return None if field.nullable else value
    return value


def _boolean(field: Field, value: Any) -> Any:
    if type(value) is int and value in (0, 1):
        return bool(value)
    return _TRUTH.get(value.strip().lower(), value) if type(value) is str else value


def _text(field: Field, value: Any) -> Any:
    if type(value) is int:
        return str(value)
    if type(value) is str and field.categories is not None and value not in field.categories:
        stripped = value.strip()
        return stripped if stripped in field.categories else value
    return value


def _as_it_is(field: Field, value: Any) -> Any:
    return value


def _same(old: Any, now: Any) -> bool:
    return type(old) is type(now) and (old == now or old != old)


def _finding(field: Field, row: int, count: int, was: str, now: str) -> Finding:
    return Finding(
        field=field.name,
        problem="repaired",
        message=f"Input {field.name!r} was repaired in {count} rows: row {row} {was}, which became {now}.",
        hint=f"Send {field.name!r} as the signature has it.",
        row=row,
        count=count,
    )


_MENDERS: dict[ColumnType, Callable[[Field, Any], Any]] = {
    ColumnType.BOOLEAN: _boolean,
    ColumnType.INTEGER: _whole,
    ColumnType.LONG: _whole,
    ColumnType.FLOAT: _real,
    ColumnType.DOUBLE: _real,
    ColumnType.STRING: _text,
    ColumnType.DATETIME: _as_it_is,
}
