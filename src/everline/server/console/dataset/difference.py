"""The page that holds two versions of a dataset against each other."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from everline.datasets import contracts, service
from everline.datasets.types import ColumnDifference, DatasetDifference, RowExample
from everline.errors import InvalidInputError, NotFoundError
from everline.server.console import pages
from everline.server.console.view import render, shift
from everline.server.http import Request, begin

routes = pages.console_routes()
VERSIONS_MAX = 500
PICTURES_MAX = 24
DISTANCE_DRAWN_MIN = 0.001
"""Below, the two curves are one to the eye."""
COLUMNS_MAX = 500
EXAMPLES = 10
_CELLS_SHOWN = 6
FILES_MAX = 200


@routes.get("/datasets/{name}/compare")
def compare_versions(request: Request) -> Response:
    """What changed from `?before=` to `?after=`; by the columns `?key=` rows are matched, too."""
    project, name = request.project, request.path["name"]
    given = request.query("key", str, None)
    problem: InvalidInputError | None = None
    with begin(request) as uow:
        versions = service.list_versions(uow, project, name, limit=VERSIONS_MAX)
        promised = _promised_key(uow, project, name)
        newest = versions[0].version if versions else 1
        after = request.query("after", str, "") or str(newest)
        before = request.query("before", str, "") or str(max(1, newest - 1))
        key = [column.strip() for column in (given or "").split(",") if column.strip()]
        try:
            found = service.compare_versions(uow, project, name, before=before, after=after, key=key, examples=EXAMPLES)
        except InvalidInputError as error:
            if not key:
                raise
            problem = error  # about the key: everything else can be said without it
            found = service.compare_versions(uow, project, name, before=before, after=after)
    old, new = (label.rpartition("@")[2] for label in (found.before, found.after))
    ordered = sorted(found.columns, key=_weight)
    drawn = [one for one in ordered if (one.distance or 0) >= DISTANCE_DRAWN_MIN][:PICTURES_MAX]
    return pages.page(
        request,
        "dataset_difference.html",
        title=f"{name}: version {old} → {new}",
        section="datasets",
        name=name,
        versions=versions,
        old=int(old),
        new=int(new),
        key=given if given is not None else "",
        promised=",".join(promised),
        problem=problem,
        found=found,
        counts={
            word: sum(one.change == word for one in ordered) for word in ("added", "removed", "retyped", "changed")
        },
        columns=[_column(one) for one in ordered[:COLUMNS_MAX]],
        columns_left=max(0, len(ordered) - COLUMNS_MAX),
        pictures=[shift.picture(one, f"version {old}", f"version {new}") for one in drawn],
        pictures_left=sum(one.distance is not None for one in ordered) - len(drawn),
        widest=next((one for one in ordered if one.distance), None),
        files_max=FILES_MAX,
        rows=_rows(found),
    )


def _promised_key(uow: Any, project: str, name: str) -> list[str]:
    try:
        return contracts.get_contract(uow, project, name).contract.key
    except NotFoundError:
        return []


def _weight(one: ColumnDifference) -> tuple[int, float, str]:
    """Columns that came, went or became something else first; then those that shifted most."""
    return one.change == "changed", -(one.distance or 0), one.name


def _column(one: ColumnDifference) -> dict[str, Any]:
    def named(kind: Any) -> str | None:
        return kind if kind is None or isinstance(kind, str) else render.as_json(kind)

    return {
        "name": one.name,
        "change": one.change,
        "tone": {"added": "good", "removed": "bad", "retyped": "warn"}.get(one.change, "info"),
        "type_before": named(one.type_before),
        "type_after": named(one.type_after),
        "missing": (one.missing_before, one.missing_after),
        "mean": (one.mean_before, one.mean_after),
        "distance": one.distance,
        "statistic": one.statistic,
        "rows_changed": one.rows_changed,
    }


def _rows(found: DatasetDifference) -> dict[str, Any] | None:
    rows = found.rows
    if rows is None:
        return None
    parts = [("unchanged", rows.unchanged), ("changed", rows.changed), ("added", rows.added), ("removed", rows.removed)]
    total = sum(count for _, count in parts) or 1
    return {
        "key": rows.key,
        "parts": [{"name": word, "count": count, "share": count / total} for word, count in parts],
        "examples": [_example(one) for one in rows.examples],
    }


def _plain(value: Any) -> str:
    """A cell as it stands in the table: a flight's number is no quantity."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else render.value(value)


def _example(one: RowExample) -> dict[str, Any]:
    return {
        "change": one.change,
        "tone": {"added": "good", "removed": "bad"}.get(one.change, "warn"),
        "key": [_plain(value) for value in one.key],
        "cells": [
            {"column": cell.column, "before": _plain(cell.before), "after": _plain(cell.after)}
            for cell in one.cells[:_CELLS_SHOWN]
        ],
        "left": max(0, len(one.cells) - _CELLS_SHOWN),
    }
