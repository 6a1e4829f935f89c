"""The page of one version: identity, profile, lineage, contract, tags, files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from everline.access.unit_of_work import UnitOfWork
from everline.datasets import contracts, service
from everline.datasets.types import ContractCheck, DatasetVersion
from everline.errors import ForbiddenError, NotFoundError
from everline.models import uses
from everline.models.types import DatasetLineage
from everline.server.console import pages
from everline.server.console.view import graph, profile, render
from everline.server.http import Request, begin

routes = pages.console_routes()
FILES_MAX = 500
COLUMNS_PER_PAGE = 60
USES_SHOWN = 20
_RUNS_DRAWN, _MODELS_DRAWN = 5, 5


@routes.get("/datasets/{name}/{version}")
def show_version(request: Request) -> Response:
    """One version: identity, profile, files, where it comes from, and what stands on it."""
    project, name = request.project, request.path["name"]
    wanted, at = request.query("q", str, "").strip(), max(0, min(request.query("page", int, 0), 10_000))
    with begin(request) as uow:
        detail = service.get_version(uow, project, name, request.path["version"])
        version = detail.version
        pending = detail.table is not None and not detail.table.profiled
        checked = None if pending else _checked(uow, project, version)
        lineage = _lineage(uow, project, version)
        newest = service.get_dataset(uow, project, name).versions
    columns = [one for one in (detail.table.columns if detail.table else ()) if wanted.lower() in one.name.lower()]
    here = columns[at * COLUMNS_PER_PAGE : (at + 1) * COLUMNS_PER_PAGE]

    def page_of(number: int) -> str:
        return render.path("datasets", name, version.version, project=project, q=wanted, page=number or None)

    return pages.page(
        request,
        "dataset_version.html",
        title=f"{version.dataset}, version {version.version}",
        section="datasets",
        version=version,
        newest=newest,
        files=detail.files[:FILES_MAX],
        files_left=max(0, len(detail.files) - FILES_MAX),
        width=len(detail.table.columns) if detail.table else None,
        columns=[profile.column(one) for one in here],
        columns_found=len(columns),
        wanted=wanted,
        before=page_of(at - 1) if at else None,
        after=page_of(at + 1) if len(columns) > (at + 1) * COLUMNS_PER_PAGE else None,
        picture={"width": profile.WIDTH, "height": profile.HEIGHT},
        lineage=lineage,
        uses=lineage.used_by[:USES_SHOWN] if lineage else (),
        uses_left=lineage is not None and (lineage.more or len(lineage.used_by) > USES_SHOWN),
        drawing=_drawing(version, lineage, project) if lineage else None,
        pending=pending,
        checked=checked,
    )


def _checked(uow: UnitOfWork, project: str, version: DatasetVersion) -> ContractCheck | None:
    """How a version stands to the dataset's newest contract, if there is one."""
    try:
        return contracts.check_version(uow, project, version.dataset, str(version.version))
    except NotFoundError:
        return None


def _lineage(uow: UnitOfWork, project: str, version: DatasetVersion) -> DatasetLineage | None:
    """None for who may not see runs and models."""
    try:
        return uses.dataset_lineage(uow, project, version.dataset, str(version.version))
    except ForbiddenError:
        return None


def _drawing(
    version: DatasetVersion, lineage: DatasetLineage, project: str
) -> tuple[graph.Drawing, graph.Drawing] | None:
    """From the run that made it, by way of this version and the runs that read it, to the models."""
    if lineage.made_by is None and not lineage.used_by:
        return None
    here = graph.Node(key="here", title=version.dataset, note=f"version {version.version}", tone="info", here=True)
    nodes, edges = [here], []
    if lineage.made_by is not None:
        note = f"made it, step {lineage.step}" if lineage.step else "run, made it"
        href = render.path("runs", lineage.made_by, project=project)
        nodes.append(graph.Node(key="maker", title=render.short(lineage.made_by), note=note, href=href))
        edges.append(("maker", "here"))
    # Runs that made models first: they are why somebody asks.
    ordered = sorted(lineage.used_by, key=lambda use: not use.models)
    for use in ordered[:_RUNS_DRAWN]:
        href = render.path("runs", use.run, project=project)
        note = f"run, {render.words(use.status)}"
        nodes.append(graph.Node(key=use.run, title=use.name, note=note, href=href, tone=render.tone(use.status)))
        edges.append(("here", use.run))
        for name in use.models[:_MODELS_DRAWN]:
            model, _, number = name.rpartition("/")
            href = render.path("models", model, number, project=project)
            nodes.append(graph.Node(key=f"model:{name}", title=model, note=f"model version {number}", href=href))
            edges.append((use.run, f"model:{name}"))
    left = ordered[_RUNS_DRAWN:]
    if left:
        many = f"{len(left)}{'+' if lineage.more else ''} more runs"
        nodes.append(graph.Node(key="more", title=many, note=_models_of(left)))
        edges.append(("here", "more"))
    return graph.both(nodes, edges)


def _models_of(uses_left: Sequence[Any]) -> str:
    count = len({name for use in uses_left for name in use.models})
    return f"{count} model version{'' if count == 1 else 's'}" if count else "without models"
