"""REST face of evidence bundles."""

from __future__ import annotations

import tempfile
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from everline.bundles import service
from everline.server.http import Request, Routes, begin

routes = Routes(tag="reproduction")


@routes.get("/bundles/{subject}")
def export(request: Request) -> Response:
    """Download all evidence about `prediction:UID`, `model-version:UID` or `run:UID`, to be checked offline.

    `serving:UID` of a model version gives a file that a data plane serves with no network; `endpoint` says where it
    answers, if that is several. `data=false` leaves the dataset versions of a run out.
    """
    with tempfile.NamedTemporaryFile(prefix="everline-bundle-", suffix=".zip", delete=False) as file:
        target = Path(file.name)
    try:
        # Written while others write too; the lock is taken only for the event, and nobody gets a file without one.
        with begin(request) as uow:
            contents = service.export(
                uow,
                request.project,
                request.path["subject"],
                target,
                data=request.query("data", str, "true") != "false",
                endpoint=request.query("endpoint", str, "") or None,
            )
        with request.app.begin(request.actor) as uow:
            service.note_export(uow, request.project, contents)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return FileResponse(
        target,
        media_type="application/zip",
        filename="everline-bundle.zip",
        background=BackgroundTask(target.unlink, missing_ok=True),
    )
