"""What an address of the table of runs means, and how its rows look.

A `Look` is everything that a reader chose: it is read from the address and written back into one, so that every
page can be kept, shared and saved. This module knows no service.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from everline.errors import InvalidInputError
from everline.runs.types import Run, RunSelection, RunStatus
from everline.server.console.view import metrics, render

ROWS_CHOICES = (50, 100, 200)
COLUMNS_MAX = 40
PAGE_MAX = 10_000_000
_METRICS_SHOWN, _PARAMS_SHOWN = 4, 3
_VALUE_CHARACTERS_MAX = 120
FACTS = {
    "status": "Status",
    "experiment": "Experiment",
    "pipeline": "Pipeline",
    "user": "By",
    "started": "Started",
    "took": "Took",
    "data": "Data",
    "commit": "Commit",
    "run": "Run id",
}
"""Columns that are neither metrics, parameters nor tags, and their heads."""

_SORTED_AS = {"name": "run_name", "status": "status", "user": "user_id", "started": "start_time", "run": "run_id"}
_KINDS = {"metrics": "metrics", "params": "parameters", "tags": "tags"}
_LANGUAGE = re.compile(r"[=<>]|\b(LIKE|ILIKE|IN|IS)\b", re.IGNORECASE)
_PLAIN_KEY = re.compile(r"\w+(?:\.\w+)*")


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the table. `columns` is None until a reader chose some; `text` is what stands in the search box."""

    project: str = "default"
    text: str = ""
    experiments: tuple[str, ...] = ()
    statuses: tuple[RunStatus, ...] = ()
    pipeline: str | None = None
    without_pipeline: bool = False
    sort: str = ""
    group: str = ""
    columns: tuple[str, ...] | None = None
    nested: bool = False
    rows: int = ROWS_CHOICES[0]
    page: int = 1

    @property
    def filter(self) -> str:
        """The conditions in MLflow's language; a few bare words look for a name that has them."""
        if not self.text or _LANGUAGE.search(self.text):
            return self.text
        words = self.text.replace("'", "''")
        return f"attributes.run_name ILIKE '%{words}%'"

    @property
    def selection(self) -> RunSelection:
        """Which runs it shows."""
        return RunSelection(
            filter=self.filter,
            experiments=self.experiments,
            statuses=self.statuses,
            pipeline=self.pipeline,
            without_pipeline=self.without_pipeline,
            roots_only=self.nested and not self.group,
        )

    def query(self, **changes: Any) -> str:
        """The look, with changes, after the question mark of an address; whoever changes anything is back on page 1."""
        look = msgspec.structs.replace(self, **({} if "page" in changes or not changes else {"page": 1}), **changes)
        pairs: list[tuple[str, str]] = [("project", look.project)] if look.project != "default" else []
        pairs += [("q", look.text)] if look.text else []
        pairs += [("experiment", name) for name in look.experiments]
        pairs += [("status", status.value) for status in look.statuses]
        if look.pipeline is not None:
            pairs.append(("pipeline", look.pipeline))
        pairs += [("no-pipeline", "1")] if look.without_pipeline else []
        pairs += [(name, text) for name, text in (("sort", look.sort), ("group", look.group)) if text]
        pairs += [("nested", "1")] if look.nested else []
        pairs += [("col", column) for column in look.columns or ()]
        pairs += [("rows", str(look.rows))] if look.rows != ROWS_CHOICES[0] else []
        pairs += [("page", str(look.page))] if look.page > 1 else []
        return urlencode(pairs)


