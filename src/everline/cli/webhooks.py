"""`everline webhooks`: who is told of what happens in the registry."""

from __future__ import annotations

import os
from typing import Any

import click

from everline.cli.output import client_options, emit, facts, table


@click.group("webhooks")
def command() -> None:
    """Tell other programs what happens in the registry."""


@command.command("create")
@click.argument("name")
@click.argument("address")
@click.option(
    "--event", "events", multiple=True, required=True, help="Such as model_version_alias.created; repeatable."
)
@click.option("--description", default="")
@click.option("--secret-env", help="Environment variable with the secret that signs deliveries.")
@client_options
def create(
    name: str,
    address: str,
    events: tuple[str, ...],
    description: str,
    secret_env: str | None,
    *,
    client: Any,
    as_json: bool,
) -> None:
    """Ask for ADDRESS, an https URL, to be told of events."""
    secret = _secret(secret_env) or ""
    made = client.webhooks.create(name, url=address, events=events, description=description, secret=secret)
    emit(made, as_json=as_json, human=lambda: click.echo(f"{made.webhook} is told of {', '.join(made.events)}"))


@command.command("list")
@client_options
def list_webhooks(*, client: Any, as_json: bool) -> None:
    """List the project's webhooks."""
    found = client.webhooks.list()
    rows = [(one.webhook, one.name, one.status, ", ".join(one.events), one.url) for one in found]
    headers = ("webhook", "name", "status", "events", "url")
    empty = "No webhooks yet: `everline webhooks create NAME ADDRESS --event model_version.created`."
    emit(found, as_json=as_json, human=lambda: table(rows, headers=headers, empty=empty))


@command.command("show")
@click.argument("webhook")
@client_options
def show(webhook: str, *, client: Any, as_json: bool) -> None:
    """Show a webhook and what became of its newest deliveries."""
    one, sent = client.webhooks.get(webhook), client.webhooks.deliveries(webhook, limit=20)

    def human() -> None:
        facts(
            [
                ("webhook", one.webhook),
                ("name", one.name),
                ("url", one.url),
                ("events", ", ".join(one.events)),
                ("status", one.status),
                ("signed", "yes" if one.signed else "no"),
                ("by", one.created_by_name),
                ("at", one.created_at),
            ]
        )
        click.echo()
        rows = [(item.delivery, item.event, item.status, item.attempts, item.answer, item.error) for item in sent]
        headers = ("delivery", "event", "status", "tries", "answer", "error")
        table(rows, headers=headers, empty="Nothing was delivered yet.")

    emit({"webhook": one, "deliveries": sent}, as_json=as_json, human=human)


@command.command("update")
@click.argument("webhook")
@click.option("--name")
@click.option("--address", help="The new address.")
@click.option("--event", "events", multiple=True, help="The events from now on; repeatable.")
@click.option("--status", type=click.Choice(["active", "disabled"]))
@click.option("--secret-env", help="Environment variable with the new secret; an empty one ends signing.")
@client_options
def update(webhook: str, secret_env: str | None, *, client: Any, as_json: bool, **given: Any) -> None:
    """Change a webhook; what is not given stays."""
    asked = {"name": given["name"], "url": given["address"], "status": given["status"], "secret": _secret(secret_env)}
    changes = {key: value for key, value in asked.items() if value is not None}
    if given["events"]:
        changes["events"] = list(given["events"])
    changed = client.webhooks.update(webhook, **changes)
    emit(changed, as_json=as_json, human=lambda: click.echo(f"{changed.name} is {changed.status}"))


@command.command("test")
@click.argument("webhook")
@click.option("--event", help="Which event to play; the webhook's first unless given.")
@client_options
def test(webhook: str, event: str | None, *, client: Any, as_json: bool) -> int:
    """Send an example now; exits 1 if the receiver does not take it."""
    done = client.webhooks.test(webhook, event=event)
    said = f"answered {done.status}" if done.status is not None else done.error
    emit(done, as_json=as_json, human=lambda: click.secho(said, fg="green" if done.success else "red"))
    return 0 if done.success else 1


@command.command("delete")
@click.argument("webhook")
@client_options
def delete(webhook: str, *, client: Any, as_json: bool) -> None:
    """Tell an address nothing any more."""
    client.webhooks.delete(webhook)
    emit({"deleted": webhook}, as_json=as_json, human=lambda: click.echo(f"{webhook} is told nothing any more"))


def _secret(variable: str | None) -> str | None:
    if variable is None:
        return None
    found = os.environ.get(variable)
    if found is None:
        raise click.UsageError(f"The environment has no variable {variable}.")
    return found
