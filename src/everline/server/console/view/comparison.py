"""How runs stand side by side: what differs from a baseline, and by how much. Knows no service."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from everline.runs.types import Difference, Run
from everline.server.console.view import metrics, render, run_table

_TEXT_CHARACTERS_MAX = 300
_AXES_OF_A_KIND = 4


def labels(runs: Sequence[Run]) -> list[str]:
    """A name for each run, told apart by the end of its uid where two have the same."""
    names = [run.name for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} …{run.run[-6:]}" for name, run in zip(names, runs, strict=True)
    ]


def metric_rows(lines: Iterable[Difference], *, baseline: int, every: bool) -> list[dict[str, Any]]:
    """Metrics with the best value marked, and how far the others are from the baseline's."""
    rows = []
    for line in lines:
        if not (every or line.differs):
            continue
        best, base = metrics.best(line.key, line.values), line.values[baseline]
        rows.append({
            "key": line.key,
            "cells": [
                {
                    "text": render.number(value, 5),
                    "best": value is not None and value == best,
                    **_change(line.key, value, base, own=at == baseline),
                }
                for at, value in enumerate(line.values)
            ],
        })  # fmt: skip
    return rows


def text_rows(lines: Iterable[Difference], *, baseline: int, every: bool) -> list[dict[str, Any]]:
    """Anything else with what differs from the baseline marked."""
    return [
        {
            "key": line.key,
            "cells": [
                {
                    "text": _said(value),
                    "differs": value != line.values[baseline],
                    "absent": value is None,
                }
                for value in line.values
            ],
        }
        for line in lines
        if every or line.differs
    ]


def numeric_columns(runs: Sequence[Run]) -> dict[str, list[float | None]]:
    """Every metric, and every parameter that is a number in each run that has it; with a value in two runs at least."""
    found: dict[str, list[float | None]] = {}
    for key in sorted({key for run in runs for key in run.metrics}):
        found[f"metrics.{key}"] = [_finite(run.metrics.get(key)) for run in runs]
    for key in sorted({key for run in runs for key in run.params}):
        texts = [run.params.get(key) for run in runs]
        if all(text is None or run_table.is_number(text) for text in texts):
            found[f"params.{key}"] = [None if text is None else _finite(float(text)) for text in texts]
    return {column: values for column, values in found.items() if sum(value is not None for value in values) > 1}


def axis_columns(runs: Sequence[Run]) -> dict[str, Sequence[float | str | None]]:
    """What can be an axis: the numeric columns, and parameters with words."""
    numeric = numeric_columns(runs)
    words = {
        f"params.{key}": [run.params.get(key) for run in runs]
        for key in sorted({key for run in runs for key in run.params})
        if f"params.{key}" not in numeric
    }
    return {**words, **numeric}


def usual_axes(columns: dict[str, Sequence[float | str | None]]) -> list[str]:
    """The parameters that vary, then the metrics that people look at first; of runs that are all alike, anything."""
    varied = [column for column, values in columns.items() if len(set(values)) > 1]
    varied = varied if len(varied) > 1 else list(columns)
    params = [column for column in varied if column.startswith("params.")]
    measured = [column for column in varied if column.startswith("metrics.")]
    measured.sort(key=lambda column: (metrics.rank(column.removeprefix("metrics.")), column))
    return [*params[:_AXES_OF_A_KIND], *reversed(measured[:_AXES_OF_A_KIND])]


def diff_lines(lines: Iterable[str]) -> list[tuple[str, str]]:
    """The kind and text of the lines of a unified difference."""
    kinds = {"+": "added", "-": "removed", "@": "place"}
    return [(kinds.get(line[:1], "same"), line) for line in lines]


def _said(value: Any) -> str:
    if isinstance(value, str) and value.startswith("sha256:"):
        return render.short(value)
    return render.clip(render.value(value), _TEXT_CHARACTERS_MAX)


def _change(key: str, value: float | None, base: float | None, *, own: bool) -> dict[str, str]:
    if own or value is None or base is None or value == base or not (math.isfinite(value) and math.isfinite(base)):
        return {"change": "", "tone": ""}
    difference = value - base
    text = f"{'+' if difference > 0 else '−'}{render.number(abs(difference), 3)}"
    if base:
        share = abs(difference / base) * 100
        text += f" ({share:.2g} %)" if share < 1000 else ""
    sense = metrics.direction(key)
    return {"change": text, "tone": "" if not sense else "good" if difference * sense > 0 else "bad"}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and abs(value) < 1e300 else None
