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

    `data=false` leaves the dataset versions of a run out.
    """
    with tempfile.NamedTemporaryFile(prefix="everline-bundle-", suffix=".zip", delete=False) as file:
        target = Path(file.name)
    try:
        with begin(request) as uow:
            service.export(
                uow,
                request.project,
                request.path["subject"],
                target,
                data=request.query("data", str, "true") != "false",
            )
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return FileResponse(
        target,
        media_type="application/zip",
        filename="everline-bundle.zip",
        background=BackgroundTask(target.unlink, missing_ok=True),
    )