def read_look(pairs: Iterable[tuple[str, str]], *, project: str = "default") -> Look:
    """Read the pairs of an address.

    Raises:
        InvalidInputError: a status, number or column is none, or a text has a NUL, which databases refuse.
    """
    given: dict[str, list[str]] = {}
    for name, text in pairs:
        if "\x00" in text:
            raise InvalidInputError("The address contains a NUL character.", field=name[:40])
        if text.strip():
            given.setdefault(name, []).append(text.strip())
    columns = tuple(dict.fromkeys(given.get("col", ())))
    if len(columns) > COLUMNS_MAX:
        raise InvalidInputError(f"The table shows at most {COLUMNS_MAX} columns, not {len(columns)}.", field="col")
    for column in columns:
        if column not in FACTS and (column.partition(".")[0] not in _KINDS or not column.partition(".")[2]):
            raise InvalidInputError(
                f"There is no column {column[:200]!r}.",
                hint=f"Columns are {', '.join(FACTS)}, and metrics.NAME, params.NAME, tags.NAME.",
                field="col",
            )
    rows = _whole(given, "rows", ROWS_CHOICES[0])
    return Look(
        project=project,
        text=_one(given, "q"),
        experiments=tuple(dict.fromkeys(given.get("experiment", ()))),
        statuses=tuple(_status(text) for text in dict.fromkeys(given.get("status", ()))),
        pipeline=given["pipeline"][-1] if "pipeline" in given else None,
        without_pipeline="no-pipeline" in given,
        sort=_one(given, "sort"),
        group=_one(given, "group"),
        columns=columns or None,
        nested="nested" in given,
        rows=min((choice for choice in ROWS_CHOICES if choice >= rows), default=ROWS_CHOICES[-1]),
        page=max(1, _whole(given, "page", 1)),
    )


def default_columns(runs: Sequence[Run], *, one_experiment: bool) -> tuple[str, ...]:
    """What a reader sees who chose nothing: the metrics that people look at first, and the parameters that vary."""
    measured = Counter(key for run in runs for key in run.metrics)
    first = sorted(measured, key=lambda key: (metrics.rank(key), -measured[key], key))[:_METRICS_SHOWN]
    values: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.params.items():
            values.setdefault(key, set()).add(value)
    given = Counter(key for run in runs for key in run.params)
    varied = sorted((key for key in values if len(values[key]) > 1), key=lambda key: (-given[key], key))
    origin = ["pipeline"] if any(run.pipeline for run in runs) else []
    where = origin or ([] if one_experiment else ["experiment"])
    return (
        "status",
        *where,
        *(f"metrics.{key}" for key in first),
        *(f"params.{key}" for key in varied[:_PARAMS_SHOWN]),
        "user",
        "started",
        "took",
    )


