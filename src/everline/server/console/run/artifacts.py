"""The files that a run left."""

from __future__ import annotations

from starlette.responses import Response

from everline.runs import service
from everline.runs.types import TrackedRun
from everline.server.console import files, pages
from everline.server.console.run import frame
from everline.server.http import Request, begin

routes = pages.console_routes()


@routes.get("/runs/{run}/artifacts")
def show_artifacts(request: Request) -> Response:
    """Folders and files of a run, with a preview of the one at `?path=`."""
    path = request.query("path", str, "")
    with begin(request) as uow:
        run = service.get_run(uow, request.project, request.path["run"])
        found = files.look(uow, request.project, _place(run), path=path)
    browser = files.view(request, _place(run), found)
    return frame.page(request, "run_artifacts.html", run, here="artifacts", browser=browser)


@routes.get("/runs/{run}/artifacts/content")
def download_artifact(request: Request) -> Response:
    """The file at `?path=`, to be saved."""
    return files.download(request, _place(_run(request)))


@routes.get("/runs/{run}/artifacts/image")
def show_image(request: Request) -> Response:
    """The picture at `?path=`."""
    return files.image(request, _place(_run(request)))


def _run(request: Request) -> TrackedRun:
    with begin(request) as uow:
        return service.get_run(uow, request.project, request.path["run"])


def _place(run: TrackedRun) -> files.Place:
    return files.place(run.artifact_uri, "runs", run.run, "artifacts")
