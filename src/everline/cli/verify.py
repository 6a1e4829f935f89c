"""`everline verify FILE --key KEY`: check an evidence bundle offline; replay its prediction, or rebuild its run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from everline.bundles.types import BundleReport
from everline.cli.output import emit, facts
from everline.cli.reproduce import show
from everline.governance.signing import VerifyKey
from everline.releases.types import Release
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
    if report.verified and report.facts is not None and report.facts.release is not None:
        click.echo()
        facts(_answers(report.facts.release, report.facts.evidence))


def _answers(told: dict[str, Any], evidence: Sequence[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Which model, who made it, who let it in, on what tests: what an examiner asks first."""
    release = msgspec.convert(told, Release)
    check = release.check
    known = [item for item in evidence if check and item["digest"] in {one.digest for one in check.evidence}]
    tests = [
        (f"test {item['kind']}", f"by {item['actor_name']} {item['at'][:19]}  {_figures(item['body'])}")
        for item in known
        if item["kind"] in ("evaluation", "fairness", "comparison", "validation")
    ]
    allowed = [
        (f"{one.decision} by", f"{one.person_name} as {one.meaning}, {one.at:%Y-%m-%d %H:%M:%S}  {one.reason}")
        for one in release.approvals
    ]
    aside = [("waived", f"{one.policy}/{one.rule} by {one.person_name}: {one.reason}") for one in release.waivers]
    judged = [
        (f"policy {one.policy}", f"{one.outcome.value}, {len(one.rules)} rules, version {one.version}, {one.digest}")
        for one in (check.verdicts if check else [])
    ]
    return [
        ("model", f"{release.model}/{release.version}, {release.package}"),
        ("made by", release.author_name),
        ("for endpoint", release.endpoint),
        *allowed,
        *aside,
        *judged,
        *tests,
    ]


def _figures(body: dict[str, Any]) -> str:
    """The numbers of a piece of evidence, in one line."""
    if "gaps" in body:
        return "; ".join(
            f"{gap['attribute']}: selection ratio {gap['selection_ratio']:.3f}, parity gap "
            f"{gap['demographic_parity']:.3f}" for gap in body["gaps"]
        )  # fmt: skip
    numbers = body.get("metrics", body)
    shown = [f"{name} {value:.4g}" for name, value in numbers.items() if isinstance(value, float)]
    return ", ".join(shown) + (f" on {body['n']} rows" if body.get("n") else "")
