"""The comparison of runs: what differs, curves, parallel coordinates, scatter, code, environment, data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response

from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError, NotFoundError
from everline.runs import comparing, service
from everline.runs.types import CodeDifference, Difference, TrackedRun
from everline.server.console import pages
from everline.server.console.view import comparison, metrics, parallel, render
from everline.server.http import Request, begin

routes = pages.console_routes()
CURVES_MAX = 60
_SYSTEM = "system/"


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader chose, as it stands in the address; the baseline is the first run unless one is named."""

    project: str
    runs: tuple[str, ...]
    baseline: str
    every: bool = False
    against: str = ""
    axes: tuple[str, ...] = ()
    colour: str = ""
    x: str = ""
    y: str = ""

    def query(self, **changes: Any) -> str:
        """The choice, with changes, after the question mark of an address."""
        one = msgspec.structs.replace(self, **changes)
        pairs = [("project", one.project)] if one.project != "default" else []
        pairs.append(("runs", ",".join(one.runs)))
        pairs += [("baseline", one.baseline)] if one.baseline != one.runs[0] else []
        pairs += [("all", "1")] if one.every else []
        named = (("against", one.against), ("colour", one.colour), ("sx", one.x), ("sy", one.y))
        pairs += [(name, text) for name, text in named if text]
        pairs += [("axis", axis) for axis in one.axes]
        return urlencode(pairs)


@routes.get("/runs/compare")
def compare_runs(request: Request) -> Response:
    """Runs side by side; everything that is chosen is in the address."""
    choice = _choice(request)
    with begin(request) as uow:
        compared = service.compare_runs(uow, choice.project, choice.runs)
        runs = _found(service.get_runs(uow, choice.project, choice.runs))
        curved = comparing.metrics_with_curves(uow, choice.project, choice.runs)
        packages = comparing.compare_packages(uow, choice.project, choice.runs)
        against, code = _code(uow, choice, runs)
    base = choice.runs.index(choice.baseline)
    names = comparison.labels(runs)
    every = choice.every
    shown = [line for line in compared.metrics if not line.key.startswith(_SYSTEM)]
    software = [*compared.environment, *packages]
    return pages.page(
        request,
        "compare.html",
        title=f"{len(runs)} runs compared",
        section="runs",
        choice=choice,
        runs=[_column(run, name, at, choice) for at, (run, name) in enumerate(zip(runs, names, strict=True))],
        metric_rows=comparison.metric_rows(shown, baseline=base, every=every),
        param_rows=comparison.text_rows(compared.params, baseline=base, every=every),
        software_rows=comparison.text_rows(software, baseline=base, every=every),
        code_rows=comparison.text_rows(compared.code, baseline=base, every=every),
        data_rows=_data_rows(runs, baseline=base, every=every),
        same={
            "metrics": _same(shown), "params": _same(compared.params), "software": _same(software),
            "data": _same(compared.data),
        },
        curves=_curves(choice, names, curved),
        against=against,
        code=code,
        diffs=[(file, comparison.diff_lines(file.lines)) for file in code.files] if code else [],
        now=request.app.clock.now(),
        **_pictures(choice, runs, names),
    )  # fmt: skip


def _choice(request: Request) -> Choice:
    given = request.raw.query_params
    texts = [uid.strip() for text in given.getlist("runs") for uid in text.split(",")]
    runs = tuple(dict.fromkeys(uid for uid in texts if uid))
    baseline = given.get("baseline", "")
    return Choice(
        project=request.project,
        runs=runs,
        baseline=baseline if baseline in runs else (runs[0] if runs else ""),
        every=given.get("all") == "1",
        against=given.get("against", ""),
        axes=tuple(dict.fromkeys(given.getlist("axis")))[: parallel.AXES_MAX],
        colour=given.get("colour", ""),
        x=given.get("sx", ""),
        y=given.get("sy", ""),
    )


def _found(runs: Sequence[TrackedRun | EverlineError]) -> list[TrackedRun]:
    for run in runs:
        if isinstance(run, EverlineError):
            raise run
    return [run for run in runs if not isinstance(run, EverlineError)]


