"""The table of runs: found, sorted, grouped, nested, kept under a name, and taken away as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from starlette.responses import Response, StreamingResponse

from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.clock import rfc3339
from everline.errors import InvalidInputError
from everline.runs import filters, listing, search, views
from everline.runs.types import KnownKeys, RunGroup, RunStatus, SavedView, TrackedRun
from everline.server.console import pages
from everline.server.console.view import metrics, render, run_table
from everline.server.console.view.run_table import Look
from everline.server.http import Request, begin

routes = pages.console_routes()
CSV_ROWS_MAX = 100_000
CSV_ROWS_AT_ONCE = 1_000
EXPERIMENTS_MAX = 1_000
SUGGESTIONS_MAX = 400
_GROUP_METRICS = 4


@routes.get("/runs")
def list_runs(request: Request) -> Response:
    """The table of runs; everything that it shows is in its address."""
    look = _look(request)
    with begin(request) as uow:
        known = listing.known_keys(uow, look.project)
        experiments, _ = search.search_experiments(
            uow, look.project, order_by=["attribute.name"], limit=EXPERIMENTS_MAX
        )
        kept = views.list_views(uow, look.project)
        fault = _fault(look)
        body: dict[str, Any] = {"runs": [], "groups": None}
        if fault is None:
            body = _groups(uow, look, known) if look.group else _rows(uow, look)
        may_share = uow.actor.may(Permission.RUN_WRITE, look.project)
    saved = msgspec.structs.replace(look, project="default").query(page=1)
    named = next((view.name for view in kept if view.query == saved and saved), None)
    columns = body.pop("columns", look.columns or ())
    return pages.page(
        request,
        "runs.html",
        title=named or "Runs",
        section="runs",
        status=200 if fault is None else 400,
        look=look,
        named=named,
        fault=fault,
        experiments=[one.name for one in experiments],
        statuses=list(RunStatus),
        group_choices=_group_choices(known),
        chosen=[{"column": column, "label": _column_label(column)} for column in columns],
        offered=_offered(known, columns),
        suggestions=_suggestions(known),
        views=[{"view": view, "href": _view_address(request, view)} for view in kept],
        may_share=may_share,
        saved=saved,
        chips=_chips(look),
        now=request.app.clock.now(),
        rows_choices=run_table.ROWS_CHOICES,
        compare_max=20,
        **body,
    )


@routes.get("/runs.csv")
def export_runs(request: Request) -> Response:
    """The runs of a look at the table as CSV: its columns, or all that are known."""
    look = _look(request)
    with begin(request) as uow:
        first, following = _page_of(uow, look, offset=0)
        known = listing.known_keys(uow, look.project, experiments_named=look.experiments)
    every = (
        *(fact for fact in run_table.FACTS if fact != "run"),
        *(f"metrics.{key}" for key in known.metrics),
        *(f"params.{key}" for key in known.params),
        *(f"tags.{key}" for key in known.tags),
    )
    columns = look.columns or every
    headers = {**render.HEADERS, "content-disposition": 'attachment; filename="runs.csv"'}
    content = _csv_lines(request, look, columns, first=first, following=following)
    return StreamingResponse(content, media_type="text/csv; charset=utf-8", headers=headers)


@routes.post("/runs/views")
def save_view(request: Request) -> Response:
    """Keep a look at the table under a name."""
    given = pages.form(request)
    look = run_table.read_look(parse_qsl(given.get("query", "")[: views.VIEW_QUERY_CHARACTERS_MAX]))
    with begin(request) as uow:
        made = views.save_view(
            uow, request.project, given.get("name", ""), query=look.query(page=1), shared=given.get("shared") == "1"
        )
    return pages.redirect(_view_address(request, made))


@routes.post("/runs/views/delete")
def delete_view(request: Request) -> Response:
    """Forget a name; the runs stay."""
    given = pages.form(request)
    with begin(request) as uow:
        views.delete_view(uow, request.project, given.get("view", ""))
    return pages.redirect(render.path("runs", project=request.project))


def _look(request: Request) -> Look:
    return run_table.read_look(request.raw.query_params.multi_items(), project=request.project)


def _page_of(uow: UnitOfWork, look: Look, *, offset: int, limit: int = CSV_ROWS_AT_ONCE) -> Any:
    order_by = [look.sort] if look.sort else []
    return listing.list_selected(uow, look.project, look.selection, order_by=order_by, limit=limit, offset=offset)


def _rows(uow: UnitOfWork, look: Look) -> dict[str, Any]:
    """The rows of a page, and where it stands among the others."""
    offset = (look.page - 1) * look.rows
    found, following = _page_of(uow, look, offset=offset, limit=look.rows)
    # A page that is the last one has counted already.
    count = (
        offset + len(found)
        if following is None and found
        else listing.count_selected(uow, look.project, look.selection)
    )
    below = listing.list_children(uow, look.project, [run.run for run in found]) if look.nested else {}
    tree = list(_flat(found, below, level=0, parent=""))
    runs = [run for run, _, _ in tree]
    columns = look.columns or run_table.default_columns(runs, one_experiment=len(look.experiments) == 1)
    cells = run_table.cells(columns, runs)
    bounded = count > listing.COUNTED_RUNS_MAX
    return {
        "groups": None,
        "columns": columns,
        "heads": run_table.heads(look, columns, runs),
        "runs": [
            {"run": run, "level": level, "parent": parent, "nested": len(below.get(run.run, ())), "cells": shown}
            for (run, level, parent), shown in zip(tree, cells, strict=True)
        ],
        "first": offset + 1,
        "last": offset + len(found),
        "count": listing.COUNTED_RUNS_MAX if bounded else count,
        "bounded": bounded,
        "pages": None if bounded else max(1, -(-count // look.rows)),
        "following": following is not None,
    }


def _flat(
    runs: Sequence[TrackedRun], below: dict[str, list[TrackedRun]], *, level: int, parent: str
) -> Iterator[tuple[TrackedRun, int, str]]:
    for run in runs:
        yield run, level, parent
        if level < listing.NESTING_MAX:
            yield from _flat(below.get(run.run, []), below, level=level + 1, parent=run.run)


def _groups(uow: UnitOfWork, look: Look, known: KnownKeys) -> dict[str, Any]:
    """The groups of a look, each with the address of its runs."""
    chosen = [column.partition(".")[2] for column in look.columns or () if column.startswith("metrics.")]
    keys = chosen or sorted(known.metrics, key=lambda key: (metrics.rank(key), key))[:_GROUP_METRICS]
    found = listing.group_selected(uow, look.project, look.selection, by=look.group, metrics=keys)
    best = {key: metrics.best(key, [_end(one, key) for one in found.groups if key in one.metrics]) for key in keys}
    largest = max((group.count for group in found.groups), default=1)
    return {
        "runs": [],
        "groups": found,
        "group_rows": [
            {
                "label": group.value,
                "href": _group_address(look, group),
                "count": group.count,
                "share": group.count / largest,
                "metrics": [
                    (group.metrics.get(key), key in group.metrics and _end(group, key) == best[key]) for key in keys
                ],
            }
            for group in found.groups
        ],
        "group_metrics": [(key, metrics.lower_is_better(key)) for key in keys],
    }


def _end(group: RunGroup, key: str) -> float:
    return group.metrics[key].low if metrics.lower_is_better(key) else group.metrics[key].high


def _group_address(look: Look, group: RunGroup) -> str | None:
    """The runs of a group as a look of their own; None where the language cannot name its value."""
    value, by = group.value, look.group
    if by == "experiment" and value is not None:
        return f"?{look.query(group='', experiments=(value,))}"
    if by == "pipeline":
        return f"?{look.query(group='', pipeline=value, without_pipeline=value is None)}"
    if by == "status" and value is not None:
        return f"?{look.query(group='', statuses=(RunStatus(value),))}"
    kind, _, key = ("attributes", "", "user_id") if by == "user" else by.partition(".")
    said = run_table.condition(kind, key, value)
    if said is None:
        return None
    return f"?{look.query(group='', text=f'{look.filter} AND {said}' if look.filter else said)}"


def _fault(look: Look) -> dict[str, Any] | None:
    """Why the filter cannot be meant, with its text before and after the place."""
    try:
        filters.parse_filter(look.filter, filters.RUNS)
    except InvalidInputError as error:
        place = filters.fault_place(look.filter, filters.RUNS)
        at = min(place or 0, len(look.filter))
        before, after = look.filter[max(0, at - 200) : at], look.filter[at : at + 200]
        return {"message": error.message, "hint": error.hint, "before": before, "after": after}
    return None


def _column_label(column: str) -> str:
    return run_table.FACTS.get(column) or column


def _offered(known: KnownKeys, chosen: Sequence[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What may be added to the table, by kind."""
    families = [
        ("Facts", [(fact, label) for fact, label in run_table.FACTS.items()]),
        ("Metrics", [(f"metrics.{key}", key) for key in known.metrics]),
        ("Parameters", [(f"params.{key}", key) for key in known.params]),
        ("Tags", [(f"tags.{key}", key) for key in known.tags]),
    ]
    left = [(title, [pair for pair in pairs if pair[0] not in chosen]) for title, pairs in families]
    return [(title, pairs) for title, pairs in left if pairs]


