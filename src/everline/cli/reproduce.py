"""`everline reproduce RUN|MODEL`: rebuild and compare."""

from __future__ import annotations

from pathlib import Path

import click

from everline.cli.output import client_options, emit, facts, table
from everline.errors import InvalidInputError
from everline.reproduction.types import REPEATS_MAX, Determinism, Reproduction, Verdict
from everline.sdk.client import Client
from everline.sdk.pipeline_commands import Changes
from everline.sdk.reproduction import Where

_COLOURS = {Verdict.IDENTICAL: "green", Verdict.EQUIVALENT: "yellow"}
_MARKS = {"bits": "=", "tolerance": "≈", "no": "≠", "missing": "?"}


@click.command("reproduce", help=__doc__)
@click.argument("target", metavar="RUN|MODEL")
@click.option(
    "--param", "params", multiple=True, metavar="NAME=VALUE", help="Change a parameter, and see what follows."
)
@click.option("--seed", type=int, help="Change the seed.")
@click.option("--data", "data", multiple=True, metavar="NAME=VERSION[,VERSION]", help="Take other dataset versions.")
@click.option("--code", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Replace recorded files.")
@click.option(
    "--environment",
    type=click.Choice([where.value for where in Where]),
    default=Where.AUTO.value,
    help="Where to run: here, in a fresh one made from the record, or (auto) here if it is as recorded.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGS…]")
@click.option(
    "--repository",
    metavar="PATH|URL",
    help="A clone or an address that has the commit of a run that the MLflow client made. [what is here]",
)
@click.option(
    "--repeats",
    type=click.IntRange(0, REPEATS_MAX),
    default=0,
    metavar="N",
    help="Where results differ, repeat N times with other seeds, at least 3, and hold the numbers against their band.",
)
@click.option(
    "--check-determinism",
    is_flag=True,
    help="Repeat with another hash seed, number of threads and order of files, and name the step that minds.",
)
@click.option("--timeout-s", type=click.FloatRange(min=1), default=24 * 3600.0, help="Most seconds of one rebuild.")
@client_options
def command(
    client: Client,
    as_json: bool,
    target: str,
    params: tuple[str, ...],
    seed: int | None,
    data: tuple[str, ...],
    code: Path | None,
    arguments: tuple[str, ...],
    environment: str,
    repository: str | None,
    repeats: int,
    check_determinism: bool,
    timeout_s: float,
) -> int:
    def watch(message: str) -> None:
        if not as_json:
            click.secho(f"… {message}", err=True, dim=True)

    if check_determinism:
        if params or data or code or arguments or seed is not None:
            raise InvalidInputError(
                "--check-determinism repeats a run as recorded: --param, --seed, --data, --code and arguments do not "
                "go with it.",
                field="--check-determinism",
            )
        checked = client.reproduction.check_determinism(
            target, environment=Where(environment), timeout_s=timeout_s, watch=watch
        )
        emit(checked, as_json=as_json, human=lambda: _show_determinism(checked))
        return 0 if checked.deterministic else 1
    changes = Changes(params=_pairs(params, "--param"), seed=seed, data=_pairs(data, "--data"), code=code)
    report: Reproduction = client.reproduction.reproduce(
        target,
        changes=changes,
        environment=Where(environment),
        repository=repository,
        arguments=arguments or None,
        repeats=repeats,
        timeout_s=timeout_s,
        watch=watch,
    )
    emit(report, as_json=as_json, human=lambda: show(report))
    enough = ("L4", "L5", "L6", *(("L3",) if repeats else ()))
    return 0 if report.level in enough or report.verdict is Verdict.IDENTICAL else 1


def show(report: Reproduction) -> None:
    """Print how far a rebuild came."""
    level = report.level or "no level"
    click.secho(f"{level}  {report.verdict}", fg=_COLOURS.get(report.verdict, "red"), bold=True)
    click.echo(report.reason)
    click.echo()
    rows = [
        (s.name, f"{_MARKS[s.equal]} {s.equal}", s.difference, ", ".join(d[:19] for d in s.recorded))
        for s in report.steps
    ]
    if rows:
        what = "result" if any(" " in step.name for step in report.steps) else "step"
        table(rows, headers=(what, "equal", "largest difference", "recorded digest"), empty="")
        click.echo()
    bands = [
        (b.name, _number(b.recorded), f"{_number(b.low)} … {_number(b.high)}", "inside" if b.inside else "outside")
        for b in report.bands
    ]
    if bands:
        table(bands, headers=("number", "recorded", f"band of {len(report.repeats)} repeats", ""), empty="")
        click.echo()
    facts([(f"{c.level} {'earned' if c.earned else '–'}", c.reason) for c in report.checks])
    facts(
        [
            ("not recorded", "; ".join(report.not_recorded) or None),
            ("run", report.run),
            ("rebuilt as", ", ".join(report.rebuilds) or None),
            ("certificate", report.certificate),
        ]
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _show_determinism(checked: Determinism) -> None:
    click.secho("deterministic" if checked.deterministic else "not deterministic", bold=True,
                fg="green" if checked.deterministic else "red")  # fmt: skip
    click.echo(checked.reason)
    click.echo()
    rows = [
        (one.changed, one.what, "= bits" if one.equal else "≠ no", one.step or (one.detail or "")[:80])
        for one in checked.variations
    ]
    if rows:
        table(rows, headers=("changed", "from → to", "equal", "first step that differs"), empty="")


def _pairs(items: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise InvalidInputError(f"{option} {item!r} is not of the form NAME=VALUE.", field=option)
        pairs[name] = value
    return pairs
