"""MLflow's face of runs and what is logged to them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from starlette.responses import Response

from everline.errors import InvalidInputError, NotFoundError
from everline.runs import artifacts, filters, limits, sampling, search, service, tracking
from everline.runs.search import experiment_number
from everline.runs.types import Batch, View
from everline.server.gathering import Step
from everline.server.http import Request, begin
from everline.server.mlflow_compat import batches
from everline.server.mlflow_compat.paths import checked_path
from everline.server.mlflow_compat.together import ACTS, GETTING, LOGGING
from everline.server.mlflow_compat.values import (
    STATUS_NUMBERS,
    STATUSES,
    VIEW_NUMBERS,
    VIEWS,
    file_message,
    input_of,
    model_input_of,
    model_output_of,
    new_run_message,
    point_message,
    run_info_message,
    run_message,
)
from everline.server.mlflow_compat.wire import Fields, answer, new_routes, project_of

BULK_POINTS_MAX = 25_000
_MODEL_FIELDS = {"artifact_path", "flavors", "utc_time_created", "run_id"}

routes = new_routes()


@routes.post("/mlflow/runs/create", gather=ACTS)
def create(request: Request) -> Step:
    """Start a run."""
    fields, project = Fields.of(request), project_of(request)
    wanted: dict[str, Any] = {
        "experiment_id": fields.text("experiment_id"),
        "name": fields.text("run_name") or None,
        "tags": batches.shortened(fields.pairs("tags"), limit=limits.TAG_VALUE_CHARACTERS_MAX),
        "started_ms": fields.integer("start_time", 0),
        "user": fields.text("user_id"),
    }
    return lambda uow: answer({"run": new_run_message(service.create_run(uow, project, **wanted))})


@routes.get("/mlflow/runs/get", gather=GETTING)
def get(request: Request) -> str:
    """Return a run."""
    return _run_id(Fields.of(request))


@routes.post("/mlflow/runs/update", gather=ACTS)
def update(request: Request) -> Step:
    """Change status, end or name of a run."""
    fields, project = Fields.of(request), project_of(request)
    uid = _run_id(fields)
    wanted: dict[str, Any] = {
        "status": fields.choice("status", STATUSES, numbers=STATUS_NUMBERS, default=None),
        "ended_ms": fields.integer("end_time", 0) if fields.has("end_time") else None,
        "name": fields.text("run_name") or None,
    }
    return lambda uow: answer({"run_info": run_info_message(service.update_run(uow, project, uid, **wanted))})


@routes.post("/mlflow/runs/delete")
def delete(request: Request) -> Response:
    """Hide a run."""
    fields = Fields.of(request)
    with begin(request) as uow:
        service.delete_run(uow, project_of(request), _run_id(fields))
    return answer({})


@routes.post("/mlflow/runs/restore")
def restore(request: Request) -> Response:
    """Bring a run back."""
    fields = Fields.of(request)
    with begin(request) as uow:
        service.restore_run(uow, project_of(request), _run_id(fields))
    return answer({})


@routes.post("/mlflow/runs/search")
def search_runs(request: Request) -> Response:
    """Search runs; a page and the token of the next one."""
    fields = Fields.of(request)
    with request.app.begin(request.actor, read_only=True) as uow:
        found, after = search.search_runs(
            uow,
            project_of(request),
            experiments=[experiment_number(text) for text in fields.texts("experiment_ids")],
            filter=fields.text("filter"),
            order_by=fields.texts("order_by"),
            view=fields.choice("run_view_type", VIEWS, numbers=VIEW_NUMBERS, default=View.ACTIVE),
            limit=fields.integer("max_results", 1_000),
            offset=filters.page_offset(fields.text("page_token")),
        )
    token = None if after is None else filters.page_token(after)
    return answer({"runs": [run_message(run) for run in found], "next_page_token": token})


@routes.post("/mlflow/runs/log-metric", gather=LOGGING)
def log_metric(request: Request) -> Batch:
    """Log one point of a metric."""
    return batches.metric(request)


@routes.post("/mlflow/runs/log-parameter", gather=LOGGING)
def log_param(request: Request) -> Batch:
    """Log one parameter."""
    run, key, value = batches.pair(request, called="Param key")
    return Batch(run=run, params={key: value[: limits.PARAM_VALUE_CHARACTERS_MAX]})


@routes.post("/mlflow/runs/log-batch", gather=LOGGING)
def log_batch(request: Request) -> Batch:
    """Log metrics, parameters and tags, all or nothing."""
    return batches.batch(request)


@routes.post("/mlflow/runs/set-tag", gather=LOGGING)
def set_tag(request: Request) -> Batch:
    """Set one tag."""
    run, key, value = batches.pair(request, called="key")
    if key == tracking.RUN_NAME_TAG and not value:
        return Batch(run=run)  # a run is never without a name
    return Batch(run=run, tags={key: value[: limits.TAG_VALUE_CHARACTERS_MAX]})


@routes.post("/mlflow/runs/delete-tag")
def delete_tag(request: Request) -> Response:
    """Remove one tag."""
    fields = Fields.of(request)
    with begin(request) as uow:
        tracking.delete_tag(uow, project_of(request), _run_id(fields), key=fields.required("key"))
    return answer({})


@routes.post("/mlflow/runs/log-inputs")
def log_inputs(request: Request) -> Response:
    """Say which datasets and logged models a run read."""
    fields = Fields.of(request)
    uid = limits.check_run_uid(fields.required("run_id"))
    inputs = [input_of(item) for item in fields.messages("datasets")]
    inputs += [model_input_of(item) for item in fields.messages("models")]
    with begin(request) as uow:
        tracking.log_batch(uow, project_of(request), uid, inputs=inputs)
    return answer({})


@routes.post("/mlflow/runs/log-model")
def log_model(request: Request) -> Response:
    """Note a model that a client of MLflow 2 logged."""
    fields = Fields.of(request)
    uid, text = fields.required("run_id"), fields.required("model_json")
    try:
        model = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInputError(
            f"Malformed model info. \n {text[:300]} \n is not a valid JSON.", field="model_json"
        ) from None
    missing = _MODEL_FIELDS - (model.keys() if isinstance(model, dict) else set())
    if missing:
        raise InvalidInputError(f"Model json is missing mandatory fields: {sorted(missing)}", field="model_json")
    kept = {
        name: model[name] for name in ("run_id", "artifact_path", "utc_time_created", "model_uuid") if name in model
    }
    kept["flavors"] = {
        name: {key: value for key, value in flavor.items() if key != "config"} if isinstance(flavor, dict) else flavor
        for name, flavor in (model["flavors"] if isinstance(model["flavors"], dict) else {}).items()
    }
    with begin(request) as uow:
        tracking.note_model(uow, project_of(request), uid, model=kept)
    return answer({})


@routes.post("/mlflow/runs/outputs")
def log_outputs(request: Request) -> Response:
    """Say which logged models a run made."""
    fields = Fields.of(request)
    uid, models = _run_id(fields), fields.messages("models")
    if not models:
        raise fields.missing("models")
    outputs = [model_output_of(item) for item in models]
    with begin(request) as uow:
        tracking.log_batch(uow, project_of(request), uid, outputs=outputs)
    return answer({})


@routes.get("/mlflow/metrics/get-history")
def get_history(request: Request) -> Response:
    """Return the points of one metric in order of time, all or by pages."""
    fields = Fields.of(request)
    run, key = _run_id(fields), fields.required("metric_key")
    limit = fields.integer("max_results", 0) if fields.has("max_results") else None
    offset = filters.page_offset(fields.text("page_token"))
    try:
        with begin(request) as uow:
            points, after = tracking.metric_history(uow, project_of(request), run, key, limit=limit, offset=offset)
    except NotFoundError:  # MLflow does not ask whether there is such a run
        points, after = [], None
    token = None if after is None else filters.page_token(after)
    return answer({"metrics": [point_message(point) for point in points], "next_page_token": token})


@routes.get("/mlflow/metrics/get-history-bulk")
def get_history_bulk(request: Request) -> Response:
    """Return the points of one metric in up to 100 runs."""
    fields = Fields.of(request)
    uids = fields.texts("run_id")
    if not uids:
        raise InvalidInputError("GetMetricHistoryBulk request must specify at least one run_id.", field="run_id")
    if not fields.has("metric_key"):
        raise InvalidInputError("GetMetricHistoryBulk request must specify a metric_key.", field="metric_key")
    limit = min(fields.integer("max_results", BULK_POINTS_MAX), BULK_POINTS_MAX)
    with begin(request) as uow:
        points = tracking.metric_histories(uow, project_of(request), uids, fields.text("metric_key"), limit=limit)
    content = {"metrics": [point_message(point, uid) for uid, point in points[: max(limit, 0)]]}
    return Response(msgspec.json.encode(content), media_type="application/json")  # no protocol buffer: never left out


@routes.get("/mlflow/metrics/get-history-bulk-interval")
def get_history_bulk_interval(request: Request) -> Response:
    """Return evenly spaced points of one metric in up to 100 runs."""
    fields = Fields.of(request)
    uids, key = fields.texts("run_ids"), fields.text("metric_key")
    if not uids or not key:
        raise fields.missing("metric_key" if uids else "run_ids")
    if len(uids) > sampling.RUNS_MAX:
        raise InvalidInputError(
            f"GetMetricHistoryBulkInterval request must specify at most {sampling.RUNS_MAX} run_ids. "
            f"Received {len(uids)} run_ids. See the API docs for more information about request parameters.",
            field="run_ids",
        )
    points = fields.integer("max_results", sampling.POINTS_PER_RUN_MAX)
    if not 1 <= points <= sampling.POINTS_PER_RUN_MAX:
        raise InvalidInputError(
            f"max_results must be between 1 and {sampling.POINTS_PER_RUN_MAX}. "
            "See the API docs for more information about request parameters.",
            field="max_results",
        )
    with begin(request) as uow:
        found = sampling.sampled_histories(uow, project_of(request), uids, key, points=points, steps=_steps(fields))
    return answer({"metrics": [point_message(point, uid) for uid, point in found]})


@routes.get("/mlflow/artifacts/list")
def list_artifacts(request: Request) -> Response:
    """List files and folders of a run."""
    fields = Fields.of(request)
    path = checked_path(fields.text("path")) if fields.text("path") else ""
    with begin(request) as uow:
        run = service.get_run(uow, project_of(request), _run_id(fields))
        found = artifacts.list_artifacts(uow, project_of(request), run.run, path=path)
    return answer({"root_uri": run.artifact_uri, "files": [file_message(item, name=item.path) for item in found]})


def _steps(fields: Fields) -> tuple[int, int] | None:
    if not fields.has("start_step") and not fields.has("end_step"):
        return None
    if not fields.has("start_step") or not fields.has("end_step"):
        raise InvalidInputError(
            "If either start step or end step are specified, both must be specified.", field="start_step"
        )
    first, last = fields.integer("start_step"), fields.integer("end_step")
    if first > last:
        raise InvalidInputError(
            f"end_step must be greater than start_step. Found start_step={first} and end_step={last}.", field="end_step"
        )
    return first, last


def _run_id(fields: Fields) -> str:
    return fields.text("run_id") or fields.text("run_uuid") or fields.required("run_id")
