"""MLflow's face of experiments."""

from __future__ import annotations

from starlette.responses import Response

from everline.runs import experiments, filters, search
from everline.runs.types import View, to_ms
from everline.server.http import Request, begin
from everline.server.mlflow_compat.values import VIEW_NUMBERS, VIEWS, experiment_message
from everline.server.mlflow_compat.wire import Fields, ProtocolError, answer, new_routes, project_of

routes = new_routes()


@routes.post("/mlflow/experiments/create")
def create(request: Request) -> Response:
    """Create an experiment."""
    fields = Fields.of(request)
    with begin(request) as uow:
        made = experiments.create_experiment(
            uow,
            project_of(request),
            fields.required("name"),
            artifact_location=fields.text("artifact_location"),
            tags=fields.pairs("tags"),
        )
    return answer({"experiment_id": made.experiment})


@routes.get("/mlflow/experiments/get")
def get(request: Request) -> Response:
    """Return an experiment by its number."""
    fields = Fields.of(request)
    project, number = project_of(request), fields.required("experiment_id")
    with begin(request) as uow:
        found = experiments.get_experiment(uow, project, number)
    if not to_ms(found.created_at):  # the default experiment, at its first use
        with request.app.begin(request.actor) as uow:
            experiments.use_default(uow, project)
            found = experiments.get_experiment(uow, project, number)
    return answer({"experiment": experiment_message(found)})


@routes.get("/mlflow/experiments/get-by-name")
def get_by_name(request: Request) -> Response:
    """Return an experiment by its name."""
    fields = Fields.of(request)
    with begin(request) as uow:
        found = experiments.get_experiment_by_name(uow, project_of(request), fields.required("experiment_name"))
    return answer({"experiment": experiment_message(found)})


@routes.get("/mlflow/experiments/search")
@routes.post("/mlflow/experiments/search")
def search_experiments(request: Request) -> Response:
    """Search experiments; a page and the token of the next one."""
    fields = Fields.of(request)
    project = project_of(request)
    # A write lock, since the default experiment is made at its first use.
    with request.app.begin(request.actor) as uow:
        experiments.use_default(uow, project)
        found, after = search.search_experiments(
            uow,
            project,
            filter=fields.text("filter"),
            order_by=fields.texts("order_by"),
            view=fields.choice("view_type", VIEWS, numbers=VIEW_NUMBERS, default=View.ACTIVE),
            limit=fields.integer("max_results", 1_000),
            offset=filters.page_offset(fields.text("page_token")),
        )
    token = None if after is None else filters.page_token(after)
    return answer({"experiments": [experiment_message(item) for item in found], "next_page_token": token})


@routes.post("/mlflow/experiments/update")
def update(request: Request) -> Response:
    """Rename an experiment."""
    fields = Fields.of(request)
    number, name, project = fields.required("experiment_id"), fields.required("new_name"), project_of(request)
    with begin(request) as uow:
        if experiments.get_experiment(uow, project, number).deleted:
            raise ProtocolError("Cannot rename a non-active experiment.", error_code="INVALID_STATE")
        experiments.rename_experiment(uow, project, number, name=name)
    return answer({})


@routes.post("/mlflow/experiments/delete")
def delete(request: Request) -> Response:
    """Hide an experiment and its runs."""
    fields = Fields.of(request)
    with begin(request) as uow:
        experiments.delete_experiment(uow, project_of(request), fields.required("experiment_id"))
    return answer({})


@routes.post("/mlflow/experiments/restore")
def restore(request: Request) -> Response:
    """Bring an experiment and its runs back."""
    fields = Fields.of(request)
    with begin(request) as uow:
        experiments.restore_experiment(uow, project_of(request), fields.required("experiment_id"))
    return answer({})


@routes.post("/mlflow/experiments/set-experiment-tag")
def set_tag(request: Request) -> Response:
    """Set a tag of an experiment."""
    fields = Fields.of(request)
    number, key = fields.required("experiment_id"), fields.required("key")
    with begin(request) as uow:
        experiments.set_experiment_tag(uow, project_of(request), number, key=key, value=fields.text("value"))
    return answer({})


@routes.post("/mlflow/experiments/delete-experiment-tag")
def delete_tag(request: Request) -> Response:
    """Remove a tag of an experiment."""
    fields = Fields.of(request)
    number, key = fields.required("experiment_id"), fields.required("key")
    with begin(request) as uow:
        experiments.delete_experiment_tag(uow, project_of(request), number, key=key)
    return answer({})
