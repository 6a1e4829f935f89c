"""`everline run MODULE:PIPELINE`: run a pipeline here, with everything recorded."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from everline.cli.output import client_options, emit
from everline.cli.progress import Progress
from everline.errors import InvalidInputError
from everline.loader import load
from everline.pipelines.types import PipelineResult, RunEndedError, RunWaitingError


@click.command("run", help=__doc__)
@click.argument("pipeline", required=False)
@click.option(
    "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter of the pipeline; repeat for more."
)
@click.option("--on", metavar="WHERE", help="inline, local, local:N (processes), ray or ray://HOST:PORT. [local]")
@click.option("--seed", type=int, help="Value for the pipeline's parameter `seed`.")
@click.option(
    "--data", "data", multiple=True, metavar="NAME=VERSION[,VERSION]", help="Take these dataset versions instead."
)
@click.option("--cache/--no-cache", default=True, help="Reuse kept results of earlier steps. [on]")
@click.option("--why", is_flag=True, help="Say for each step why it ran, or that nothing changed.")
@click.option("--resume", metavar="RUN", help="Go on with a run that stopped: what it did is not done again.")
@click.option("--wait/--no-wait", default=False, help="Stay until people have answered. [off: the run goes on later]")
@click.option("--logs/--no-logs", default=True, help="Show what steps print. [on]")
@click.option("--reproduces", metavar="RUN", help="Rebuild this run: leave out steps with effects.")
@click.option("--reason", default="", help="Why the run was started; kept with it.")
@click.option(
    "--directory", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of the module. [.]"
)
@click.option(
    "--vary",
    type=click.Choice(("nothing", "threads", "files")),
    hidden=True,
    help="See `everline reproduce --check-determinism`.",
)
@client_options
def command(
    pipeline: str | None,
    params: tuple[str, ...],
    on: str | None,
    seed: int | None,
    data: tuple[str, ...],
    cache: bool,
    why: bool,
    resume: str | None,
    wait: bool,
    logs: bool,
    reproduces: str | None,
    reason: str,
    directory: Path | None,
    vary: str | None,
    client: Any,
    as_json: bool,
) -> int:
    if vary == "files":
        load("everline.reproduction.determinism").reverse_files()
        on = "inline"  # it is this process that lists files the other way round
    overrides = {name: value.split(",") for name, value in _pairs(data, "--data")}
    watch = Progress(why=why)  # on standard error: JSON stays alone on standard output
    try:
        result = client.pipelines.run(
            pipeline, params=dict(_pairs(params, "--param")), on=on, cache=cache, seed=seed, data=overrides,
            reproduces=reproduces, resume=resume, reason=reason, directory=directory, argv=sys.argv[1:],
            vary=vary, patient=wait, watch=watch, printed=watch.printed if logs else lambda name, data: None,
        )  # fmt: skip
    except RunWaitingError as error:
        watch.close()
        click.secho(error.message, err=True, fg="yellow")
        click.echo(f"  {error.hint}", err=True)
        if as_json:
            emit(error.result, as_json=True, human=lambda: None)
        return 0
    except RunEndedError as error:
        watch.close()
        click.secho(f"error: {error.message}", err=True, fg="red")
        click.echo(f"  {error.hint}", err=True)
        if as_json:
            emit(error.result, as_json=True, human=lambda: None)
        return 1
    watch.close()
    emit(result, as_json=as_json, human=lambda: _show(result))
    return 0


def _show(result: PipelineResult) -> None:
    cached = sum(step.cached for step in result.steps)
    click.echo(
        f"run {result.run} {result.status} in {result.seconds:.2f} s; {cached} of {len(result.steps)} steps cached"
    )
    if isinstance(result.value, dict) and "model" in result.value:
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in result.value["metrics"].items())
        click.echo(f"model {result.value['model']} version {result.value['version']}: {metrics}")


def _pairs(items: Iterable[str], option: str) -> list[tuple[str, str]]:
    pairs = []
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise InvalidInputError(f"{option} {item!r} is not of the form NAME=VALUE.", field=option)
        pairs.append((name, value))
    return pairs
