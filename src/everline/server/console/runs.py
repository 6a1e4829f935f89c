"""The table of runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from starlette.responses import Response

from everline.runs import service
from everline.runs.types import Run
from everline.server.console import pages
from everline.server.console.view import metrics, render
from everline.server.http import Request, begin

routes = pages.console_routes()
RUNS_PER_PAGE = 50
_COLUMNS_MAX = 3


@routes.get("/runs")
def list_runs(request: Request) -> Response:
    """The newest runs."""
    with begin(request) as uow:
        runs, following = service.list_runs(
            uow, request.project, limit=RUNS_PER_PAGE, offset=max(0, request.query("cursor", int, 0))
        )
    counts = Counter(key for run in runs for key in run.metrics)
    shown = sorted(counts, key=lambda key: (metrics.rank(key), -counts[key], key))[:_COLUMNS_MAX]
    return pages.page(
        request,
        "runs.html",
        title="Runs",
        section="runs",
        runs=[_row(run) for run in runs],
        metric_keys=shown,
        next=following,
    )


def _row(run: Run) -> dict[str, Any]:
    return {
        "run": run.run,
        "name": run.name,
        "status": run.status,
        "pipeline": run.pipeline,
        "experiment": run.experiment,
        "metrics": run.metrics,
        "user": run.user,
        "started_at": run.started_at,
        "took": render.seconds_between(run.started_at, run.ended_at),
    }
