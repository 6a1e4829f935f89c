"""`everline report --pr`: a candidate beside the champion, as Markdown; exits 1 if it may not be released."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from everline.cli.output import client_options, emit
from everline.loader import load
from everline.sdk.client import Client


@click.command("report", help=__doc__)
@click.option("--pr", is_flag=True, help="The report for a pull or merge request; the only kind there is.")
@click.option("--candidate", metavar="RUN|MODEL[:VERSION|@ALIAS]", help="[the newest run that registered a version]")
@click.option("--champion", metavar="MODEL[:VERSION|@ALIAS]", help="[what answers the endpoint now]")
@click.option("--endpoint", help="Where the candidate would go. [the endpoint of the model's name]")
@click.option("--data", metavar="DATASET[@VERSION]", help="Rows to compare on. [those the candidate was evaluated on]")
@click.option(
    "--metric", type=click.Choice(["log_loss", "error_rate", "auc"]), default="log_loss", show_default=True,
    help="The one that becomes evidence, and by which a worse candidate is refused.",
)  # fmt: skip
@click.option("--block", metavar="COLUMN", help="Rows that share its value, such as the day, depend on each other.")
@click.option("--slice", "slices", multiple=True, metavar="COLUMN", help="Compare by values of this column too.")
@click.option("--record/--no-record", default=True, help="Attach the comparison to the candidate as evidence. [on]")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False),
    help="Write the Markdown there, and plots as SVG beside it. [standard output]",
)  # fmt: skip
@client_options
def command(
    client: Client,
    as_json: bool,
    pr: bool,
    candidate: str | None,
    champion: str | None,
    endpoint: str | None,
    data: str | None,
    metric: str,
    block: str | None,
    slices: tuple[str, ...],
    record: bool,
    out: Path | None,
) -> int:
    if not pr:
        raise click.UsageError("Say which report: `everline report --pr`.")

    def watch(message: str) -> None:
        if not as_json:
            click.secho(f"… {message}", err=True, dim=True)

    report = load("everline.sdk.reporting").build(
        client, candidate=candidate, champion=champion, endpoint=endpoint, data=data, metric=metric, block=block,
        slices=slices, record=record, watch=watch,
    )  # fmt: skip
    files: list[str] = []
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        for ending, text in load("everline.sdk.report_plots").svg_files(report).items():
            name = f"{out.stem}-{ending}.svg"
            (out.parent / name).write_text(text, encoding="utf-8")
            files.append(name)
    text = load("everline.sdk.report_text").markdown(report, files=files)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    answer = msgspec.to_builtins(report)
    if out is not None:
        answer |= {"file": str(out), "plots": [str(out.parent / name) for name in files]}

    def human() -> None:
        if out is None:
            click.echo(text, nl=False)
            return
        click.echo(f"{out}: {'may be released' if report.passed else 'may NOT be released'}")
        for one in report.missed:
            click.secho(f"  missed: {one}", fg="red")

    emit(answer, as_json=as_json, human=human)
    return 0 if report.passed else 1