def _group_choices(known: KnownKeys) -> list[tuple[str, list[tuple[str, str]]]]:
    return [
        ("Facts", [(word, run_table.FACTS[word]) for word in listing.GROUP_WORDS]),
        ("Parameters", [(f"params.{key}", key) for key in known.params]),
        ("Tags", [(f"tags.{key}", key) for key in known.tags]),
    ]


def _suggestions(known: KnownKeys) -> list[str]:
    """What the search box offers to complete."""
    pairs = [("metrics", key) for key in known.metrics]
    pairs += [("params", key) for key in known.params]
    pairs += [("tags", key) for key in known.tags]
    attributes = [
        f"attributes.{name}" for name in sorted(filters.RUNS.text_attributes | filters.RUNS.numeric_attributes)
    ]
    datasets = [f"dataset.{name}" for name in sorted(filters.DATASET_KEYS)]
    named = [run_table.quoted(kind, key) for kind, key in pairs[:SUGGESTIONS_MAX]]
    return [name for name in named if name is not None] + attributes + datasets


def _chips(look: Look) -> list[tuple[str, str]]:
    """What narrows the table beside the search box, each with the address without it."""
    made = [
        (f"Experiment {name}", look.query(experiments=tuple(one for one in look.experiments if one != name)))
        for name in look.experiments
    ]
    made += [
        (f"{status.value.capitalize()} runs", look.query(statuses=tuple(one for one in look.statuses if one != status)))
        for status in look.statuses
    ]
    if look.pipeline is not None:
        made.append((f"Pipeline {look.pipeline}", look.query(pipeline=None)))
    if look.without_pipeline:
        made.append(("No pipeline", look.query(without_pipeline=False)))
    return [(label, f"?{query}") for label, query in made]


