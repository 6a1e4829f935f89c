"""`everline backtest CANDIDATE --endpoint E`: what a model version would have answered to logged traffic."""

from __future__ import annotations

import click

from everline.cli.output import client_options, emit, facts, table
from everline.clock import parse_rfc3339
from everline.reproduction.backtests.types import BacktestReport
from everline.sdk.backtests import ROWS
from everline.sdk.client import Client

_COLOURS = {"better": "green", "worse": "red"}


@click.command("backtest", help=__doc__)
@click.argument("candidate", metavar="MODEL")
@click.option("--endpoint", required=True, help="Whose logged predictions to ask again.")
@click.option("--since", help="From this time on, such as 2013-06-01T00:00:00Z.")
@click.option("--until", help="Before this time.")
@click.option("--limit", type=click.IntRange(1, 200_000), default=ROWS, show_default=True, help="The newest so many.")
@click.option(
    "--metric", type=click.Choice(["log_loss", "error_rate", "auc"]), default="log_loss", show_default=True,
    help="To compare by, where outcomes are known.",
)  # fmt: skip
@click.option("--slice", "slices", multiple=True, metavar="INPUT", help="Compare by values of this input too.")
@click.option("--independent-rows", is_flag=True, help="Take rows of one day as independent.")
@click.option("--flips", type=click.IntRange(0, 1_000), default=10, show_default=True, help="How many flips to show.")
@client_options
def command(
    client: Client,
    as_json: bool,
    candidate: str,
    endpoint: str,
    since: str | None,
    until: str | None,
    limit: int,
    metric: str,
    slices: tuple[str, ...],
    independent_rows: bool,
    flips: int,
) -> int:
    def watch(message: str) -> None:
        if not as_json:
            click.secho(f"… {message}", err=True, dim=True)

    report: BacktestReport = client.backtests.run(
        candidate,
        endpoint=endpoint,
        since=parse_rfc3339(since, field="--since") if since else None,
        until=parse_rfc3339(until, field="--until") if until else None,
        limit=limit,
        metric=metric,
        slices=slices,
        by_day=not independent_rows,
        watch=watch,
    )
    emit(report, as_json=as_json, human=lambda: _show(report, flips))
    return 1 if report.comparison is not None and report.comparison.verdict == "worse" else 0


def _show(report: BacktestReport, flips: int) -> None:
    given = ", ".join(f"{name} ({count:,})" for name, count in report.answered_by.items())
    click.secho(f"{report.model}/{report.version} on {report.n:,} predictions of {report.endpoint}", bold=True)
    click.echo(f"answered by {given}")
    if report.refused:
        click.secho(f"{report.refused} could not be asked: {report.why_refused}", fg="yellow")
    click.echo()
    if report.flipped_low is not None and report.flipped_high is not None:
        click.echo(
            f"{report.flipped:,} get another label: {report.flipped / report.n:.2%} "
            f"({report.flipped_low:.2%} to {report.flipped_high:.2%})"
        )
    rows = [(f"{c.before} → {c.after}", c.count, c.known, c.right, c.wrong) for c in report.counts]
    if rows:
        table(rows, headers=("label", "flips", "outcome known", "candidate right", "answer was right"), empty="")
    if report.mcnemar_p is not None:
        p = "< 1e-12" if report.mcnemar_p < 1e-12 else f"= {report.mcnemar_p:.3g}"
        click.echo(f"exact McNemar test of the labels: p {p}")
    for one in report.shifts:
        click.echo(
            f"{one.output} moves by {one.mean:+.4g} ({one.low:+.4g} to {one.high:+.4g}), at most {one.largest:.4g}"
        )
    click.echo()
    _show_comparison(report)
    told = report.flips[:flips]
    if told:
        click.echo()
        table(
            [
                (f.prediction, f"{f.before} → {f.after}", f.probability_before, f.probability_after, f.outcome)
                for f in told
            ],
            headers=("prediction", "label", "before", "candidate", "outcome"),
            empty="",
        )
    facts([("certificate", report.certificate)])


def _show_comparison(report: BacktestReport) -> None:
    found = report.comparison
    if found is None:
        click.echo(f"not compared: {report.why_no_comparison}")
        return
    click.secho(found.verdict, fg=_COLOURS.get(found.verdict, "yellow"), bold=True)
    click.echo(
        f"{found.metric} on the {found.n:,} with an outcome: {found.champion_value:.4f} → "
        f"{found.challenger_value:.4f}, difference {found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
    )
    click.secho(found.method, dim=True)
    rows = [(f"{s.by} = {s.value}", s.n, f"{s.difference:+.4f}", f"{s.low:+.4f} to {s.high:+.4f}", s.verdict)
            for s in report.slices]  # fmt: skip
    if rows:
        table(rows, headers=("slice", "rows", "difference", "simultaneous interval", "verdict"), empty="")
