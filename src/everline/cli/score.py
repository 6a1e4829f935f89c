"""`everline score MODEL DATASET[@VERSION] --out NAME`: predictions for every row, checked against the online path."""

from __future__ import annotations

import click

from everline.cli.output import client_options, emit, facts
from everline.cli.progress import Progress
from everline.loader import load
from everline.pipelines.types import StepFailedError
from everline.sdk.client import Client


@click.command("score", help=__doc__)
@click.argument("model", metavar="MODEL[:VERSION|@ALIAS]")
@click.argument("data", metavar="DATASET[@VERSION]")
@click.option("--out", required=True, metavar="NAME", help="The dataset that gets the predictions as a new version.")
@click.option(
    "--keep", "keep", multiple=True, metavar="COLUMN",
    help="A column that goes along; repeat for more. [all that are no input of the model]",
)  # fmt: skip
@click.option(
    "--sample", type=click.IntRange(1, 100_000), default=1_000, show_default=True,
    help="Rows that are asked online too; all of them if there are no more.",
)  # fmt: skip
@click.option("--cache/--no-cache", default=True, help="Reuse kept results of earlier steps. [on]")
@click.option("--reason", default="", help="Why it was asked for; kept with the run.")
@client_options
def command(
    client: Client,
    as_json: bool,
    model: str,
    data: str,
    out: str,
    keep: tuple[str, ...],
    sample: int,
    cache: bool,
    reason: str,
) -> int:
    name, _, version = data.partition("@")
    try:
        result, scored = load("everline.sdk.scoring.batch").run(
            client, model, name, out=out, version=version or None, keep=list(keep) or None, sample=sample,
            cache=cache, reason=reason, watch=Progress(why=False),
        )  # fmt: skip
    except StepFailedError as error:
        click.secho(f"error: {error.message}", err=True, fg="red")
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
        if as_json:
            emit(error.result, as_json=True, human=lambda: None)
        return 1
    answer = {
        "dataset": scored.dataset, "version": scored.version, "digest": scored.digest, "rows": scored.rows,
        "checked": scored.checked, "model": scored.model, "model_version": scored.model_version, "run": result.run,
        "steps": result.steps,
    }  # fmt: skip

    def human() -> None:
        facts(
            [
                ("predictions", f"{scored.dataset}@{scored.version}"),
                ("rows", scored.rows),
                ("as online", f"{scored.checked} asked again, every bit the same"),
                ("model", f"{scored.model}/{scored.model_version}"),
                ("run", result.run),
                ("digest", scored.digest),
            ]
        )

    emit(answer, as_json=as_json, human=human)
    return 0
