"""The curves of a run, and those of its machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from everline.runs import curves, service
from everline.runs.types import TrackedRun
from everline.server.console import pages
from everline.server.console.run import frame
from everline.server.console.view import metrics, render
from everline.server.http import Request, begin

routes = pages.console_routes()
CHARTS_PER_PAGE = 24
LINES_PER_CHART_MAX = 12


@routes.get("/runs/{run}/metrics")
def show_metrics(request: Request) -> Response:
    """Every curve of a run, by name; each is fetched when it comes into view."""
    return _show(request, here="metrics")


@routes.get("/runs/{run}/system")
def show_system(request: Request) -> Response:
    """What the run took of its machine: processor, memory, disk, network, accelerators."""
    return _show(request, here="system")


def _show(request: Request, *, here: str) -> Response:
    wanted = request.query("q", str, "")[: metrics.FILTER_CHARACTERS_MAX]
    number = max(0, min(request.query("page", int, 0), 10_000))
    with begin(request) as uow:
        run = service.get_run(uow, request.project, request.path["run"])
        keys = [key for key in run.metrics if key.startswith(metrics.SYSTEM) == (here == "system")]
        groups = _groups([key for key in keys if metrics.matches(key, wanted)], system=here == "system")
        shown = groups[number * CHARTS_PER_PAGE : (number + 1) * CHARTS_PER_PAGE]
        ranges = curves.metric_extremes(uow, request.project, run.run, [key for _, members in shown for key in members])

    def is_single(key: str) -> bool:
        return key in ranges and ranges[key].count == 1

    def address(page: int) -> str | None:
        inside = 0 <= page * CHARTS_PER_PAGE < max(len(groups), 1)
        return render.path("runs", run.run, here, project=run.project, q=wanted, page=page or None) if inside else None

    return frame.page(
        request,
        "run_metrics.html",
        run,
        here=here,
        total=len(keys),
        found=sum(len(members) for _, members in groups),
        wanted=wanted,
        charts=[_chart(run, title, members) for title, members in shown if not all(map(is_single, members))],
        singles=[(key, run.metrics[key]) for _, members in shown if all(map(is_single, members)) for key in members],
        before=address(number - 1),
        after=address(number + 1),
    )


def _groups(keys: Sequence[str], *, system: bool) -> list[tuple[str, list[str]]]:
    """Metrics that belong on one chart: the training, validation and test forms of one."""
    found: dict[str, list[str]] = defaultdict(list)
    for key in sorted(keys):
        found[key.removeprefix(metrics.SYSTEM) if system else metrics.plain(key)].append(key)
    ordered = sorted(found.items(), key=lambda item: (metrics.rank(item[0]), item[0]))
    return [
        (title, members[start : start + LINES_PER_CHART_MAX])
        for title, members in ordered
        for start in range(0, len(members), LINES_PER_CHART_MAX)
    ]


def _chart(run: TrackedRun, title: str, keys: Sequence[str]) -> dict[str, Any]:
    lines = [{"run": run.run, "key": key, "name": key} for key in keys]
    latest = ", ".join(render.number(run.metrics[key]) for key in keys)
    return {"title": title, "latest": latest, "spec": {"title": title, "project": run.project, "lines": lines}}
