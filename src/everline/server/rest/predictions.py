"""REST face of the prediction log."""

from __future__ import annotations

from everline.server.http import Page, Request, Routes, begin
from everline.serving import predictions
from everline.serving.types import Prediction

routes = Routes(tag="predictions")


@routes.get("/endpoints/{name}/predictions", returns=Page[Prediction])
def list_predictions(request: Request) -> Page[Prediction]:
    """List an endpoint's predictions, newest first."""
    limit, before = request.limit, request.query("cursor", str, None)
    with begin(request) as uow:
        items = predictions.list_predictions(
            uow, request.path["name"], project=request.project, limit=limit, before=before
        )
    return Page(items=items, next=items[-1].prediction if len(items) == limit else None)


@routes.get("/predictions/{uid}", returns=Prediction)
def get_prediction(request: Request) -> Prediction:
    """Show one prediction with its inputs, outputs and outcome."""
    with begin(request) as uow:
        return predictions.get_prediction(uow, request.path["uid"], project=request.project)
