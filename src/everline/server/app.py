"""The control plane's composition root: every face, in one list."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator

import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp

from everline.errors import EverlineError, NotFoundError
from everline.loader import load
from everline.server.application import Application
from everline.server.console.pages import bare_error_page
from everline.server.deliveries import Deliveries
from everline.server.dispatch import Dispatcher
from everline.server.http import Route, Routes, json_response, problem_response
from everline.server.mlflow_compat.prefixes import under_both_prefixes
from everline.server.openapi import openapi_document
from everline.server.worker import Worker

FACES = (
    "everline.server.rest.system",
    "everline.server.rest.access",
    "everline.server.rest.jobs",
    "everline.server.rest.blobs",
    "everline.server.rest.audit",
    "everline.server.rest.policies",
    "everline.server.rest.evidence",
    "everline.server.rest.datasets",
    "everline.server.rest.runs",
    "everline.server.rest.views",
    "everline.server.rest.models",
    "everline.server.rest.webhooks",
    "everline.server.rest.pipelines",
    "everline.server.rest.schedules",
    "everline.server.rest.reproduction",
    "everline.server.rest.explanations",
    "everline.server.rest.bundles",
    "everline.server.rest.backtests",
    "everline.server.rest.endpoints",
    "everline.server.rest.predictions",
    "everline.server.rest.feedback",
    "everline.server.rest.dataplane",
    "everline.server.rest.monitors",
    "everline.server.rest.incidents",
    "everline.server.rest.releases",
    "everline.server.rest.delivery",
    "everline.server.mlflow_compat.faces",
    "everline.server.console.faces",
)
"""Each module has `routes`, or `all_routes` for several groups, or `mounts` for static files."""


def declared_routes() -> list[Route]:
    """Every route of the control plane."""
    groups: list[Routes] = []
    for name in FACES:
        module = load(name)
        groups += getattr(module, "all_routes", None) or [module.routes]
    return [route for group in groups for route in group.all]


def _mounts() -> list[Mount]:
    return [mount for name in FACES for mount in getattr(load(name), "mounts", [])]


def create_app(application: Application) -> ASGIApp:
    """The ASGI application of one control-plane process."""
    declared = declared_routes()
    document = functools.cache(lambda: openapi_document(declared))  # most processes are never asked
    dispatcher = Dispatcher(application, declared)
    routes: list[BaseRoute] = [*dispatcher.routes, *_mounts()]
    workers = (Worker(application), Deliveries(application))

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        if application.settings.worker:
            for worker in workers:
                worker.start()
        yield
        for worker in workers:
            await anyio.to_thread.run_sync(worker.stop)
        await anyio.to_thread.run_sync(dispatcher.close)

    async def openapi(_request: StarletteRequest) -> Response:
        return json_response(await anyio.to_thread.run_sync(document))

    async def not_found(request: StarletteRequest, _error: Exception) -> Response:
        path = request.url.path
        error = NotFoundError(f"There is nothing at {path!r}.", hint="See /api/v1/openapi.json.")
        wants_page = "text/html" in request.headers.get("accept", "") and not path.startswith("/api/")
        return bare_error_page(error) if wants_page else problem_response(error)

    async def wrong_method(request: StarletteRequest, error: Exception) -> Response:
        problem = _WrongMethodError(f"{request.method} is not answered at {request.url.path!r}.")
        response = problem_response(problem)
        response.headers.update(getattr(error, "headers", None) or {})
        return response

    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: not_found, 405: wrong_method})
    app.add_route("/api/v1/openapi.json", openapi, methods=["GET"])
    app.router.redirect_slashes = False
    return under_both_prefixes(dispatcher.before(app))


class _WrongMethodError(EverlineError):
    code = "wrong_method"
    status = 405
