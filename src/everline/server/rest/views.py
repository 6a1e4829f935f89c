"""REST face of saved views of the table of runs."""

from __future__ import annotations

from everline.runs import views
from everline.runs.types import SavedView, SaveView
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="runs")


@routes.get("/views", returns=Page[SavedView])
def list_views(request: Request) -> Page[SavedView]:
    """List your own saved views and those of the project."""
    with begin(request) as uow:
        return Page(items=views.list_views(uow, request.project))


@routes.post("/views", body=SaveView, returns=SavedView, status=201)
def save_view(request: Request) -> SavedView:
    """Save a view; one of the same name and owner is replaced."""
    body = decode(SaveView, request)
    with begin(request) as uow:
        return views.save_view(uow, request.project, body.name, query=body.query, shared=body.shared)


@routes.get("/views/{view:path}", returns=SavedView)
def get_view(request: Request) -> SavedView:
    """Return a saved view by its uid or name."""
    with begin(request) as uow:
        return views.get_view(uow, request.project, request.path["view"])


@routes.delete("/views/{view:path}")
def delete_view(request: Request) -> None:
    """Delete a saved view by its uid or name."""
    with begin(request) as uow:
        views.delete_view(uow, request.project, request.path["view"])
