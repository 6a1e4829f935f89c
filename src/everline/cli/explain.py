"""`everline explain BEFORE AFTER`: what changed between two runs, and how much of a metric each part moved."""

from __future__ import annotations

from collections.abc import Sequence

import click

from everline.cli.output import client_options, emit, facts, table
from everline.reproduction.explaining.types import Component, Explanation, Finding, Method, Plan, Share
from everline.sdk.client import Client
from everline.sdk.explanations import SEEDS, TIMEOUT_S
from everline.sdk.reproduction import Where

_COLOURS = {Finding.EXPLAINED: "green", Finding.NO_CHANGE: "green", Finding.WITHIN_NOISE: "yellow"}
_BAR = 24


@click.command("explain", help=__doc__)
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@click.option("--metric", help="Which one; without it log_loss, auc, rmse or accuracy, whichever both have.")
@click.option("--quick", is_flag=True, help="Exchange one part after the other, once: fewest runs.")
@click.option(
    "--seeds", type=click.IntRange(1, 100), default=SEEDS, show_default=True, help="Over how many to average."
)
@click.option("--plan", "plan_only", is_flag=True, help="Only show what differs and what it would cost.")
@click.option("--anyway", is_flag=True, help="Split the change even if other seeds make as large a one.")
@click.option(
    "--environment",
    type=click.Choice([where.value for where in Where]),
    default=Where.AUTO.value,
    help="Where to run: as in `everline reproduce`.",
)
@click.option("--processes", type=click.IntRange(1, 256), help="Mixtures at the same time. [one for each core]")
@click.option("--timeout-s", type=click.FloatRange(min=1), default=TIMEOUT_S, help="Most seconds of one process.")
@client_options
def command(
    client: Client,
    as_json: bool,
    before: str,
    after: str,
    metric: str | None,
    quick: bool,
    seeds: int,
    plan_only: bool,
    anyway: bool,
    environment: str,
    processes: int | None,
    timeout_s: float,
) -> int:
    method = Method.QUICK if quick else Method.EXACT
    if plan_only:
        plan: Plan = client.explanations.plan(before, after, metric=metric, method=method, seeds=seeds)
        emit(plan, as_json=as_json, human=lambda: _show_plan(plan))
        return 0 if plan.finding is None else 1

    def planned(plan: Plan) -> None:
        if not as_json:
            _show_plan(plan, err=True)

    def watch(message: str) -> None:
        if not as_json:
            click.secho(f"… {message}", err=True, dim=True)

    found: Explanation = client.explanations.explain(
        before,
        after,
        metric=metric,
        method=method,
        seeds=seeds,
        anyway=anyway,
        environment=Where(environment),
        processes=processes,
        timeout_s=timeout_s,
        planned=planned,
        watch=watch,
    )
    emit(found, as_json=as_json, human=lambda: _show(found))
    return 0 if found.finding in _COLOURS else 1


def _show_plan(plan: Plan, *, err: bool = False) -> None:
    click.echo(_change(plan.metric, plan.before_value, plan.after_value), err=err)
    for one in plan.components:
        _show_component(one, err=err)
    if plan.problem is not None:
        click.secho(plan.problem, err=err, fg="red")
    elif plan.estimate is not None:
        seeds = f" with {len(plan.seeds)} seeds" if plan.seeds else ""
        click.secho(
            f"{plan.estimate.coalitions} mixtures{seeds}: at most {plan.estimate.executions} steps to run, "
            f"about {plan.estimate.seconds:.0f} s of work",
            err=err,
        )
    click.echo(err=err)


def _show_component(one: Component, *, err: bool) -> None:
    click.echo(f"{click.style(one.name, bold=True)}  {one.before} → {one.after}", err=err)
    for line in one.changes:
        click.secho(f"  {line}", err=err, dim=True)
    if one.idle is not None:
        click.secho(f"  cannot matter: {one.idle}", err=err, dim=True)


def _show(found: Explanation) -> None:
    click.secho(f"{found.finding}", fg=_COLOURS.get(found.finding, "red"), bold=True)
    click.echo(found.reason)
    click.echo()
    if found.shares:
        largest = max(abs(share.value) for share in found.shares)
        rows = [
            (" + ".join(s.components), f"{s.value:+.4g}", f"{s.low:+.4g} to {s.high:+.4g}", _bar(s.value, largest))
            for s in found.shares
        ]
        rows.append(("change", f"{found.change:+.4g}", "", ""))
        table(rows, headers=(found.metric, "share", "95 % interval", ""), empty="")
        _notes(found.shares)
        for pair in found.interactions:
            click.echo(
                f"{pair.first} and {pair.second} together do {pair.value:+.4g} beyond what each does alone "
                f"({pair.low:+.4g} to {pair.high:+.4g}); half of it is in each share"
            )
        click.echo()
    if found.noise is not None:
        click.echo(f"by the seed alone two runs differ by up to {found.noise:.4g} in 95 % of cases")
    failed = dict.fromkeys((one.taken, one.problem) for one in found.runs if one.problem is not None)
    for taken, problem in list(failed)[:5]:
        click.secho(f"did not run: {', '.join(taken) or 'the earlier run'}: {problem}", dim=True)
    facts([("before", found.before), ("after", found.after), ("method", found.method),
           ("mixtures run", len(found.runs)), ("certificate", found.certificate)])  # fmt: skip


def _notes(shares: Sequence[Share]) -> None:
    for share in shares:
        if share.together is not None:
            click.echo(f"{' + '.join(share.components)} could not be told apart: {share.together}")


def _bar(value: float, largest: float) -> str:
    length = round(_BAR * abs(value) / largest) if largest else 0
    return ("▇" * length) if value >= 0 else ("░" * length)


def _change(metric: str, before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return f"{metric}: not a number in both runs"
    return f"{metric}  {before:.6g} → {after:.6g}  ({after - before:+.4g})"
