"""Artifacts as MLflow's user interface and its clients ask for them: by run or model version instead of by address."""

from __future__ import annotations

from starlette.responses import Response

from everline.access.types import Permission
from everline.errors import EverlineError, InvalidInputError
from everline.models import files
from everline.models import service as models
from everline.runs import artifacts, service
from everline.server.http import Request, begin
from everline.server.mlflow_compat.artifacts import file_response, find_file
from everline.server.mlflow_compat.paths import checked_path
from everline.server.mlflow_compat.wire import Fields, ProtocolError, new_routes, project_of

_UPLOAD_BYTES_MAX = 10 << 20

routes = new_routes("")


@routes.get("/get-artifact")
@routes.get("/api/2.0/mlflow/get-artifact")
def get_artifact(request: Request) -> Response:
    """Stream a file of a run."""
    fields = Fields.of(request)
    path, run = checked_path(fields.required("path")), _run_of(fields)
    with begin(request) as uow:
        found = artifacts.get_artifact(uow, project_of(request), run, path)
    return file_response(request, found)


@routes.get("/model-versions/get-artifact")
@routes.get("/api/2.0/mlflow/model-versions/get-artifact")
def get_version_artifact(request: Request) -> Response:
    """Stream a file of a model version."""
    fields = Fields.of(request)
    path = checked_path(fields.required("path"))
    name, number = fields.required("name"), fields.required("version")
    with begin(request) as uow:
        address = files.place_of(uow, models.get_version(uow, project_of(request), name, number))
    if not artifacts.is_ours(address):
        raise InvalidInputError(
            f"The files of version {number} of {name!r} are kept at {address[:200]}, not by this server.",
            hint="Read them there.",
            field="version",
        )
    return file_response(request, find_file(request, f"{artifacts.proxy_path(address)}/{path}"))


@routes.post("/api/2.0/mlflow/upload-artifact", upload=True)
def upload_artifact(request: Request) -> Response:
    """Keep the body, at most 10 MiB, as a file of a run."""
    query = request.raw.query_params
    run, path, body = query.get("run_uuid"), query.get("path"), request.incoming
    if not run:
        raise InvalidInputError("Request must specify run_uuid.", field="run_uuid")
    if not path:
        raise InvalidInputError("Request must specify path.", field="path")
    path = checked_path(path)
    if body.bytes > _UPLOAD_BYTES_MAX:
        raise InvalidInputError("Artifact size is too large. Max size is 10MB.", field="data")
    if body.bytes == 0:
        raise InvalidInputError("Request must specify data.", field="data")
    project = project_of(request)
    with request.app.begin(request.actor, read_only=True) as uow:
        uow.require(Permission.RUN_WRITE, project)
    digest = request.app.blobs.keep(body)
    with begin(request) as uow:
        artifacts.put_artifact(uow, project, run, path, digest=digest)
    return Response(media_type="application/json")


@routes.post("/api/2.0/mlflow/artifacts/presigned-upload-url")
def presigned_upload(request: Request) -> Response:
    """Say that artifacts are sent to this server, not past it."""
    raise _not_past_us(request, "upload")


@routes.post("/api/2.0/mlflow/artifacts/presigned-download-url")
def presigned_download(request: Request) -> Response:
    """Say that artifacts are fetched from this server, not past it."""
    raise _not_past_us(request, "download")


def _not_past_us(request: Request, direction: str) -> EverlineError:
    fields = Fields.of(request)
    checked_path(fields.required("path"))
    with request.app.begin(request.actor, read_only=True) as uow:
        address = service.get_run(uow, project_of(request), fields.required("run_id")).artifact_uri
    if artifacts.is_ours(address):
        return InvalidInputError(
            f"Presigned {direction} is not supported for proxied artifact storage (artifact URI scheme: "
            "mlflow-artifacts). This endpoint requires a direct cloud storage artifact URI.",
            field="run_id",
        )
    return ProtocolError(
        f"Presigned {direction} is not supported for the current artifact repository",
        error_code="NOT_IMPLEMENTED",
        status=501,
    )


def _run_of(fields: Fields) -> str:
    return fields.text("run_id") or fields.text("run_uuid") or fields.required("run_id")
