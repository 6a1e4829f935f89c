"""`everline runs`: list, show, compare, and send what was logged while the server was away."""

from __future__ import annotations

from typing import Any

import click

from everline.cli.output import client_options, emit, facts, table
from everline.loader import load
from everline.runs.types import Difference, RunStatus


@click.group("runs")
def command() -> None:
    """List, show and compare runs; send what waits in the journal."""


@command.command("list")
@click.option("--experiment", help="Only runs of this experiment.")
@click.option("--pipeline", help="Only runs of this pipeline, `module:pipeline`.")
@click.option("--status", type=click.Choice([status.value for status in RunStatus]), help="Only runs in this state.")
@click.option("--filter", "filter_text", help='MLflow\'s search language, such as "metrics.auc > 0.7".')
@click.option("--order-by", multiple=True, help='Sort keys for --filter, such as "metrics.auc DESC".')
@click.option("--limit", type=click.IntRange(1, 50_000), default=50, show_default=True)
@client_options
def list_runs(
    experiment: str | None,
    pipeline: str | None,
    status: str | None,
    filter_text: str | None,
    order_by: tuple[str, ...],
    limit: int,
    *,
    client: Any,
    as_json: bool,
) -> None:
    """List runs, the newest first."""
    if filter_text or order_by:
        named = [experiment] if experiment else []
        found = client.runs.search(filter_text or "", order_by=order_by, experiments=named, limit=limit)
        found = [run for run in found if pipeline in (None, run.pipeline) and status in (None, run.status.value)]
    else:
        found = client.runs.list(experiment=experiment, pipeline=pipeline, status=status, limit=limit)
    rows = [
        (run.run, run.name, run.experiment, run.pipeline, run.status.value, run.started_at, _metrics(run.metrics))
        for run in found
    ]
    emit(
        found,
        as_json=as_json,
        human=lambda: table(
            rows,
            headers=("run", "name", "experiment", "pipeline", "status", "started", "metrics"),
            empty="No runs yet. `everline demo` makes some; so does `everline run MODULE:PIPELINE`.",
        ),
    )


@command.command("show")
@click.argument("run")
@client_options
def show_run(run: str, *, client: Any, as_json: bool) -> None:
    """Show one run with its parameters, metrics, inputs and outputs."""
    found = client.runs.get(run)
    emit(found, as_json=as_json, human=lambda: _show(found))


@command.command("compare")
@click.argument("runs", nargs=-1, required=True)
@click.option("--all", "show_all", is_flag=True, help="Also what is the same.")
@client_options
def compare_runs(runs: tuple[str, ...], show_all: bool, *, client: Any, as_json: bool) -> None:
    """Put runs side by side: parameters, metrics, code, environment and data."""
    compared = client.runs.compare(runs)

    def human() -> None:
        click.echo("  ".join(f"{name} ({uid[:12]})" for name, uid in zip(compared.names, compared.runs, strict=True)))
        for title in ("params", "metrics", "code", "environment", "data"):
            lines: list[Difference] = [line for line in getattr(compared, title) if show_all or line.differs]
            if lines:
                click.echo()
                rows = [(line.key, *line.values) for line in lines]
                table(rows, headers=(title, *(uid[:12] for uid in compared.runs)), empty="")

    emit(compared, as_json=as_json, human=human)


@command.command("sync")
@click.option("--moved", is_flag=True, help="Also what was logged for a server at another address.")
@client_options
def sync_runs(moved: bool, *, client: Any, as_json: bool) -> None:
    """Send what processes that are gone have logged and could not send; 1 if something still waits."""
    found = load("everline.sdk.logging.recovery").recover(client, moved=moved)
    rows = [
        (one.run, one.sent, one.waiting, len(one.refused), one.error or "; ".join(r.message for r in one.refused))
        for one in found
    ]
    emit(
        found,
        as_json=as_json,
        human=lambda: table(
            rows, headers=("run", "sent", "waiting", "refused", "why"), empty="Nothing waits: the server has it all."
        ),
    )
    if any(one.waiting or one.error for one in found):
        click.get_current_context().exit(1)


def _show(found: Any) -> None:
    facts(
        [
            ("run", found.run),
            ("name", found.name),
            ("experiment", found.experiment),
            ("pipeline", found.pipeline),
            ("status", found.status.value),
            ("started", found.started_at),
            ("ended", found.ended_at),
            ("by", found.user),
            ("artifacts", found.artifact_uri),
            ("record", found.record),
            *((f"code {key}", value) for key, value in found.summary.items() if isinstance(value, (str, int, bool))),
        ]
    )
    for title, pairs in (("params", found.params), ("metrics", found.metrics), ("tags", found.tags)):
        if pairs:
            click.echo()
            table(sorted(pairs.items()), headers=(title, "value"), empty="")
    if found.inputs:
        click.echo()
        rows = [(item.name, item.version, item.context, item.digest) for item in found.inputs]
        table(rows, headers=("input", "version", "context", "digest"), empty="")
    if found.outputs:
        click.echo()
        table(
            [(item.name, item.kind, item.digest) for item in found.outputs],
            headers=("output", "kind", "digest"),
            empty="",
        )


def _metrics(metrics: dict[str, float | None]) -> str:
    shown = [f"{key}={'NaN' if value is None else f'{value:.4g}'}" for key, value in list(metrics.items())[:4]]
    return " ".join(shown) + (" …" if len(metrics) > 4 else "")


@command.command("cancel")
@click.argument("run")
@client_options
def cancel(run: str, client: Any, as_json: bool) -> int:
    """Stop a run of a pipeline at once, with all its processes, wherever it runs; what it kept stays kept."""
    found = client.pipelines.cancel(run)
    emit(found, as_json=as_json, human=lambda: click.echo(f"Run {run} is told to stop."))
    return 0


@command.command("logs")
@click.argument("run")
@click.argument("step")
@client_options
def logs(run: str, step: str, client: Any, as_json: bool) -> int:
    """Print what a step of a run printed."""
    text = client.pipelines.output(run, step)
    emit({"run": run, "step": step, "output": text}, as_json=as_json, human=lambda: click.echo(text, nl=False))
    return 0
