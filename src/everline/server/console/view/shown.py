"""What a person is shown with a question: metrics side by side, facts, small tables, and the rest as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from everline.server.console.view import metrics as metric_words
from everline.server.console.view import render

METRICS_MAX, COLUMNS_MAX = 40, 8
_ROWS_MAX, _CELLS_MAX, _FACTS_MAX = 20, 7, 12
_JSON_MAX = 6_000
_DEPTH_MAX = 3


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A small table; the first column names the row."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    left: int = 0


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """All that a question shows.

    Attributes:
        facts: label and value.
        whole: the same as JSON, cut to 6,000 characters.
    """

    metrics: Table | None
    facts: list[tuple[str, str]]
    tables: list[Table]
    whole: str


def of(shown: Mapping[str, Any]) -> Shown:
    """Lay out what an approval shows: by the name of each input, a JSON value or the kind and digest of a result."""
    measured: dict[str, dict[str, float]] = {}
    facts: list[tuple[str, str]] = []
    tables: list[Table] = []
    for name, value in shown.items():
        _lay_out(str(name), value, measured, facts, tables, depth=0)
    whole = render.pretty(dict(shown))
    return Shown(
        metrics=_side_by_side(measured),
        facts=facts[: 2 * _FACTS_MAX],
        tables=tables[:_CELLS_MAX],
        whole=render.clip(whole, _JSON_MAX) if shown else "",
    )


def _lay_out(
    name: str, value: Any, measured: dict[str, dict[str, float]], facts: list[tuple[str, str]], tables: list[Table],
    *, depth: int,
) -> None:  # fmt: skip
    if isinstance(value, Mapping) and set(value) <= {"kind", "digest", "rows"} and "digest" in value:
        rows = f", {render.number(value['rows'])} rows" if "rows" in value else ""
        facts.append((name, f"{value.get('kind')}{rows}, {render.value(value['digest'])}"))
    elif isinstance(value, Mapping):
        _lay_out_mapping(name, value, measured, facts, tables, depth=depth)
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        tables.append(_table(name, value))
    else:
        facts.append((name, render.clip(render.value(value), 200)))


def _lay_out_mapping(
    name: str, value: Mapping[str, Any], measured: dict[str, dict[str, float]], facts: list[tuple[str, str]],
    tables: list[Table], *, depth: int,
) -> None:  # fmt: skip
    numbers = {str(key): float(one) for key, one in value.items() if _is_number(one)}
    if numbers and len(numbers) == len(value):
        measured.setdefault(name, {}).update(numbers)
        return
    for key, one in list(value.items())[:_FACTS_MAX]:
        if key == "metrics" and isinstance(one, Mapping):
            measured.setdefault(name, {}).update({str(k): float(v) for k, v in one.items() if _is_number(v)})
        elif isinstance(one, Mapping | list) and one and depth < _DEPTH_MAX:
            _lay_out(f"{name}.{key}", one, measured, facts, tables, depth=depth + 1)
        elif one not in (None, [], {}, ""):
            facts.append((f"{name}.{key}", render.clip(render.value(one), 200)))


def _side_by_side(measured: Mapping[str, Mapping[str, float]]) -> Table | None:
    """One column for each thing that was measured; with two of them, the difference."""
    if not any(measured.values()):
        return None
    names = list(measured)[:COLUMNS_MAX]
    keys = sorted({key for name in names for key in measured[name]}, key=lambda key: (metric_words.rank(key), key))
    rows = []
    for key in keys[:METRICS_MAX]:
        values = [measured[name].get(key) for name in names]
        cells = [render.number(one) for one in values]
        if len(names) == 2:
            first, second = values
            cells.append("–" if first is None or second is None else f"{first - second:+.4g}")
        rows.append([render.words(key), *cells])
    columns = ["Metric", *names, *(["Difference"] if len(names) == 2 else [])]
    return Table(title="Metrics", columns=columns, rows=rows, left=max(0, len(keys) - METRICS_MAX))


def _table(name: str, rows: list[Mapping[str, Any]]) -> Table:
    flat = [_flat(row) for row in rows[:_ROWS_MAX]]
    columns = list(dict.fromkeys(key for row in flat for key in row))[:_CELLS_MAX]
    cells = [[render.clip(render.value(row.get(column)), 60) for column in columns] for row in flat]
    return Table(title=name, columns=columns, rows=cells, left=max(0, len(rows) - _ROWS_MAX))


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            found |= {str(inner): one for inner, one in value.items()}
        else:
            found[str(key)] = value
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
