"""Questions that runs ask people: list and answer them."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from everline.cli.output import client_options, emit, facts, table
from everline.errors import InvalidInputError


@click.group("approvals", help=__doc__)
def command() -> None:
    pass


@command.command("list")
@click.option("--run", help="Of one run.")
@click.option("--all", "every", is_flag=True, help="Answered ones too.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@client_options
def list_(run: str | None, every: bool, limit: int, client: Any, as_json: bool) -> int:
    """List the questions that wait for an answer."""
    found = client.approvals.list(run=run, open_only=not every, limit=limit)

    def human() -> None:
        rows = [(a.run, a.step, a.role, _said(a), a.asked_by, a.asked_at, a.question) for a in found]
        headers = ("run", "step", "role", "answer", "asked by", "asked", "question")
        table(rows, headers=headers, empty="Nothing waits for an answer; `--all` shows the answered ones.")

    emit(found, as_json=as_json, human=human)
    return 0


@command.command("show")
@click.argument("run")
@click.argument("step", default="approval")
@client_options
def show(run: str, step: str, client: Any, as_json: bool) -> int:
    """Show a question with what its run wants to be seen."""
    found = next((a for a in client.approvals.list(run=run) if a.step == step), None)
    if found is None:
        raise InvalidInputError(f"Run {run} asks nothing at {step!r}.", hint="`everline approvals list --all`.")

    def human() -> None:
        facts(
            [
                ("question", found.question), ("role", found.role), ("answer", _said(found)),
                ("answered by", found.answered_by), ("reason", found.reason or None),
                ("asked by", found.asked_by), ("asked", found.asked_at), ("pipeline", found.pipeline),
            ]
        )  # fmt: skip
        click.echo(msgspec.json.format(msgspec.json.encode(found.shown), indent=2).decode())

    emit(found, as_json=as_json, human=human)
    return 0


@command.command("answer")
@click.argument("run")
@click.argument("step", default="approval")
@click.option("--yes/--no", "approved", required=True, default=None, help="What you say. An answer is final.")
@click.option("--reason", default="", help="Why; a no needs one.")
@client_options
def answer(run: str, step: str, approved: bool, reason: str, client: Any, as_json: bool) -> int:
    """Answer a question of a run, as somebody with the role that it asks for."""
    found = client.approvals.answer(run, step, approved=approved, reason=reason)

    def human() -> None:
        click.echo(f"{found.answered_by} said {_said(found)} to {step!r} of run {run}.")
        click.echo(f"A worker goes on with it, or you do: everline run --resume {run}")

    emit(found, as_json=as_json, human=human)
    return 0


def _said(record: Any) -> str:
    return {True: "yes", False: "no", None: "–"}[record.approved]
