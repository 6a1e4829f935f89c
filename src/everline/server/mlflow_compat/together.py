"""How small requests of MLflow's clients are answered together; see `server.gathering`."""

from __future__ import annotations

from starlette.responses import Response

from everline.models.logged import metrics as logged_metrics
from everline.runs import service
from everline.runs.types import Batch, TrackedRun
from everline.server.gathering import Gather, Step, in_turn
from everline.server.mlflow_compat.values import run_message
from everline.server.mlflow_compat.wire import answer, project_of

_NOTHING = answer({})

ACTS: Gather[Step, Response] = Gather(work=in_turn, render=lambda made: made, project=project_of)
"""Changes that leave an audit event; a handler returns what is to be done in the unit of work."""

READS: Gather[Step, Response] = Gather(work=in_turn, render=lambda found: found, project=project_of, read_only=True)
"""Small answers from the database that clients ask for in loops."""

LOGGING: Gather[Batch, None] = Gather(
    work=logged_metrics.log_many, render=lambda _: _NOTHING, project=project_of, power_safe=False
)
"""What training loops log."""

GETTING: Gather[str, TrackedRun] = Gather(
    work=service.get_runs,
    render=lambda run: answer({"run": run_message(run)}),
    project=project_of,
    read_only=True,
)
"""Runs by their uid."""
