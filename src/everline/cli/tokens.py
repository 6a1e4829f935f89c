"""`everline tokens`: API tokens."""

from __future__ import annotations

import click

from everline.cli.output import client_options, emit, table
from everline.sdk.client import Client


@click.group("tokens")
def command() -> None:
    """API tokens."""


@command.command("create")
@click.argument("user")
@click.option("--name", default="token", show_default=True, help="What the token is for.")
@click.option("--days", type=int, default=90, show_default=True, help="How long it lives; 0 never ends.")
@client_options
def create(client: Client, *, user: str, name: str, days: int, as_json: bool) -> None:
    """Make a token; its secret is shown this once."""
    made = client.access.create_token(user, name=name, days=days or None)

    def human() -> None:
        click.echo(made.secret)
        click.echo(f"This is {user}'s token; it is not shown again. Use it: export EVERLINE_TOKEN=…", err=True)

    emit(made, as_json=as_json, human=human)


@command.command("list")
@click.argument("user")
@client_options
def list_tokens(client: Client, *, user: str, as_json: bool) -> None:
    """List a user's tokens, without their secrets."""
    tokens = client.access.list_tokens(user)
    rows = [(t.uid, t.name, t.prefix + "…", t.created_at, t.expires_at, t.revoked_at) for t in tokens]
    headers = ["token", "name", "begins", "created", "expires", "revoked"]
    empty = f"No tokens yet: everline tokens create {user}"
    emit(tokens, as_json=as_json, human=lambda: table(rows, headers=headers, empty=empty))


@command.command("revoke")
@click.argument("uid")
@client_options
def revoke(client: Client, *, uid: str, as_json: bool) -> None:
    """End a token now."""
    client.access.revoke_token(uid)
    emit({"revoked": uid}, as_json=as_json, human=lambda: click.echo(f"Revoked {uid}."))
