"""Pages of datasets: the list, and one dataset with its versions, sizes, tags and contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from everline.access.unit_of_work import UnitOfWork
from everline.datasets import contracts, service, tags
from everline.datasets.types import DatasetVersion, KeptContract
from everline.errors import InvalidInputError, NotFoundError
from everline.server.console import pages
from everline.server.console.view import charts, render
from everline.server.http import Request, begin

routes = pages.console_routes()
LIST_MAX = 500
VERSIONS_PER_PAGE = 25
_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1))
CHECKED_BYTES_MAX = 64 << 20
"""A contract may need the rows: larger versions are held against it on their own page only."""


@routes.get("/datasets")
def list_datasets(request: Request) -> Response:
    """Every dataset with its newest version; `?tag=` narrows."""
    wanted = [text for text in request.queries("tag") if text]
    with begin(request) as uow:
        datasets = service.list_datasets(uow, request.project, limit=LIST_MAX, tagged=wanted)
    return pages.page(request, "datasets.html", title="Datasets", section="datasets", datasets=datasets, wanted=wanted)


@routes.get("/datasets/{name}")
def show_dataset(request: Request) -> Response:
    """The versions of one dataset, the newest first; `?tag=` narrows, `?before=` turns the page."""
    name, project = request.path["name"], request.project
    before = request.query("before", int, None)
    wanted = [text for text in request.queries("tag") if text]
    with begin(request) as uow:
        dataset = service.get_dataset(uow, project, name)
        every = service.list_versions(uow, project, name, limit=LIST_MAX)
        found = service.list_versions(uow, project, name, limit=VERSIONS_PER_PAGE + 1, before=before, tagged=wanted)
        shown = found[:VERSIONS_PER_PAGE]
        contract = _contract(uow, project, name)
        states = {one.version: _state(uow, project, one) for one in shown} if contract else {}
    older = render.path("datasets", name, project=project, before=shown[-1].version) if shown else None
    return pages.page(
        request,
        "dataset.html",
        title=name,
        section="datasets",
        name=name,
        dataset=dataset,
        versions=shown,
        every=every,
        wanted=wanted,
        older=older if len(found) > VERSIONS_PER_PAGE else None,
        newer=render.path("datasets", name, project=project) if before else None,
        contract=contract,
        states=states,
        charts=_charts(every[::-1]),
        pair=(every[1], every[0]) if len(every) > 1 else None,
        key=",".join(contract.contract.key) if contract else "",
    )


@routes.post("/datasets/{name}/tags")
def tag_dataset(request: Request) -> Response:
    """Set or remove a tag of the dataset, or of the version that the form names."""
    given = pages.form(request)
    name, version = request.path["name"], given.get("version", "")
    key = given.get("remove") or given.get("key", "").strip()
    change = {key: None if given.get("remove") else given.get("value", "").strip()}
    with begin(request) as uow:
        if not key:
            raise InvalidInputError("The tag has no name.", hint="Go back and give it one.", field="key")
        if version:
            tags.tag_version(uow, request.project, name, version, change)
        else:
            tags.tag_dataset(uow, request.project, name, change)
    address = render.path("datasets", name, *([version] if version else []), project=request.project)
    return pages.redirect(address + "#tags")


def _contract(uow: UnitOfWork, project: str, name: str) -> KeptContract | None:
    try:
        return contracts.get_contract(uow, project, name)
    except NotFoundError:
        return None


def _state(uow: UnitOfWork, project: str, version: DatasetVersion) -> Mapping[str, Any]:
    """Whether a version keeps the newest contract, in a word with its tone."""
    if version.bytes > CHECKED_BYTES_MAX:
        return {
            "text": "see version",
            "tone": "muted",
            "why": "It is large; its own page holds it against the contract.",
        }
    checked = contracts.check_version(uow, project, version.dataset, str(version.version))
    if checked.holds:
        return {"text": "kept", "tone": "good", "why": ""}
    why = "; ".join(str(one) for one in checked.breaches[:3])
    return {"text": "broken", "tone": "bad", "why": why}


def _charts(versions: Sequence[DatasetVersion]) -> list[dict[str, Any]]:
    """Rows and size over the versions, the oldest first; nothing to see of a single one."""
    if len(versions) < 2:
        return []
    names = [f"{one.version} {one.label}" if one.label else str(one.version) for one in versions]
    made = []
    if any(one.rows is not None for one in versions):
        made.append(_bars("Rows over versions", names, "rows", [one.rows for one in versions]))
    most = max(one.bytes for one in versions)
    unit, divisor = next((unit, size) for unit, size in _UNITS if most >= size or size == 1)
    made.append(_bars("Size over versions", names, unit, [one.bytes / divisor for one in versions]))
    return made


def _bars(title: str, names: Sequence[str], what: str, values: Sequence[float | None]) -> dict[str, Any]:
    spec = charts.bars(title, categories=names, series={what: values}, x_name="version", y_name=what, y_min=0)
    return spec | {"description": f"{title}: from {render.number(values[0])} to {render.number(values[-1])} {what}."}
