"""`everline users`: who exists, and whether they may act."""

from __future__ import annotations

import click

from everline.access.types import User
from everline.cli.output import client_options, emit, table
from everline.sdk.client import Client


@click.group("users")
def command() -> None:
    """Users and whether they may act."""


@command.command("create")
@click.argument("name")
@click.option("--full-name", default="", help="The person's name in full.")
@click.option("--password", help="At least 10 characters; without it the user acts only through tokens. `-` asks.")
@client_options
def create(client: Client, *, name: str, full_name: str, password: str | None, as_json: bool) -> None:
    """Create a user; give it a role with `everline roles grant`."""
    if password == "-":  # noqa: S105  (a dash asks for it)
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    user = client.access.create_user(name, full_name=full_name, password=password)
    emit(
        user,
        as_json=as_json,
        human=lambda: click.echo(f"Created user {name}. Next: everline roles grant {name} viewer"),
    )


@command.command("list")
@client_options
def list_users(client: Client, *, as_json: bool) -> None:
    """List users with their roles."""
    users = client.access.list_users()
    emit(users, as_json=as_json, human=lambda: show(users))


@command.command("lock")
@click.argument("name")
@client_options
def lock(client: Client, *, name: str, as_json: bool) -> None:
    """Lock a user out: tokens and sessions stop working at once."""
    user = client.access.set_active(name, active=False)
    emit(user, as_json=as_json, human=lambda: show([user]))


@command.command("unlock")
@click.argument("name")
@client_options
def unlock(client: Client, *, name: str, as_json: bool) -> None:
    """Let a user in again."""
    user = client.access.set_active(name, active=True)
    emit(user, as_json=as_json, human=lambda: show([user]))


def show(users: list[User]) -> None:
    """Print users as a table."""
    rows = [(u.name, u.full_name, roles_text(u), u.active, u.created_at) for u in users]
    table(
        rows, headers=["user", "name", "roles", "active", "created"], empty="No users yet: everline users create NAME"
    )


def roles_text(user: User) -> str:
    """A user's roles in one line."""
    return ", ".join(f"{'/'.join(roles)} in {project}" for project, roles in user.roles.items()) or "none"
