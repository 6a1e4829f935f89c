"""MLflow's artifact proxy: `mlflow-artifacts:` addresses, kept as content-addressed blobs.

Below `packages/<digest>` the files of registered packages are shown read-only, so that MLflow's own
`load_model("models:/name/1")` finds them.
"""

from __future__ import annotations

import mimetypes
from urllib.parse import unquote

from starlette.responses import Response, StreamingResponse

from everline.access.types import Permission
from everline.errors import InvalidInputError, NotFoundError
from everline.models import service as models
from everline.models.package import FileEntry
from everline.runs import artifacts
from everline.runs.limits import check_artifact_path
from everline.runs.types import Artifact
from everline.server.http import Request, begin
from everline.server.mlflow_compat.values import file_message, package_in
from everline.server.mlflow_compat.wire import Fields, ProtocolError, answer, new_routes, project_of

_UNQUOTES_MAX = 8
_FILES = "/mlflow-artifacts/artifacts/{path:path}"

routes = new_routes()


@routes.put(_FILES, upload=True)
def upload(request: Request) -> Response:
    """Keep the body as a file."""
    path, project = _path(request), project_of(request)
    if package_in(path) is not None:
        raise InvalidInputError("Packages never change: upload to a run instead.", field="path")
    if request.file is None:
        raise InvalidInputError("There is no body.", field="path")
    with request.app.begin(request.actor, read_only=True) as uow:
        uow.require(Permission.RUN_WRITE, project)
    # Outside of the transaction: a large body must not hold the database's one writer.
    digest = request.app.blobs.put_file(request.file)
    with begin(request) as uow:
        artifacts.put_file(uow, project, path, digest=digest)
    return answer({})


@routes.get(_FILES)
def download(request: Request) -> Response:
    """Stream a file."""
    path, project = _path(request), project_of(request)
    package = package_in(path)
    with begin(request) as uow:
        if package is None:
            found = artifacts.get_file(uow, project, path)
        else:
            found = _package_file(models.package_files(uow, project, package[0]), package[1])
    return _stream(request, found)


@routes.get("/mlflow-artifacts/artifacts")
def list_files(request: Request) -> Response:
    """List files and folders directly below a folder, by their last names."""
    fields, project = Fields.of(request), project_of(request)
    path = _checked(fields.text("path")) if fields.text("path") else ""
    package = package_in(path)
    with begin(request) as uow:
        if package is None:
            found = artifacts.list_files(uow, project, path=path)
        else:
            found = _package_folder(models.package_files(uow, project, package[0]), package[1])
    return answer({"files": [file_message(item, name=item.path.rpartition("/")[2]) for item in found]})


@routes.delete(_FILES)
def delete(request: Request) -> Response:
    """Forget a file, or all below a folder."""
    path = _path(request)
    if package_in(path) is not None:
        raise InvalidInputError("Packages never change and are not deleted through artifacts.", field="path")
    with begin(request) as uow:
        artifacts.delete_files(uow, project_of(request), path)
    return answer({})


@routes.post("/mlflow-artifacts/mpu/create/{path:path}")
@routes.post("/mlflow-artifacts/mpu/complete/{path:path}")
@routes.post("/mlflow-artifacts/mpu/abort/{path:path}")
def multipart(_request: Request) -> Response:
    """Say that files come in one piece; MLflow's client then sends them so."""
    raise ProtocolError(
        "Multipart upload is not supported for the current artifact repository",
        error_code="NOT_IMPLEMENTED",
        status=501,
    )


@routes.get("/mlflow-artifacts/presigned/{path:path}")
def presigned(_request: Request) -> Response:
    """Say that files are fetched through this server; MLflow's client then does so."""
    raise ProtocolError(
        "Presigned download is not supported for the current artifact repository",
        error_code="NOT_IMPLEMENTED",
        status=501,
    )


def _path(request: Request) -> str:
    return _checked(request.path["path"])


def _checked(path: str) -> str:
    """A safe path; one that would turn unsafe when it is decoded once more is refused too."""
    decoded = path
    for _ in range(_UNQUOTES_MAX):
        check_artifact_path(decoded)
        further = unquote(decoded)
        if further == decoded:
            break
        decoded = further
    if "#" in decoded:
        raise InvalidInputError("Invalid path: it contains '#'.", field="path")
    return check_artifact_path(path)


def _stream(request: Request, found: Artifact) -> Response:
    if found.digest is None:
        raise InvalidInputError(f"{found.path!r} is a folder.", field="path")
    name = found.path.rpartition("/")[2]
    headers = {
        "Content-Length": str(found.bytes),
        "ETag": f'"{found.digest}"',
        "X-Content-Type-Options": "nosniff",
        # An uploaded page must not run as one of ours.
        "Content-Disposition": "attachment",
    }
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return StreamingResponse(request.app.blobs.stream(found.digest), media_type=kind, headers=headers)


def _package_file(files: list[FileEntry], path: str) -> Artifact:
    for entry in files:
        if entry.path == path:
            return Artifact(path=path, is_dir=False, digest=entry.digest, bytes=entry.bytes)
    raise NotFoundError(f"No such artifact: '{path}'", field="path")


def _package_folder(files: list[FileEntry], folder: str) -> list[Artifact]:
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, Artifact] = {}
    for entry in files:
        if entry.path.startswith(prefix):
            name, slash, _ = entry.path[len(prefix) :].partition("/")
            path = prefix + name
            entries[path] = (
                Artifact(path=path, is_dir=True)
                if slash
                else Artifact(path=path, is_dir=False, digest=entry.digest, bytes=entry.bytes)
            )
    return [entries[path] for path in sorted(entries)]
