"""MLflow's multipart upload through the artifact proxy: created, sent in parts, completed or aborted.

MLflow's client sends parts without its own credentials, to addresses that it was given, as a bucket wants it. Ours
lead back to this server and carry the upload's own secret in a header.
"""

from __future__ import annotations

from starlette.responses import Response

from everline.models import files
from everline.runs import uploads
from everline.runs.limits import check_artifact_path
from everline.server.http import Request, begin
from everline.server.mlflow_compat.paths import checked_path
from everline.server.mlflow_compat.wire import Fields, answer, new_routes, project_of

SECRET_HEADER = "everline-upload-secret"  # noqa: S105 - a name, no secret
_BASE = "/api/2.0/mlflow-artifacts/mpu"
_PARTS = _BASE + "/parts"

routes = new_routes("")


def create(request: Request) -> Response:
    """Begin an upload in parts, and say where each part goes."""
    fields, project = Fields.of(request), project_of(request)
    with begin(request) as uow:
        made = uploads.begin_upload(uow, project, _target(request, fields), parts=fields.integer("num_parts", 1))
    base = f"{str(request.raw.base_url).rstrip('/')}{_PARTS}/{made.upload}"
    credentials = [
        {"url": f"{base}/{number}", "part_number": number, "headers": {SECRET_HEADER: made.secret}}
        for number in range(1, made.parts + 1)
    ]
    return answer({"upload_id": made.upload, "credentials": credentials})


@routes.put(_PARTS + "/{upload}/{number:int}", public=True, upload=True)
def put_part(request: Request) -> Response:
    """Keep one part; whoever has the upload's secret may. Its ETag is asked for at the end."""
    uid, number, secret = request.path["upload"], int(request.path["number"]), request.headers.get(SECRET_HEADER, "")
    with request.app.begin(read_only=True) as uow:
        uploads.check_part(uow, uid, number=number, secret=secret)
    digest = request.app.blobs.put_part(uid, number, request.incoming)
    return Response(headers={"ETag": f'"{digest}"'})


def complete(request: Request) -> Response:
    """Put the parts together and show the file."""
    fields, project = Fields.of(request), project_of(request)
    path, uid = _target(request, fields), fields.required("upload_id")
    parts = [(part.integer("part_number"), part.text("etag").strip('"')) for part in fields.messages("parts")]
    uploads.check_order(parts)
    with request.app.begin(request.actor, read_only=True) as uow:
        digest = uploads.find_upload(uow, project, uid, path=path)
    if digest is None:
        # Outside of a transaction: gigabytes must not hold the database's one writer.
        blobs, bytes_max = request.app.blobs, request.app.settings.blob_bytes_max
        with blobs.join_parts(uid, parts, bytes_max=bytes_max) as body:
            digest = blobs.keep(body)
    with begin(request) as uow:
        uploads.complete_upload(uow, project, uid, path=path, digest=digest)
    request.app.blobs.drop_parts(uid)
    return answer({})


def abort(request: Request) -> Response:
    """Forget an upload and its parts."""
    fields, project = Fields.of(request), project_of(request)
    with begin(request) as uow:
        uploads.abort_upload(uow, project, fields.required("upload_id"), path=_target(request, fields))
    return answer({})


routes.post(_BASE + "/create/{path:path}")(create)
routes.post(_BASE + "/complete/{path:path}")(complete)
routes.post(_BASE + "/abort/{path:path}")(abort)


def _target(request: Request, fields: Fields) -> str:
    """The file's full path: the address names its folder, and the body the file as the client knows it."""
    folder = checked_path(request.path["path"])
    name = fields.required("path").replace("\\", "/").rpartition("/")[2]
    path = check_artifact_path(f"{folder}/{name}")
    files.refuse_frozen(path)
    return path
