"""MLflow's face of logged models."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from starlette.responses import Response

from everline.errors import InvalidInputError
from everline.models.logged import search, service
from everline.models.types import DatasetChoice, LoggedModelOrder
from everline.runs.search import experiment_number
from everline.server.http import Request, begin
from everline.server.mlflow_compat.batches import parameters_twice
from everline.server.mlflow_compat.paths import checked_path
from everline.server.mlflow_compat.values import (
    LOGGED_STATUS_NUMBERS,
    LOGGED_STATUSES,
    file_message,
    logged_model_message,
)
from everline.server.mlflow_compat.wire import Fields, answer, new_routes, project_of

MODELS_PER_PAGE = 100

routes = new_routes()


@routes.post("/mlflow/logged-models")
def create(request: Request) -> Response:
    """Begin a logged model."""
    fields = Fields.of(request)
    with begin(request) as uow:
        made = service.create(
            uow,
            project_of(request),
            experiment_id=fields.required("experiment_id"),
            name=fields.text("name"),
            model_type=fields.text("model_type"),
            source_run=fields.text("source_run_id"),
            params=_params(fields),
            tags=fields.pairs("tags"),
        )
    return answer({"model": logged_model_message(made)})


@routes.post("/mlflow/logged-models/search")
def search_models(request: Request) -> Response:
    """Search logged models; a page and the token of the next one."""
    fields = Fields.of(request)
    if not fields.has("experiment_ids"):
        raise fields.missing("experiment_ids")
    experiments = fields.texts("experiment_ids")  # none at all hold no models
    order_by = [_order(item) for item in fields.messages("order_by")]
    asked = {
        "experiment_ids": experiments,
        "filter_string": fields.text("filter") or None,
        "order_by": [_asked(item) for item in order_by] or None,
    }
    with request.app.begin(request.actor, read_only=True) as uow:
        found, after = search.search(
            uow,
            project_of(request),
            experiments=[experiment_number(text) for text in experiments],
            filter=fields.text("filter"),
            datasets=[
                DatasetChoice(name=item.text("dataset_name"), digest=item.text("dataset_digest") or None)
                for item in fields.messages("datasets")
            ],
            order_by=order_by,
            limit=fields.integer("max_results", 0) or MODELS_PER_PAGE,
            offset=_offset(fields.text("page_token"), asked),
        )
    token = None if after is None else _token(after, asked)
    return answer({"models": [logged_model_message(item) for item in found], "next_page_token": token})


@routes.get("/mlflow/logged-models/{model_id}")
def get(request: Request) -> Response:
    """Return a logged model."""
    deleted = Fields.of(request).text("allow_deleted").lower() == "true"
    with begin(request) as uow:
        found = service.get(uow, project_of(request), request.path["model_id"], allow_deleted=deleted)
    return answer({"model": logged_model_message(found)})


@routes.patch("/mlflow/logged-models/{model_id}")
def finalize(request: Request) -> Response:
    """Say how the upload went."""
    fields = Fields.of(request)
    if not fields.has("status"):
        raise fields.missing("status")
    status = fields.choice("status", LOGGED_STATUSES, numbers=LOGGED_STATUS_NUMBERS, default=None)
    with begin(request) as uow:
        found = service.finalize(uow, project_of(request), request.path["model_id"], status=status)
    return answer({"model": logged_model_message(found)})


@routes.delete("/mlflow/logged-models/{model_id}")
def delete(request: Request) -> Response:
    """Hide a logged model."""
    with begin(request) as uow:
        service.delete_logged_model(uow, project_of(request), request.path["model_id"])
    return answer({})


@routes.post("/mlflow/logged-models/{model_id}/params")
def log_params(request: Request) -> Response:
    """Add parameters."""
    params = _params(Fields.of(request))
    with begin(request) as uow:
        service.log_params(uow, project_of(request), request.path["model_id"], params)
    return answer({})


@routes.patch("/mlflow/logged-models/{model_id}/tags")
def set_tags(request: Request) -> Response:
    """Set tags."""
    tags = Fields.of(request).pairs("tags")
    with begin(request) as uow:
        service.set_tags(uow, project_of(request), request.path["model_id"], tags)
    return answer({})


@routes.delete("/mlflow/logged-models/{model_id}/tags/{key:path}")
def delete_tag(request: Request) -> Response:
    """Remove a tag."""
    with begin(request) as uow:
        service.delete_tag(uow, project_of(request), request.path["model_id"], key=request.path["key"])
    return answer({})


@routes.get("/mlflow/logged-models/{model_id}/artifacts/directories")
def list_artifacts(request: Request) -> Response:
    """List files and folders directly below a folder of a logged model."""
    path = Fields.of(request).text("artifact_directory_path")
    with begin(request) as uow:
        root, found = service.list_artifacts(
            uow, project_of(request), request.path["model_id"], path=checked_path(path) if path else ""
        )
    return answer({"root_uri": root, "files": [file_message(item, name=item.path) for item in found]})


def _params(fields: Fields) -> dict[str, str]:
    params = fields.pairs("params")
    given = fields.messages("params")
    if len(params) != len(given):
        raise parameters_twice([item.text("key") for item in given])
    return params


def _order(item: Fields) -> LoggedModelOrder:
    name, digest = item.text("dataset_name"), item.text("dataset_digest")
    return LoggedModelOrder(
        field=item.required("field_name"),
        ascending=item.boolean("ascending") if item.has("ascending") else True,
        dataset=DatasetChoice(name=name, digest=digest or None) if name or digest else None,
    )


def _asked(order: LoggedModelOrder) -> dict[str, Any]:
    """A sort key as it stands in a page token."""
    return {
        "field_name": order.field,
        "ascending": order.ascending,
        "dataset_name": (order.dataset and order.dataset.name) or None,
        "dataset_digest": order.dataset and order.dataset.digest,
    }


def _token(offset: int, asked: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps({**asked, "offset": offset}).encode()).decode()


def _offset(token: str, asked: dict[str, Any]) -> int:
    """Where the page of a token starts; a token of another search is refused, as by MLflow's server."""
    if not token:
        return 0
    try:
        given = json.loads(base64.b64decode(token, validate=True))
        offset = int(given["offset"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise InvalidInputError(
            f"Invalid page token: {token[:80]!r} could not be decoded.",
            hint="Send the next_page_token of the previous answer unchanged.",
            field="page_token",
        ) from None
    if not 0 <= offset < 2**53:
        raise InvalidInputError(f"Invalid page token: offset {offset} is out of range.", field="page_token")
    names = {"experiment_ids": "Experiment IDs", "filter_string": "Filter string", "order_by": "Order by"}
    for key, what in names.items():
        if given.get(key) != asked[key]:
            raise InvalidInputError(
                f"{what} in the page token does not match the requested {what[0].lower() + what[1:]}. "
                f"Expected: {asked[key]}. Found: {given.get(key)}",
                field="page_token",
            )
    return offset
