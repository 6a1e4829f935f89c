"""Rows as text/csv, with the names of the columns in the first line, as MLflow's `/invocations` takes them.

An empty cell, and a cell that says NaN, is a missing value. Whether a cell is a number or text is for the signature to
say, so that "007" stays a text and 18 becomes a number where the model wants one.
Source: RFC 4180; https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally
"""

from __future__ import annotations

import csv
import io
from typing import Any

from everline.errors import InvalidInputError, TooLargeError
from everline.ids import whole_number
from everline.models.signature import ColumnType, Signature
from everline.serving.dataplane.forms.ask import Column

_MISSING = frozenset({"", "NaN", "nan", "NULL", "null", "None", "NA", "N/A"})
_TRUTH = {"true": True, "false": False, "1": True, "0": False}
_REAL = frozenset({ColumnType.FLOAT, ColumnType.DOUBLE})
_WHOLE = frozenset({ColumnType.INTEGER, ColumnType.LONG})


def read(body: bytes, signature: Signature, *, parameters: str, rows_max: int) -> dict[str, Column]:
    """Columns of a CSV body.

    Args:
        parameters: what stands behind `text/csv` in the content type.

    Raises:
        InvalidInputError: not UTF-8, a line with another number of cells, or a column that is named twice.
        TooLargeError: more rows than `rows_max`.
    """
    if "charset" in parameters and "utf-8" not in parameters.lower() and "ascii" not in parameters.lower():
        raise InvalidInputError("The body is not UTF-8, as its content type says.", hint="Send text/csv in UTF-8.")
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(
            f"The body is not CSV: {str(error)[:200]}.", hint="The first line names the columns; cells are in UTF-8."
        ) from None
    lines = [line for line in lines if line]
    if len(lines) - 1 > rows_max:
        raise TooLargeError(f"The request has {len(lines) - 1} rows; {rows_max} are allowed.")
    if len(lines) < 2:
        raise InvalidInputError(
            "The request has no rows.", hint="The first line names the columns, the others are rows."
        )
    names, rows = lines[0], lines[1:]
    if len(set(names)) != len(names):
        raise InvalidInputError("The first line names a column twice.")
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise InvalidInputError(
                f"Line {number + 2} has {len(row)} cells for {len(names)} columns.",
                hint="Put a cell with a comma in it between quotation marks.",
            )
    kinds = {field.name: field.type for field in signature.inputs}
    return {
        name: [_value(cell, kinds.get(name, ColumnType.STRING)) for cell in cells]
        for name, cells in zip(names, zip(*rows, strict=True), strict=True)
    }


def _value(cell: str, kind: ColumnType) -> Any:
    """A cell in the signature's type; what cannot be read stays text, and the signature's check says so."""
    if cell in _MISSING:
        return None
    if kind is ColumnType.BOOLEAN:
        return _TRUTH.get(cell.lower(), cell)
    if kind in _WHOLE:
        return _whole(cell)
    return _real(cell) if kind in _REAL else cell


def _whole(cell: str) -> int | str:
    sign, digits = (-1, cell[1:]) if cell[:1] == "-" else (1, cell)
    number = whole_number(digits.removesuffix(".0"))
    return cell if number is None else sign * number


def _real(cell: str) -> float | str:
    try:
        return float(cell) if "_" not in cell else cell
    except ValueError:
        return cell
