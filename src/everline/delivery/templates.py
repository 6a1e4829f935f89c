"""One definition, many things: a template's tables once for each row of its parameters.

`${name}` in any key or text stands for the row's value. A text that is nothing but one `${name}` becomes the value
itself, so that numbers stay numbers. Single braces stay as they are: `{since}` and `{slot}` are filled when a
trigger fires, not here.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from everline.delivery.faults import Text, nearest
from everline.delivery.spots import Path
from everline.errors import InvalidInputError

ROWS_MAX = 10_000
PARAMETERS_MAX = 100
_PLACE = re.compile(r"\$\{([^}]*)\}")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_PLAIN = (str, int, float, bool)


class Row(NamedTuple):
    """The parameters of one row, and how people name it."""

    values: dict[str, Any]
    label: str


def rows_of(template: Any, text: Text, path: Path, *, load: Callable[[str, Path], str]) -> list[Row]:
    """The rows of a template, from its `rows` or its `table`.

    Raises:
        InvalidInputError: neither or both are given, a table cannot be read, or there are too many rows.
    """
    if (template.rows is None) == (template.table is None):
        raise text.fault(
            f"The template {template.name!r} needs rows or a table, and not both.", path,
            hint='Write rows = [{carrier = "UA"}, …] or table = "carriers.csv".',
        )  # fmt: skip
    if template.rows is not None:
        found = list(template.rows)
    else:
        found = list(_read_csv(load(template.table, (*path, "table")), template.table))
    where = (*path, "rows" if template.rows is not None else "table")
    if not 1 <= len(found) <= ROWS_MAX:
        raise text.fault(f"The template {template.name!r} has {len(found):,} rows; 1 to {ROWS_MAX:,} can be.", where)
    for number, row in enumerate(found, 1):
        if set(row) != set(found[0]):
            odd = sorted(set(row) ^ set(found[0]))
            raise text.fault(f"Row {number} of the template {template.name!r} differs in its keys: {odd}.", where)
        for name, value in row.items():
            if not isinstance(value, _PLAIN):
                raise text.fault(
                    f"Row {number} of the template {template.name!r}: {name} is no text, number or truth value.", where
                )
    return [Row(row, f"template {template.name}, row {number}") for number, row in enumerate(found, 1)]


def fill(value: Any, row: Row, *, text: Text, path: Path) -> Any:
    """A value of a template with the row's parameters filled in, keys as well.

    Raises:
        InvalidInputError: a place names no parameter.
    """
    if isinstance(value, str):
        return _fill_text(value, row, text=text, path=path)
    if isinstance(value, list):
        return [fill(one, row, text=text, path=(*path, number)) for number, one in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            str(_fill_text(key, row, text=text, path=(*path, key))): fill(one, row, text=text, path=(*path, key))
            for key, one in value.items()
        }
    return value


def _fill_text(given: str, row: Row, *, text: Text, path: Path) -> Any:
    whole = _PLACE.fullmatch(given)
    if whole is not None:
        return _value(whole[1], row, text, path)
    return _PLACE.sub(lambda match: _as_text(_value(match[1], row, text, path)), given)


def _value(name: str, row: Row, text: Text, path: Path) -> Any:
    name = name.strip()
    if name not in row.values:
        raise text.fault(
            f"${{{name}}} names no parameter of the {row.label}{nearest(name, row.values) or '.'}",
            path,
            hint=f"Its parameters are {', '.join(row.values)}.",
        )
    return row.values[name]


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read_csv(content: str, name: str) -> Iterator[dict[str, Any]]:
    reader = csv.reader(io.StringIO(content.removeprefix("\ufeff")), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if not header or "" in header or len(set(header)) < len(header) or len(header) > PARAMETERS_MAX:
            raise InvalidInputError(
                f"The first line of {name} does not name the parameters, each once.",
                hint="Begin with a line such as carrier,canary_share.",
                field="table",
            )
        for number, cells in enumerate(reader, 1):
            if not cells:
                continue
            if len(cells) != len(header):
                raise InvalidInputError(
                    f"Line {reader.line_num} of {name} has {len(cells)} cells; its header has {len(header)}.",
                    field="table",
                )
            if number > ROWS_MAX:
                raise InvalidInputError(f"{name} has more than {ROWS_MAX:,} rows.", field="table")
            yield {key: _cell(cell.strip()) for key, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise InvalidInputError(f"Line {reader.line_num} of {name} is not CSV: {error}.", field="table") from None


def _cell(text: str) -> Any:
    """A cell as TOML would say it; what has leading zeros is a code and stays text."""
    if text in ("true", "false"):
        return text == "true"
    match = _NUMBER.fullmatch(text)
    if match is None or len(text) > 15:
        return text
    return int(text) if text.lstrip("-").isdigit() else float(text)
