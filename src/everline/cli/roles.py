"""`everline roles`: who may do what in a project."""

from __future__ import annotations

import click

from everline.access.types import PERMISSIONS_OF, Role
from everline.cli.output import client_options, emit, table
from everline.cli.users import show
from everline.sdk.client import Client

ROLE = click.Choice([role.value for role in Role])


@click.group("roles")
def command() -> None:
    """Roles in projects."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def list_roles(*, as_json: bool) -> None:
    """List the roles and what each may do."""
    rows = [(role.value, ", ".join(sorted(PERMISSIONS_OF[role]))) for role in Role]
    value = [{"role": role, "permissions": permissions.split(", ")} for role, permissions in rows]
    emit(value, as_json=as_json, human=lambda: table(rows, headers=["role", "may"], empty=""))


@command.command("grant")
@click.argument("user")
@click.argument("role", type=ROLE)
@click.option("--everywhere", is_flag=True, help="In all projects instead of the one of --project.")
@client_options
def grant(client: Client, *, user: str, role: str, everywhere: bool, as_json: bool) -> None:
    """Give a user a role."""
    changed = client.access.grant_role(user, role=role, project="*" if everywhere else None)
    emit(changed, as_json=as_json, human=lambda: show([changed]))


@command.command("revoke")
@click.argument("user")
@click.argument("role", type=ROLE)
@click.option("--everywhere", is_flag=True, help="The grant for all projects instead of the one of --project.")
@client_options
def revoke(client: Client, *, user: str, role: str, everywhere: bool, as_json: bool) -> None:
    """Take a role from a user."""
    changed = client.access.revoke_role(user, role=role, project="*" if everywhere else None)
    emit(changed, as_json=as_json, human=lambda: show([changed]))
