"""MLflow's face of the datasets that runs have read."""

from __future__ import annotations

from starlette.responses import Response

from everline.errors import InvalidInputError
from everline.runs import inputs
from everline.runs.search import experiment_number
from everline.runs.types import LOGGED_MODEL
from everline.server.http import Request, begin
from everline.server.mlflow_compat.wire import Fields, answer, new_routes, project_of, without_nothing

EXPERIMENTS_PER_REQUEST_MAX = 20

routes = new_routes(prefix="")


@routes.post("/api/2.0/mlflow/experiments/search-datasets")
def search_datasets(request: Request) -> Response:
    """Name the datasets that runs of some experiments have read."""
    experiments = Fields.of(request).texts("experiment_ids")
    if not experiments:
        raise InvalidInputError(
            "SearchDatasets request must specify at least one experiment_id.", field="experiment_ids"
        )
    if len(experiments) > EXPERIMENTS_PER_REQUEST_MAX:
        raise InvalidInputError(
            f"SearchDatasets request cannot specify more than {EXPERIMENTS_PER_REQUEST_MAX} experiment_ids. "
            f"Received {len(experiments)} experiment_ids.",
            field="experiment_ids",
        )
    with begin(request) as uow:
        found = inputs.list_inputs(
            uow,
            project_of(request),
            experiments=[experiment_number(text) for text in experiments],
            without=LOGGED_MODEL,
        )
    summaries = [
        without_nothing({
            "experiment_id": str(experiment), "name": item.name, "digest": item.digest, "context": item.context or None
        })
        for experiment, item in found
    ]  # fmt: skip
    return answer({"dataset_summaries": summaries})
