"""`everline verify FILE --key KEY`: check an evidence bundle offline; replay its prediction, or rebuild its run."""

from __future__ import annotations

from pathlib import Path

import click

from everline.bundles.types import BundleReport
from everline.cli.output import emit
from everline.cli.reproduce import show
from everline.governance.signing import VerifyKey
from everline.reproduction.types import Reproduction
from everline.sdk import bundles
from everline.sdk.reproduction import Where


@click.command("verify", help=__doc__)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--key", required=True, help="The public key that you trust: its text, or a file that holds it.")
@click.option(
    "--rebuild",
    is_flag=True,
    help="Of a run: do it again in an empty home, and compare every output. Runs the code that the key's owner signed.",
)
@click.option(
    "--environment",
    type=click.Choice([where.value for where in Where]),
    default=Where.AUTO.value,
    help="With --rebuild, where to run: as in `everline reproduce`.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def command(file: Path, key: str, rebuild: bool, environment: str, as_json: bool) -> int:
    trusted = VerifyKey.read(key)
    if rebuild:

        def watch(message: str) -> None:
            if not as_json:
                click.secho(f"… {message}", err=True, dim=True)

        again: Reproduction = bundles.rebuild(file, trusted, environment=Where(environment), watch=watch)
        emit(again, as_json=as_json, human=lambda: show(again))
        return 0 if again.level in ("L4", "L5", "L6") else 1
    report = bundles.verify(file, trusted)
    emit(report, as_json=as_json, human=lambda: _show(report))
    return 0 if report.verified else 1


def _show(report: BundleReport) -> None:
    level = f"{report.level}  " if report.level else ""
    if report.verified:
        click.secho(f"{level}verified: {report.subject}", fg="green", bold=True)
    else:
        click.secho(f"{level}NOT verified: {report.subject}", fg="red", bold=True)
    for one in report.findings:
        mark = click.style("✓", fg="green") if one.passed else click.style("✗", fg="red")
        click.echo(f"{mark} {one.name:<13} {one.detail}")
