"""`everline apply`: make everything as everline.toml declares it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from everline.cli.output import client_options, emit
from everline.cli.plan import print_plan, summary
from everline.delivery.types import Plan
from everline.errors import InvalidInputError

_PLAN_BYTES_MAX = 64 << 20


@click.command("apply")
@click.argument("plan_file", metavar="[PLAN]", type=click.Path(path_type=Path), required=False)
@click.option("--file", "-f", type=click.Path(path_type=Path), default="everline.toml", show_default=True)
@click.option("--yes", is_flag=True, help="Do not ask; a terminal is asked otherwise.")
@client_options
def command(file: Path, *, plan_file: Path | None, yes: bool, client: Any, as_json: bool) -> int:
    """Make everything as everline.toml declares it, in one transaction: all of it or nothing.

    With PLAN, a file from `everline plan --out`, exactly what it says is done, or nothing if something moved since.
    Without, the plan is made, shown, and done. Exits 0 also when there was nothing to do, and 1 when it cannot be done.
    """
    plan: Plan = client.delivery.plan(file, keep=False) if plan_file is None else _read(plan_file)
    if plan_file is None:
        if not as_json:
            print_plan(plan)
        if plan.problem is not None:
            emit(plan, as_json=as_json, human=lambda: None)
            return 1
        if plan.changes and not yes and not as_json and sys.stdin.isatty():
            click.confirm("Apply this?", abort=True)
    record = client.delivery.apply(file, plan=plan)

    def human() -> None:
        if record is None:
            if plan_file is not None:
                click.echo("Nothing to do: everything is as declared.")
            return
        click.secho(f"Applied: {summary(record.changes)}.", fg="green")
        click.echo(f"  {record.uid}; `everline delivery show {record.uid}`")

    emit({"record": record}, as_json=as_json, human=human)
    return 0


def _read(path: Path) -> Plan:
    try:
        with path.open("rb") as file:
            content = file.read(_PLAN_BYTES_MAX + 1)
        return msgspec.json.decode(content, type=Plan)
    except OSError as error:
        raise InvalidInputError(f"The plan {path} cannot be read: {error}.", field="plan") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"{path} is no plan: {error}.", hint="`everline plan --out FILE` writes one.", field="plan"
        ) from None