def _view_address(request: Request, view: SavedView) -> str:
    # As it is kept: the API takes any text, and one that means nothing is told to whoever follows it.
    project = f"&{urlencode({'project': request.project})}" if request.project != "default" else ""
    return f"/runs?{view.query}{project}"


def _csv_lines(
    request: Request, look: Look, columns: Sequence[str], *, first: Sequence[TrackedRun], following: int | None
) -> Iterator[bytes]:
    """The file, in pieces; each page is read in a transaction of its own, so that a slow reader holds none."""
    yield _csv([["run", "name", *columns]])
    yield _csv(_csv_row(run, columns) for run in first)
    while following is not None and following < CSV_ROWS_MAX:
        with request.app.begin(request.actor, read_only=True) as uow:
            found, following = _page_of(uow, look, offset=following)
        yield _csv(_csv_row(run, columns) for run in found)


def _csv(lines: Any) -> bytes:
    target = io.StringIO()
    csv.writer(target).writerows(lines)
    return target.getvalue().encode()


def _csv_row(run: TrackedRun, columns: Sequence[str]) -> list[Any]:
    return [run.run, _csv_cell(run.name), *(_csv_cell(run_table.plain_value(column, run)) for column in columns)]


def _csv_cell(value: Any) -> Any:
    """A value as a spreadsheet must read it: a text that looks like a formula is no formula."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") and not run_table.is_number(value):
        return f"'{value}"
    return value
