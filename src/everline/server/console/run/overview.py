"""The first page of a run: what went in, what came out, and what is needed to do it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from starlette.responses import Response

from everline.models.logged import search as logged_search
from everline.runs import curves, limits, listing, service, tracking
from everline.runs.types import Run, RunInput, RunOutput, TrackedRun
from everline.runs.undeclared import warnings_of
from everline.server.console import approvals as questions
from everline.server.console import certificates, logged_models, pages
from everline.server.console.run import frame, pipeline
from everline.server.console.view import markdown, metrics, render
from everline.server.http import Request, begin

routes = pages.console_routes()
NOTE_TAG = "mlflow.note.content"
METRICS_SHOWN = 30
_HEADLINE_MAX = 5
_NESTED_METRICS = 3


@routes.get("/runs/{run}")
def show_run(request: Request) -> Response:
    """One run."""
    project, uid = request.project, request.path["run"]
    with begin(request) as uow:
        run = service.get_run(uow, project, uid)
        record = service.get_record(uow, project, uid) if run.record else {}
        shown = pipeline.gather(uow, run)
        nested = listing.list_children(uow, project, [uid])
        logged, _ = logged_search.search(
            uow, project, filter=f"source_run_id = '{uid}'", limit=logged_models.PER_RUN_MAX
        )
        certified = certificates.of_subject(uow, project, f"run:{uid}")
        keys = sorted((key for key in run.metrics if not key.startswith(metrics.SYSTEM)), key=_order)
        ranges = curves.metric_extremes(uow, project, uid, keys[:METRICS_SHOWN])
    newest = {point.key: point for point in run.latest}
    return frame.page(
        request,
        "run.html",
        run,
        here="",
        headline=[(render.words(key), run.metrics[key]) for key in keys[:_HEADLINE_MAX]],
        note=run.tags.get(NOTE_TAG, ""),
        note_blocks=markdown.document(run.tags.get(NOTE_TAG, "")),
        note_max=limits.TAG_VALUE_CHARACTERS_MAX,
        metric_rows=[
            {"key": key, "value": run.metrics[key], "step": newest[key].step, "range": ranges.get(key)}
            for key in keys[:METRICS_SHOWN]
        ],
        metrics_left=max(0, len(keys) - METRICS_SHOWN),
        record=_record(run, record),
        certificates=certified,
        done=questions.DONE.get(request.query("done", str, "")),
        pipeline=pipeline.view(request, run, shown),
        inputs=[_input(one, project) for one in run.inputs],
        outputs=[_output(one, project) for one in run.outputs],
        **logged_models.table(logged),
        tags={key: value for key, value in run.tags.items() if key != NOTE_TAG},
        nested=_nested(nested, uid, depth=0),
        nested_keys=_nested_keys(nested),
    )


@routes.post("/runs/{run}/note")
def describe_run(request: Request) -> Response:
    """Set the description of a run: Markdown in MLflow's note tag, so that every client sees it."""
    given = pages.form(request)
    uid = request.path["run"]
    with begin(request) as uow:
        # A browser sends CRLF; what is kept is what an editor would have written.
        text = given.get("note", "").replace("\r\n", "\n")
        tracking.log_batch(uow, request.project, uid, tags={NOTE_TAG: text})
    return pages.redirect(render.path("runs", uid, project=request.project))


def _order(key: str) -> tuple[int, str]:
    return metrics.rank(key), key


def _nested(children: Mapping[str, Sequence[TrackedRun]], parent: str, *, depth: int) -> list[dict[str, Any]]:
    """The runs below one, each followed by its own, with their depth."""
    found = []
    for run in children.get(parent, ()):
        took = render.seconds_between(run.started_at, run.ended_at)
        found.append({"run": run, "depth": depth, "took": took})
        if depth < listing.NESTING_MAX:
            found += _nested(children, run.run, depth=depth + 1)
    return found


def _nested_keys(children: Mapping[str, Sequence[TrackedRun]]) -> list[str]:
    counts = Counter(key for runs in children.values() for run in runs for key in run.metrics)
    shown = (key for key in counts if not key.startswith(metrics.SYSTEM))
    return sorted(shown, key=lambda key: (metrics.rank(key), -counts[key], key))[:_NESTED_METRICS]


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
    for warning in (*(record.get("nondeterminism") or ()), *warnings_of(run.tags)):
        lines.append(("Beware", warning))
    return lines


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
