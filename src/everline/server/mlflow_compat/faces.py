"""Every route of MLflow's protocol; what is not covered says so in MLflow's own words."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response

from everline.server.http import Request
from everline.server.mlflow_compat import (
    artifacts,
    datasets,
    experiments,
    logged_models,
    models,
    multipart,
    runs,
    views,
    webhooks,
)
from everline.server.mlflow_compat.wire import ProtocolError, answer, new_routes

PROTOCOL_VERSION = "3.17.0"
"""The MLflow whose REST API is spoken here."""

_system = new_routes(prefix="")
_rest = new_routes(prefix="")


@_system.get("/version", public=True)
def version(_request: Request) -> Response:
    """Name the MLflow version whose protocol is spoken."""
    return PlainTextResponse(PROTOCOL_VERSION)


@_system.get("/api/3.0/mlflow/server-info", public=True)
def server_info(request: Request) -> Response:
    """Say what this server can do, before anybody logs in, as MLflow's clients ask.

    Uploads in parts are taken from clients that insist (`MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD`), but not advertised:
    a large file comes faster in one stream, since its parts would only be put together again here. MLflow's
    workspaces are our projects.
    """
    return answer({
        "store_type": "SqlStore",
        "workspaces_enabled": True,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": False,
        "multipart_downloads_enabled": request.app.settings.direct_downloads and request.app.blobs.directory is None,
        "presigned_upload_run_id_supported": False,
        "presigned_upload_model_id_supported": False,
        "features_enabled": {"gateway": False},
    })  # fmt: skip


def not_supported(request: Request) -> Response:
    """Answer what is not covered."""
    path = request.raw.url.path
    raise ProtocolError(
        f"{request.method} {path[:200]} is not supported by this server. "
        "The covered endpoints are listed in docs/mlflow.md.",
        error_code="NOT_IMPLEMENTED",
        status=501,
    )


for _prefix in (
    "/api/2.0/mlflow",
    "/api/2.0/mlflow-artifacts",
    "/api/3.0/mlflow",
    "/api/4.0/mlflow",
):
    for _method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        _rest.route(_method, _prefix + "/{rest:path}")(not_supported)

all_routes = [
    _system,
    experiments.routes,
    runs.routes,
    datasets.routes,
    artifacts.routes,
    multipart.routes,
    views.routes,
    models.routes,
    logged_models.routes,
    webhooks.routes,
    _rest,
]
