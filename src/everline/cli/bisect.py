"""`everline bisect METRIC --from RUN --to RUN`: the first commit or dataset version that moved a metric."""

from __future__ import annotations

from pathlib import Path

import click

from everline.cli.output import client_options, emit, table
from everline.reproduction.explaining.types import Bisection, Probe
from everline.sdk.client import Client
from everline.sdk.explanations import TIMEOUT_S
from everline.sdk.reproduction import Where


@click.command("bisect", help=__doc__)
@click.argument("metric")
@click.option("--from", "before", required=True, metavar="RUN|MODEL", help="Where the metric was as it should be.")
@click.option("--to", "after", required=True, metavar="RUN|MODEL", help="Where it has moved.")
@click.option("--over", metavar="code|DATASET", help="Along which line, if both differ.")
@click.option(
    "--repository",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The project's folder in a clone with the commits. [.]",
)
@click.option(
    "--environment",
    type=click.Choice([where.value for where in Where]),
    default=Where.AUTO.value,
    help="Where to run: as in `everline reproduce`.",
)
@click.option("--timeout-s", type=click.FloatRange(min=1), default=TIMEOUT_S, help="Most seconds of one trial.")
@client_options
def command(
    client: Client,
    as_json: bool,
    metric: str,
    before: str,
    after: str,
    over: str | None,
    repository: Path | None,
    environment: str,
    timeout_s: float,
) -> int:
    def watch(message: str) -> None:
        if not as_json:
            click.secho(f"… {message}", err=True, dim=True)

    found: Bisection = client.explanations.bisect(
        metric,
        before,
        after,
        over=over,
        repository=repository,
        environment=Where(environment),
        timeout_s=timeout_s,
        watch=watch,
    )
    emit(found, as_json=as_json, human=lambda: _show(found))
    return 0 if found.first is not None else 1


def _show(found: Bisection) -> None:
    for probe in found.among:
        click.secho(f"{probe.name} {probe.title}".rstrip(), bold=True)
    click.echo(found.reason)
    click.echo()
    rows = [(_short(probe), probe.title, probe.value, _said(probe)) for probe in found.probes]
    table(rows, headers=("tried", "", found.metric, ""), empty="")
    click.echo(
        f"{len(found.probes)} of {found.candidates} tried along {found.over}; before them {found.before_value:.6g}"
    )


def _short(probe: Probe) -> str:
    return probe.name[:10] if len(probe.name) == 40 else probe.name


def _said(probe: Probe) -> str:
    if probe.moved is None:
        return probe.problem or "no value"
    return "moved" if probe.moved else "not yet"
