"""REST face of the prediction log."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from everline.clock import parse_rfc3339
from everline.server.http import Page, Request, Routes, begin
from everline.serving import explanations, predictions
from everline.serving.predictions import arrow_stream
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


@routes.get("/endpoints/{name}/predictions.arrow")
def export_predictions(request: Request) -> Response:
    """Download the newest `limit` predictions, answered from `since` up to `until`, as an Arrow IPC stream.

    With `shadow=true` what shadows said in place of what was answered.
    """
    since, until = (request.query(name, str, None) for name in ("since", "until"))
    with begin(request) as uow:
        rows = predictions.newest(
            uow,
            request.path["name"],
            project=request.project,
            limit=request.query("limit", int, 10_000),
            since=parse_rfc3339(since, field="since") if since else None,
            until=parse_rfc3339(until, field="until") if until else None,
            shadow=request.query("shadow", bool, False),
        )
    return Response(arrow_stream(rows), media_type="application/vnd.apache.arrow.stream")


@routes.get("/predictions/{uid}", returns=Prediction)
def get_prediction(request: Request) -> Prediction:
    """Show one prediction with its inputs, outputs and outcome."""
    with begin(request) as uow:
        return predictions.get_prediction(uow, request.path["uid"], project=request.project)


@routes.get("/predictions/{uid}/explanation", returns=dict[str, Any])
def explain_prediction(request: Request) -> dict[str, Any]:
    """Say what each input contributed to a prediction, by SHAP's definitions."""
    with begin(request) as uow:
        return explanations.explain_prediction(uow, request.path["uid"], project=request.project)
