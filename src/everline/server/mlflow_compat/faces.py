"""Every route of MLflow's protocol; what is not covered says so in MLflow's own words."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response

from everline.server.http import Request
from everline.server.mlflow_compat import artifacts, experiments, models, runs, webhooks
from everline.server.mlflow_compat.wire import ProtocolError, new_routes

PROTOCOL_VERSION = "3.17.0"
"""The MLflow whose REST API is spoken here."""

_system = new_routes(prefix="")
_rest = new_routes(prefix="")


@_system.get("/version", public=True)
def version(_request: Request) -> Response:
    """Name the MLflow version whose protocol is spoken."""
    return PlainTextResponse(PROTOCOL_VERSION)


def not_supported(request: Request) -> Response:
    """Answer what is not covered."""
    path = request.raw.url.path
    raise ProtocolError(
        f"{request.method} {path[:200]} is not supported by this server. "
        "The covered endpoints are listed in docs/mlflow.md.",
        error_code="NOT_IMPLEMENTED",
        status=501,
    )


for _prefix in ("/api/2.0/mlflow", "/api/2.0/mlflow-artifacts", "/api/3.0/mlflow", "/api/4.0/mlflow"):
    for _method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        _rest.route(_method, _prefix + "/{rest:path}")(not_supported)

all_routes = [_system, experiments.routes, runs.routes, artifacts.routes, models.routes, webhooks.routes, _rest]
