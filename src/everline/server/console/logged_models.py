"""Pages of logged models: what runs wrote with `log_model`, before or without a place in the registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from everline.errors import InvalidInputError
from everline.models.logged import search, service
from everline.models.types import LoggedMetric, LoggedModel
from everline.server.console import files, pages
from everline.server.console.view import metrics, render
from everline.server.http import Request, begin

routes = pages.console_routes()
PER_PAGE = 50
PER_RUN_MAX = 100
METRICS_SHOWN = 200
_COLUMNS_MAX = 4


@routes.get("/logged-models")
def list_logged_models(request: Request) -> Response:
    """The newest logged models, or those that a filter in MLflow's language finds."""
    wanted = request.query("filter", str, "").strip()
    number = max(0, min(request.query("page", int, 0), 10_000))
    problem, after = "", None
    found: Sequence[LoggedModel] = []
    with begin(request) as uow:
        try:
            found, after = search.search(uow, request.project, filter=wanted, limit=PER_PAGE, offset=number * PER_PAGE)
        except InvalidInputError as error:
            problem = error.message
    address = {"project": request.project, "filter": wanted}
    return pages.page(
        request,
        "logged_models.html",
        title="Logged models",
        section="models",
        wanted=wanted,
        problem=problem,
        status=400 if problem else 200,
        before=render.path("logged-models", page=number - 1 or None, **address) if number else None,
        after=render.path("logged-models", page=number + 1, **address) if after else None,
        **table(found),
    )


@routes.get("/logged-models/{logged}")
def show_logged_model(request: Request) -> Response:
    """One logged model: where it came from, how good it is on which data, and its files."""
    with begin(request) as uow:
        model = service.get(uow, request.project, request.path["logged"])
        found = files.look(uow, request.project, _place(model), path=request.query("path", str, ""))
    newest = _newest(model.metrics)
    return pages.page(
        request,
        "logged_model.html",
        title=model.name,
        section="models",
        model=model,
        headline=[(render.words(one.key), one.value) for one in newest[:5]],
        metrics=newest[:METRICS_SHOWN],
        versions=_versions(model),
        tags={key: value for key, value in model.tags.items() if key != service.VERSIONS_TAG},
        browser=files.view(request, _place(model), found),
    )


@routes.get("/logged-models/{logged}/content")
def download_file(request: Request) -> Response:
    """The file at `?path=`, to be saved."""
    return files.download(request, _place(_model(request)))


@routes.get("/logged-models/{logged}/image")
def show_image(request: Request) -> Response:
    """The picture at `?path=`."""
    return files.image(request, _place(_model(request)))


def table(found: Sequence[LoggedModel]) -> dict[str, Any]:
    """What the table of `logged_table.html` shows: the models, and the metrics that most of them have."""
    rows = [{"model": one, "metrics": _latest(one.metrics), "versions": _versions(one)} for one in found]
    counts = Counter(key for one in found for key in _latest(one.metrics))
    keys = sorted(counts, key=lambda key: (metrics.rank(key), -counts[key], key))[:_COLUMNS_MAX]
    return {"logged_models": rows, "logged_keys": keys}


def _model(request: Request) -> LoggedModel:
    with begin(request) as uow:
        return service.get(uow, request.project, request.path["logged"])


def _place(model: LoggedModel) -> files.Place:
    return files.place(model.artifact_uri, "logged-models", model.uid)


def _newest(points: Iterable[LoggedMetric]) -> list[LoggedMetric]:
    """The newest value of each metric on each dataset, those first that people look at first."""
    found: dict[tuple[str, str, str], LoggedMetric] = {}
    for point in sorted(points, key=lambda one: (one.step, one.at_ms)):
        found[point.key, point.dataset_name or "", point.dataset_digest or ""] = point
    return sorted(found.values(), key=lambda one: (metrics.rank(one.key), one.key, one.dataset_name or ""))


def _latest(points: Iterable[LoggedMetric]) -> dict[str, float]:
    return {point.key: point.value for point in sorted(points, key=lambda one: (one.step, one.at_ms))}


def _versions(model: LoggedModel) -> list[dict[str, Any]]:
    """The versions that were registered from it, as MLflow notes them in a tag; a tag that says nothing is none."""
    try:
        noted = msgspec.json.decode(model.tags.get(service.VERSIONS_TAG, "[]"), type=list[dict[str, Any]])
    except msgspec.DecodeError:
        return []
    return [one for one in noted if one.get("name") and one.get("version")]