def heads(look: Look, columns: Sequence[str], runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The heads of the columns, each with the address that sorts by it, if it can."""
    made = [_head(look, "name", "Run", number=False)]
    for column in columns:
        kind, _, key = column.partition(".")
        numeric = kind == "metrics" or column == "took"
        if kind == "params":
            numeric = all(is_number(run.params[key]) for run in runs if key in run.params)
        made.append(_head(look, column, FACTS.get(column, key), number=numeric))
    return made


def cells(columns: Sequence[str], runs: Sequence[Run]) -> list[list[dict[str, Any]]]:
    """The cells of each run; a metric's has the share of its column's range, and whether it is the best on the page."""
    measured = {
        column: [run.metrics.get(column.partition(".")[2]) for run in runs]
        for column in columns
        if column.startswith("metrics.")
    }
    ranges = {column: _range(values) for column, values in measured.items()}
    best = {column: metrics.best(column.partition(".")[2], values) for column, values in measured.items()}
    return [[_cell(column, run, ranges.get(column), best.get(column)) for column in columns] for run in runs]


def plain_value(column: str, run: Run) -> Any:
    """A cell's value as a file holds it."""
    kind, _, key = column.partition(".")
    if kind == "metrics":
        return run.metrics.get(key)
    if kind in _KINDS:
        return (run.params if kind == "params" else run.tags).get(key)
    return {
        "status": run.status.value,
        "experiment": run.experiment,
        "pipeline": run.pipeline,
        "user": run.user,
        "started": run.started_at,
        "took": render.seconds_between(run.started_at, run.ended_at),
        "data": ", ".join(one.name if one.version is None else f"{one.name} {one.version}" for one in run.inputs),
        "commit": run.summary.get("commit"),
        "run": run.run,
    }[column]


def quoted(kind: str, key: str) -> str | None:
    """`metrics.auc` as the search language writes it; None for a name that it has no way to write."""
    if _PLAIN_KEY.fullmatch(key):
        return f"{kind}.{key}"
    mark = next((mark for mark in '`"' if mark not in key), None)
    return None if mark is None else f"{kind}.{mark}{key}{mark}"


def condition(kind: str, key: str, value: str | None) -> str | None:
    """The condition that a run's parameter or tag has a value, or is missing; None where the language cannot say it."""
    name = quoted(kind, key)
    if name is None:
        return None
    if value is None:
        return f"{name} IS NULL"
    # Read back, a doubled quote is one, but so is a quote after a backslash.
    return None if "\\'" in value else f"{name} = '{value.replace(chr(39), chr(39) * 2)}'"


def _head(look: Look, column: str, label: str, *, number: bool) -> dict[str, Any]:
    kind, _, key = column.partition(".")
    name = _SORTED_AS.get(column) or (quoted(kind, key) if kind in _KINDS and key else None)
    by, _, direction = look.sort.rpartition(" ")
    if direction.upper() not in ("ASC", "DESC"):
        by, direction = look.sort, "ASC"
    current = direction.upper() if name is not None and by == name else None
    if name == "start_time" and not look.sort:
        current = "DESC"
    # A first click shows the best metrics, the greatest numbers, the newest times, the first words; a second the rest.
    falling = (number or column == "started") and not (kind == "metrics" and metrics.lower_is_better(key))
    first, second = ("DESC", "ASC") if falling else ("ASC", "DESC")
    following = first if current is None else second if current == first else None
    sort = None if name is None else "" if following is None else f"{name} {following}"
    return {
        "column": column,
        "label": label,
        "kind": _KINDS.get(kind, ""),
        "number": number,
        "href": None if sort is None else f"?{look.query(sort=sort)}",
        "sorted": {"ASC": "ascending", "DESC": "descending"}.get(current or ""),
    }


def _cell(column: str, run: Run, bounds: tuple[float, float] | None, best: float | None) -> dict[str, Any]:
    kind, _, key = column.partition(".")
    value = plain_value(column, run)
    if kind == "metrics":
        if key in run.metrics and value is None:
            return {"kind": "number", "text": "NaN", "share": None, "best": False}
        share = None
        if bounds is not None and value is not None and math.isfinite(value):
            low, high = bounds
            share = min(1.0, max(0.0, (value - low) / (high - low)))
        is_best = value is not None and value == best
        return {"kind": "number", "text": render.number(value), "share": share, "best": is_best}
    if column in ("status", "started", "took", "run", "commit"):
        return {"kind": column, "value": value}
    text = "" if value is None else str(value)
    number = kind == "params" and is_number(text)
    return {"kind": "digits" if number else "text", "text": render.clip(text, _VALUE_CHARACTERS_MAX), "whole": text}


def _range(values: Sequence[float | None]) -> tuple[float, float] | None:
    finite = [value for value in values if value is not None and abs(value) < 1e300]
    return (min(finite), max(finite)) if len(finite) > 1 and min(finite) < max(finite) else None


def is_number(text: str) -> bool:
    """Whether a text is a number as people write them."""
    try:
        float(text)
    except ValueError:
        return False
    return len(text) < 40


def _one(given: Mapping[str, Sequence[str]], name: str) -> str:
    return given[name][-1] if name in given else ""


def _whole(given: Mapping[str, Sequence[str]], name: str, default: int) -> int:
    text = _one(given, name)
    if not text:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 7:
        raise InvalidInputError(f"{text[:40]!r} is no number of a {name.removesuffix('s')}.", field=name)
    return int(text)


def _status(text: str) -> RunStatus:
    try:
        return RunStatus(text)
    except ValueError:
        raise InvalidInputError(
            f"No run is {text[:40]!r}.", hint=f"Runs are {', '.join(RunStatus)}.", field="status"
        ) from None
