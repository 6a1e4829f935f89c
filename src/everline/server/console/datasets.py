"""Pages of datasets: the list, one dataset, one version with its profile."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import Any

import msgspec
from starlette.responses import Response

from everline.access.unit_of_work import UnitOfWork
from everline.datasets import contracts, service
from everline.datasets.types import Column, ContractCheck, DatasetVersion
from everline.errors import NotFoundError
from everline.runs import search
from everline.runs.types import TrackedRun
from everline.server.console import pages
from everline.server.console.view import render
from everline.server.http import Request, begin

routes = pages.console_routes()
LIST_MAX = 500
RUNS_MAX = 20
_SPARK_WIDTH, _SPARK_HEIGHT, _SPARK_BARS = 120, 22, 20


@routes.get("/datasets")
def list_datasets(request: Request) -> Response:
    """Every dataset with its newest version."""
    with begin(request) as uow:
        datasets = service.list_datasets(uow, request.project, limit=LIST_MAX)
    return pages.page(request, "datasets.html", title="Datasets", section="datasets", datasets=datasets)


@routes.get("/datasets/{name}")
def show_dataset(request: Request) -> Response:
    """The versions of one dataset, the newest first."""
    name = request.path["name"]
    with begin(request) as uow:
        versions = service.list_versions(uow, request.project, name, limit=LIST_MAX)
    return pages.page(request, "dataset.html", title=name, section="datasets", name=name, versions=versions)


@routes.get("/datasets/{name}/{version}")
def show_version(request: Request) -> Response:
    """One version: identity, profile, files, and who read it."""
    with begin(request) as uow:
        detail = service.get_version(uow, request.project, request.path["name"], request.path["version"])
        version = detail.version
        checked = _checked(uow, request.project, version)
        runs = _readers(uow, request.project, version.digest)
    return pages.page(
        request,
        "dataset_version.html",
        title=f"{version.dataset}, version {version.version}",
        section="datasets",
        version=version,
        files=detail.files[:LIST_MAX],
        columns=[_column(column) for column in detail.table.columns] if detail.table else [],
        runs=runs,
        checked=checked,
    )


def _checked(uow: UnitOfWork, project: str, version: DatasetVersion) -> ContractCheck | None:
    """How a version stands to the dataset's newest contract, if there is one."""
    try:
        return contracts.check_version(uow, project, version.dataset, str(version.version))
    except NotFoundError:
        return None


def _readers(uow: UnitOfWork, project: str, digest: str) -> list[TrackedRun]:
    experiments, _ = search.search_experiments(uow, project)
    numbers = [int(one.experiment) for one in experiments]
    found, _ = search.search_runs(
        uow, project, experiments=numbers, filter=f"dataset.digest = '{digest}'", limit=RUNS_MAX
    )
    return found


def _column(column: Column) -> dict[str, Any]:
    top = ", ".join(f"{render.value(one.value)} ({one.count})" for one in column.top[:4])
    shown = msgspec.structs.asdict(column)
    return shown | {
        "type": column.type if isinstance(column.type, str) else render.as_json(column.type),
        "missing": (column.nulls + column.nans) / column.rows if column.rows else None,
        "spark": _spark(column),
        "top": top,
    }


def _spark(column: Column) -> list[dict[str, float]]:
    """A histogram of equal bins, read off the quantiles: the share below each edge is interpolated between them."""
    quantiles = column.quantiles
    few = column.distinct is not None and column.distinct <= len(column.top)
    if few or len(quantiles) < 2 or quantiles[0] == quantiles[-1]:
        return []
    spread, width = quantiles[-1] - quantiles[0], _SPARK_WIDTH / _SPARK_BARS
    below = [_share_below(quantiles, quantiles[0] + spread * at / _SPARK_BARS) for at in range(_SPARK_BARS + 1)]
    shares = [high - low for low, high in pairwise(below)]
    return [
        {"x": at * width, "w": width - 1, "h": max(1.0, share / max(shares) * _SPARK_HEIGHT)}
        for at, share in enumerate(shares)
    ]


def _share_below(quantiles: tuple[float, ...], edge: float) -> float:
    after = bisect_right(quantiles, edge)
    if after in (0, len(quantiles)):
        return float(after > 0)
    low, high = quantiles[after - 1], quantiles[after]
    return (after - 1 + (edge - low) / (high - low)) / (len(quantiles) - 1)
