"""The console's routes, and the files that its pages load."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from everline.server.console import (
    aliases,
    approvals,
    audit,
    certificates,
    compare,
    datasets,
    delivery,
    endpoint_changes,
    endpoints,
    exceptions,
    incidents,
    live,
    logged_models,
    login,
    models,
    overview,
    pipelines,
    policies,
    releases,
    runs,
    schedules,
)
from everline.server.console.dataset import difference
from everline.server.console.dataset import version as dataset_version
from everline.server.console.run import artifacts as run_artifacts
from everline.server.console.run import metrics as run_metrics
from everline.server.console.run import overview as run_overview
from everline.server.console.run import pipeline as run_pipeline
from everline.server.console.run import record as run_record
from everline.server.console.run import steps as run_steps
from everline.server.console.view import render


class _Files(StaticFiles):
    """Our own files only; a browser asks again whether they changed, and nothing is guessed about their type."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["x-content-type-options"] = "nosniff"
        response.headers["cache-control"] = "no-cache"
        return response


all_routes = [
    overview.routes,
    runs.routes,
    compare.routes,  # before `/runs/{run}`, which would take its address
    run_overview.routes,
    run_pipeline.routes,
    run_steps.routes,
    run_metrics.routes,
    run_artifacts.routes,
    run_record.routes,
    pipelines.routes,
    approvals.routes,
    models.routes,
    aliases.routes,
    logged_models.routes,
    live.routes,  # before `/releases/{release}`, which would take its address
    releases.routes,
    exceptions.routes,
    policies.routes,
    endpoints.routes,
    endpoint_changes.routes,
    incidents.routes,
    schedules.routes,
    difference.routes,  # before `/datasets/{name}/{version}`, which would take its address
    datasets.routes,
    dataset_version.routes,
    delivery.routes,
    certificates.routes,
    audit.routes,
    login.routes,
]
mounts = [Mount("/static", app=_Files(directory=render.HERE / "static"), name="static")]
