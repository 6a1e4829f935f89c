"""`everline delivery`: what is declared, what drifted from it, and the history of plans and applications."""

from __future__ import annotations

from typing import Any

import click

from everline.cli.output import client_options, emit, facts, table
from everline.cli.plan import print_changes, print_preview
from everline.delivery.types import Drifted, Record, Stack, counted

_COLOURS = {"same": "green", "drifted": "yellow", "missing": "red", "hidden": None}


@click.group("delivery")
def command() -> None:
    """What everline.toml declared, what drifted from it, and the history of plans."""


@command.command("status")
@click.option("--stack", help="Only this stack.")
@client_options
def status(stack: str | None, *, client: Any, as_json: bool) -> int:
    """Compare what was declared last with what is; exits 1 if anything drifted."""
    found: list[Drifted] = client.delivery.drift(stack=stack)
    off = [one for one in found if one.state in ("drifted", "missing")]

    def human() -> None:
        for one in off:
            click.echo(f"{click.style(one.state.ljust(8), fg=_COLOURS[one.state])}{one.address}  ({one.stack})")
            if one.note:
                click.echo(f"    {one.note}")
            for field in one.fields:
                click.echo(f"    {field.field}: declared {field.after!r}, is {field.before!r}")
        click.echo(f"{len(found)} declared, {len(off)} not as declared")

    emit(found, as_json=as_json, human=human)
    return 1 if off else 0


@command.command("stacks")
@client_options
def stacks(*, client: Any, as_json: bool) -> None:
    """List the files that were applied."""
    found: list[Stack] = client.delivery.stacks()
    rows = [(one.name, one.path, one.things, one.serial, one.applied_at, one.applied_by) for one in found]
    headers = ("stack", "file", "things", "applied", "last", "by")
    emit(found, as_json=as_json, human=lambda: table(rows, headers=headers, empty="Nothing was applied yet."))


@command.command("history")
@click.option("--stack", help="Only this stack.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True)
@client_options
def history(stack: str | None, limit: int, *, client: Any, as_json: bool) -> None:
    """List plans and applications, the newest first."""
    found: list[Record] = client.delivery.history(stack=stack, limit=limit)
    rows = [(one.uid, one.what, one.stack, _counts(one), one.at, one.actor_name) for one in found]
    headers = ("record", "what", "stack", "changes", "at", "by")
    empty = "No plans yet: `everline plan`."
    emit(found, as_json=as_json, human=lambda: table(rows, headers=headers, empty=empty))


@command.command("show")
@click.argument("record")
@client_options
def show(record: str, *, client: Any, as_json: bool) -> None:
    """Show one plan or application with its changes."""
    found: Record = client.delivery.get(record)

    def human() -> None:
        facts(
            [
                (found.what, found.uid),
                ("stack", found.stack),
                ("file", f"{found.path}  {found.source_digest}"),
                ("at", found.at),
                ("by", found.actor_name),
                *([("applied", found.applied)] if found.applied else []),
            ]
        )
        click.echo()
        print_changes(found.changes)
        print_preview(found.preview)
        if found.problem is not None:
            click.secho(f"Could not be applied: {found.problem.message}", fg="red")

    emit(found, as_json=as_json, human=human)


@command.command("run")
@click.argument("pipeline")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Replaces a declared one; repeatable.")
@click.option("--reason", default="", help="Why; kept with the run.")
@client_options
def run(pipeline: str, params: tuple[str, ...], reason: str, *, client: Any, as_json: bool) -> None:
    """Leave a run of a declared PIPELINE to the next `everline worker`."""
    job = client.delivery.run(pipeline, params=dict(_param(one) for one in params), reason=reason)
    emit({"job": job}, as_json=as_json, human=lambda: click.echo(f"queued as {job}; `everline worker` runs it"))


def _param(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise click.UsageError(f"{text!r} is no parameter: write NAME=VALUE.")
    return name, value


def _counts(record: Record) -> str:
    return counted(record.counts) or "none"
