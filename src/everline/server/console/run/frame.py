"""What every page of a run shows around its own part: the name, the status, the way to the other pages."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from everline.runs.types import RunStatus, TrackedRun
from everline.server.console import pages
from everline.server.console.view import metrics, render
from everline.server.http import Request

PARENT_TAG = "mlflow.parentRunId"


def page(
    request: Request,
    template: str,
    run: TrackedRun,
    *,
    here: str,
    status: int = 200,
    live: bool | None = None,
    **view: Any,
) -> Response:
    """Fill a template of a run's page.

    Args:
        here: the last part of its address, empty for the overview.
        live: it keeps itself fresh; None as long as the run is at work.
    """
    system = sum(key.startswith(metrics.SYSTEM) for key in run.metrics)
    tabs = [("", "Overview", 0)]
    tabs += [("steps", "Steps", 0)] if run.pipeline or here == "steps" else []
    tabs += [("metrics", "Metrics", len(run.metrics) - system)]
    tabs += [("system", "System", system)] if system or here == "system" else []
    tabs += [("artifacts", "Artifacts", 0), ("code", "Code", 0), ("environment", "Environment", 0)]
    return pages.page(
        request,
        template,
        title=run.name,
        section="runs",
        status=status,
        run=run,
        status_word="waiting" if run.pipeline and run.status is RunStatus.SCHEDULED else run.status,
        took=render.seconds_between(run.started_at, run.ended_at),
        live=not run.status.is_terminal if live is None else live,
        here=here,
        parent=run.tags.get(PARENT_TAG),
        tabs=[
            {
                "name": name,
                "href": render.path("runs", run.run, *([word] if word else []), project=run.project),
                "here": word == here,
                "count": count,
            }
            for word, name, count in tabs
        ],
        **view,
    )
