"""MLflow's artifact proxy: `mlflow-artifacts:` addresses, kept as content-addressed blobs.

Below `packages/<digest>` the files of registered packages are shown read-only, so that MLflow's own
`load_model("models:/name/1")` finds them.
"""

from __future__ import annotations

from starlette.responses import Response

from everline.access.types import Permission
from everline.errors import InvalidInputError
from everline.models import files
from everline.runs import artifacts
from everline.runs.types import Artifact
from everline.server.downloads import blob_response
from everline.server.http import Request, begin
from everline.server.mlflow_compat.paths import checked_path
from everline.server.mlflow_compat.values import file_message
from everline.server.mlflow_compat.wire import Fields, ProtocolError, answer, new_routes, project_of

_BASE = "/api/2.0/mlflow-artifacts"

routes = new_routes("")


def upload(request: Request) -> Response:
    """Keep the body as a file."""
    path, project = _path(request), project_of(request)
    files.refuse_frozen(path)
    with request.app.begin(request.actor, read_only=True) as uow:
        uow.require(Permission.RUN_WRITE, project)
    # Outside of the transaction: a large body must not hold the database's one writer.
    digest = request.app.blobs.keep(request.incoming)
    with begin(request) as uow:
        artifacts.put_file(uow, project, path, digest=digest)
    return answer({})


def download(request: Request) -> Response:
    """Stream a file, whole or a part of it."""
    found = find_file(request, _path(request))
    return file_response(request, found)


def list_files(request: Request) -> Response:
    """List files and folders directly below a folder, by their last names."""
    fields, project = Fields.of(request), project_of(request)
    path = checked_path(fields.text("path")) if fields.text("path") else ""
    with begin(request) as uow:
        found = files.list_files(uow, project, path=path)
    return answer({"files": [file_message(item, name=item.path.rpartition("/")[2]) for item in found]})


def delete(request: Request) -> Response:
    """Forget a file, or all below a folder."""
    path = _path(request)
    files.refuse_frozen(path)
    with begin(request) as uow:
        artifacts.delete_files(uow, project_of(request), path)
    return answer({})


def presigned(request: Request) -> Response:
    """Say where the bucket itself hands a file out, if clients may go there; else that they get it from here."""
    blobs, settings = request.app.blobs, request.app.settings
    found = find_file(request, _path(request))
    address = None
    if settings.direct_downloads and found.digest is not None:
        address = blobs.sign(found.digest, seconds=settings.direct_download_s)
    if address is None:
        raise ProtocolError(
            "Multipart download is not supported for the current artifact repository",
            error_code="NOT_IMPLEMENTED",
            status=501,
        )
    return answer({"url": address, "headers": {}, "file_size": found.bytes})


routes.put(_BASE + "/artifacts/{path:path}", upload=True)(upload)
routes.get(_BASE + "/artifacts/{path:path}")(download)
routes.route("HEAD", _BASE + "/artifacts/{path:path}")(download)
routes.delete(_BASE + "/artifacts/{path:path}")(delete)
routes.get(_BASE + "/artifacts")(list_files)
routes.get(_BASE + "/presigned/{path:path}")(presigned)


def find_file(request: Request, path: str) -> Artifact:
    """The file at a full proxy path, of a run, a package or a model version."""
    with begin(request) as uow:
        return files.get_file(uow, project_of(request), path)


def file_response(request: Request, found: Artifact) -> Response:
    """A file as an attachment."""
    if found.digest is None or found.bytes is None:
        raise InvalidInputError(f"Artifact path refers to a directory, not a file: '{found.path}'", field="path")
    return blob_response(request, found.digest, size=found.bytes, name=found.path.rpartition("/")[2])


def _path(request: Request) -> str:
    return checked_path(request.path["path"])
