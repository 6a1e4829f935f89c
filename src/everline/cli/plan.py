"""`everline plan`: what applying everline.toml would change."""

from __future__ import annotations

import difflib
from collections import Counter
from pathlib import Path
from typing import Any

import click
import msgspec

from everline.cli.output import client_options, emit
from everline.delivery.types import Action, Change, FieldChange, Plan, Preview, counted

_MARKS = {
    Action.CREATE: ("+", "green"),
    Action.CHANGE: ("~", "yellow"),
    Action.ADOPT: ("=", "cyan"),
    Action.REMOVE: ("-", "red"),
    Action.FORGET: ("·", "cyan"),
}
_TEXT_CHARACTERS_MAX = 160
_OUTCOMES = {"pass": "green", "fail": "red", "unknown": "yellow", "none": None}


@click.command("plan")
@click.option("--file", "-f", type=click.Path(path_type=Path), default="everline.toml", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the plan to a file, for `everline apply PLAN`.")
@click.option("--exit-code", is_flag=True, help="Exit 1 if there is anything to do, for CI that looks for drift.")
@click.option("--no-keep", is_flag=True, help="Do not enter the plan in the history.")
@client_options
def command(file: Path, *, out: Path | None, exit_code: bool, no_keep: bool, client: Any, as_json: bool) -> int:
    """Show what applying everline.toml would change, and what its policies would block; nothing is changed.

    Exits 0 whatever the plan says, unless it cannot be applied (1); with --exit-code also 1 if there is anything to do.
    """
    plan: Plan = client.delivery.plan(file, keep=not no_keep)
    if out is not None:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n")
    emit(plan, as_json=as_json, human=lambda: print_plan(plan))
    if out is not None and not as_json:
        click.echo(f"Written to {out}: `everline apply {out}` does exactly this.")
    refused = plan.problem is not None
    return 1 if refused or (exit_code and plan.changes) else 0


def print_plan(plan: Plan) -> None:
    """Print a plan for people."""
    if not plan.changes:
        click.echo(
            f"Nothing to do: all {plan.unchanged} things of stack {plan.stack} are as {plan.path} declares them."
        )
        return
    print_changes(plan.changes)
    print_preview(plan.preview)
    click.echo(summary(plan.changes, plan.unchanged))
    for name in plan.variables:
        click.secho(f"${name} is not set here; it is taken to hold what it held.", fg="yellow")
    if plan.missing:
        click.secho(f"You may not apply this: it needs {', '.join(plan.missing)}.", fg="yellow")
    if plan.problem is not None:
        click.secho(f"This plan cannot be applied: {plan.problem.message}", fg="red")
        if plan.problem.hint:
            click.echo(f"  {plan.problem.hint}")


def print_changes(changes: list[Change]) -> None:
    """Print changes, each with its fields, old and new."""
    for change in changes:
        mark, colour = _MARKS[change.action]
        about = f"  ({change.origin})" if change.origin else ""
        click.echo(f"{click.style(mark, fg=colour, bold=True)} {change.address}{about}")
        if change.note:
            click.echo(f"    {change.note}")
        for field in change.fields:
            _print_field(field, created=change.action is Action.CREATE)


def print_preview(previews: list[Preview]) -> None:
    """Print what changed policies say of live versions and open releases."""
    if not previews:
        return
    click.secho("Policy preview", bold=True)
    for one in previews:
        after = click.style(one.after, fg=_OUTCOMES.get(one.after))
        what = "live" if one.subject == "live" else f"release {one.release}"
        blocked = click.style("  would be blocked", fg="red", bold=True) if one.blocks else ""
        click.echo(f"  {one.policy}: {one.version} at {one.endpoint} ({what}): {one.before} → {after}{blocked}")
        for reason in one.reasons if one.after != "none" else []:
            click.echo(f"      {reason}")


def summary(changes: list[Change], unchanged: int | None = None) -> str:
    """How many of what, in one line."""
    parts = [counted(Counter(change.action.value for change in changes))]
    if unchanged is not None:
        parts.append(f"{unchanged} unchanged")
    return ", ".join(parts)


def _print_field(field: FieldChange, *, created: bool) -> None:
    before, after = field.before, field.after
    if isinstance(after, str) and "\n" in after:
        old = before.splitlines() if isinstance(before, str) else []
        if created:
            click.echo(f"    {field.field} = {len(after.splitlines())} lines")
            return
        click.echo(f"    {field.field}:")
        for line in list(difflib.unified_diff(old, after.splitlines(), lineterm="", n=1))[2:]:
            click.secho(f"      {line}", fg={"+": "green", "-": "red"}.get(line[:1]))
    elif created:
        click.echo(f"    {field.field} = {_value(after)}")
    else:
        click.echo(f"    {field.field}: {_value(before)} → {_value(after)}")


def _value(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _TEXT_CHARACTERS_MAX else text[: _TEXT_CHARACTERS_MAX - 1] + "…"