def _column(run: TrackedRun, name: str, at: int, choice: Choice) -> dict[str, Any]:
    """A run as the head of a column and the row of the first table."""
    others = tuple(uid for uid in choice.runs if uid != run.run)
    is_baseline = run.run == choice.baseline
    without = choice.query(runs=others, baseline=others[0] if is_baseline else choice.baseline)
    return {
        "run": run,
        "name": name,
        "at": at,
        "baseline": is_baseline,
        "make_baseline": f"?{choice.query(baseline=run.run)}",
        "without": f"?{without}" if len(others) > 1 else None,
        "took": render.seconds_between(run.started_at, run.ended_at),
        "href": render.path("runs", run.run, project=choice.project),
    }


def _same(lines: Sequence[Difference]) -> int:
    return sum(not line.differs for line in lines)


def _curves(choice: Choice, names: Sequence[str], keys: Sequence[str]) -> list[dict[str, Any]]:
    """One chart per metric, one line per run, in the colours of the runs."""
    ordered = sorted(keys, key=lambda key: (key.startswith(_SYSTEM), metrics.rank(key), key))[:CURVES_MAX]
    return [
        {
            "title": key,
            "project": choice.project,
            "lines": [{"run": run, "key": key, "name": name} for run, name in zip(choice.runs, names, strict=True)],
        }
        for key in ordered
    ]


def _code(uow: UnitOfWork, choice: Choice, runs: Sequence[TrackedRun]) -> tuple[str, CodeDifference | None]:
    """The run whose code is held against the baseline's, and how it differs; None where one has no record."""
    others = [run for run in runs if run.run != choice.baseline]
    base = next(run for run in runs if run.run == choice.baseline)
    differing = [run for run in others if run.summary.get("code") != base.summary.get("code")]
    against = choice.against if any(run.run == choice.against for run in others) else (differing or others)[0].run
    try:
        return against, comparing.compare_code(uow, choice.project, choice.baseline, against)
    except NotFoundError:
        return against, None


def _data_rows(runs: Sequence[TrackedRun], *, baseline: int, every: bool) -> list[dict[str, Any]]:
    """Datasets by name; a cell names each version that the run read under it."""
    rows = []
    for key in sorted({one.name for run in runs for one in run.inputs}):
        read = [[one for one in run.inputs if one.name == key] for run in runs]
        digests = [sorted(one.digest for one in side) for side in read]
        differs = any(side != digests[0] for side in digests)
        if not (every or differs):
            continue
        versions = sorted({one.version for side in read for one in side if one.version is not None})
        rows.append({
            "key": key,
            "versions": versions,
            "cells": [
                {
                    "inputs": [
                        {
                            "label": one.digest if one.version is None else f"version {one.version}",
                            "href": None
                            if one.version is None
                            else render.path("datasets", key, one.version, project=run.project),
                            "digest": one.digest,
                        }
                        for one in side
                    ],
                    "differs": digests[at] != digests[baseline],
                }
                for at, (run, side) in enumerate(zip(runs, read, strict=True))
            ],
        })  # fmt: skip
    return rows


def _pictures(choice: Choice, runs: Sequence[TrackedRun], names: Sequence[str]) -> dict[str, Any]:
    """Parallel coordinates and scatter, and what each can show."""
    columns = comparison.axis_columns(runs)
    numeric = comparison.numeric_columns(runs)
    usual = comparison.usual_axes(columns)
    axes = [axis for axis in choice.axes if axis in columns] or usual
    measured = [column for column in reversed(usual) if column.startswith("metrics.")]
    params = [column for column in usual if column in numeric and column.startswith("params.")]
    colour = choice.colour if choice.colour in numeric else next(iter([*measured, *numeric]), "")
    pairs = [(run.run, name) for run, name in zip(runs, names, strict=True)]
    x = choice.x if choice.x in numeric else next(iter([*params, *measured[1:], *numeric]), "")
    y = choice.y if choice.y in numeric else next((one for one in [*measured, *numeric] if one != x), x)
    known = [value for value in numeric.get(colour, ()) if value is not None]
    return {
        "parallel": parallel.draw(
            [(axis, columns[axis]) for axis in axes], pairs, colour=numeric.get(colour, [None] * len(runs))
        ),
        "axes": axes,
        "axis_choices": list(columns),
        "colour": colour,
        "colour_ends": (min(known), max(known)) if known else None,
        "numeric_choices": list(numeric),
        "scatter": {
            "x": x,
            "y": y,
            "points": [
                {"run": uid, "name": name, "values": {column: values[at] for column, values in numeric.items()}}
                for at, (uid, name) in enumerate(pairs)
            ],
        },
    }
