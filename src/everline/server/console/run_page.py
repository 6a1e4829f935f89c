"""The page of one run: its curves, record, steps, inputs and outputs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup
from starlette.responses import Response

from everline.access.unit_of_work import UnitOfWork
from everline.pipelines import service as pipelines
from everline.pipelines.types import StepRecord, StepStatus
from everline.runs import service, tracking
from everline.runs.types import Metric, Run, RunInput, RunOutput
from everline.server.console import pages
from everline.server.console.view import charts, graph, metrics, render
from everline.server.http import Request, begin

routes = pages.console_routes()
CURVES_MAX = 24
_HEADLINE_MAX = 4


@routes.get("/runs/{run}")
def show_run(request: Request) -> Response:
    """One run."""
    project, uid = request.project, request.path["run"]
    with begin(request) as uow:
        run = service.get_run(uow, project, uid)
        record = service.get_record(uow, project, uid) if run.record else {}
        steps = pipelines.list_steps(uow, project, uid) if run.pipeline else []
        histories = _histories(uow, run)
    keys = sorted(run.metrics, key=lambda key: (metrics.rank(key), key))
    return pages.page(
        request,
        "run.html",
        title=run.name,
        section="runs",
        run=run,
        took=render.seconds_between(run.started_at, run.ended_at),
        headline=[(render.words(key), run.metrics[key]) for key in keys[:_HEADLINE_MAX]],
        curves=_curves(histories),
        record=_record(run, record),
        steps=_steps_graph(steps),
        steps_note=_steps_note(steps),
        step_rows=[_step_row(step) for step in steps],
        inputs=[_input(one, project) for one in run.inputs],
        outputs=[_output(one, project) for one in run.outputs],
    )


def _histories(uow: UnitOfWork, run: Run) -> dict[str, list[Metric]]:
    found = {}
    for key in sorted(run.metrics)[: CURVES_MAX * 2]:
        points, _ = tracking.metric_history(uow, run.project, run.run, key, limit=charts.POINTS_MAX * 5)
        if len(points) > 1:
            found[key] = points
    return found


def _curves(histories: Mapping[str, Sequence[Metric]]) -> list[dict[str, Any]]:
    """One chart per metric; its training, validation and test forms share one."""
    groups: dict[str, list[str]] = defaultdict(list)
    for key in histories:
        groups[metrics.plain(key)].append(key)
    made = []
    for title, keys in sorted(groups.items(), key=lambda item: (metrics.rank(item[0]), item[0]))[:CURVES_MAX]:
        by_step = all(len({point.step for point in histories[key]}) > 1 for key in keys)
        lines = [
            charts.series(key, [(point.step if by_step else point.at_ms, point.value) for point in histories[key]])
            for key in keys
        ]
        axis = {"x": "value", "x_name": "step", "x_whole": True} if by_step else {"x": "time"}
        made.append(charts.lines(title, series=lines, **axis))
    return made


def _record(run: Run, record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    code, environment = record.get("code") or {}, record.get("environment") or {}
    machine = environment.get("machine") or {}
    commit, count = code.get("commit"), len(code.get("files") or ())
    lines: list[tuple[str, Any]] = [("Pipeline" if run.pipeline else "Experiment", run.pipeline or run.experiment)]
    if not record:
        lines.append(
            ("Code", Markup('<span class="muted">{}</span>').format("not recorded: this run cannot be rebuilt"))
        )
        return lines
    lines += [
        ("Code", f"{render.short(code.get('digest'))}, {count} file{'' if count == 1 else 's'}"),
        ("Commit", f"{commit[:12]}{' with local changes' if code.get('dirty') else ''}" if commit else "not in Git"),
        ("Environment", f"{render.short(environment.get('digest'))}, Python {environment.get('python')}"),
        ("Packages", f"{len(environment.get('distributions') or ())} installed distributions, by digest"),
        ("Machine", f"{machine.get('os')}, {machine.get('architecture')}"),
        ("Seed", "none" if record.get("seed") is None else str(record["seed"])),
        ("Record", Markup("<code>{}</code>").format(render.short(run.record))),
    ]
    for warning in record.get("nondeterminism") or ():
        lines.append(("Beware", warning))
    return lines


def _steps_graph(steps: Sequence[StepRecord]) -> tuple[graph.Drawing, graph.Drawing] | None:
    if not steps:
        return None
    tones = {StepStatus.CACHED: "info", StepStatus.SUCCEEDED: "good", StepStatus.FAILED: "bad"}
    nodes = [
        graph.Node(key=step.name, title=step.name, note=_step_note(step), tone=tones.get(step.status, "warn"))
        for step in steps
    ]
    edges = [(need, step.name) for step in steps for need in step.needs]
    return graph.both(nodes, edges)


def _step_note(step: StepRecord) -> str:
    if step.cached:
        return "cached"
    done = step.status is StepStatus.SUCCEEDED and step.seconds is not None
    return render.duration(step.seconds) if done else step.status.value


def _steps_note(steps: Iterable[StepRecord]) -> str:
    counts = Counter("cached" if step.cached else step.status.value for step in steps)
    return ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))


def _step_row(step: StepRecord) -> dict[str, Any]:
    return {
        "name": step.name,
        "state": "succeeded" if step.cached else step.status,
        "cached": step.cached,
        "output": step.outputs[0].digest if step.outputs else None,
        "took": step.seconds,
        "error": f"{step.error.type}: {step.error.message}" if step.error else None,
    }


def _input(one: RunInput, project: str) -> dict[str, Any]:
    ours = one.version is not None
    return {
        "label": f"{one.name}, version {one.version}" if ours else one.name,
        "href": render.path("datasets", one.name, one.version, project=project) if ours else None,
        "context": one.context,
        "digest": one.digest,
    }


def _output(one: RunOutput, project: str) -> dict[str, Any]:
    version = one.facts.get("version")
    href = render.path("models", one.name, version, project=project) if one.kind == "model" and version else None
    return {"label": one.name, "href": href, "kind": one.kind, "digest": one.digest}
