"""`everline projects`: the units of isolation and access."""

from __future__ import annotations

import click

from everline.cli.output import client_options, emit, table
from everline.sdk.client import Client


@click.group("projects")
def command() -> None:
    """Projects."""


@command.command("create")
@click.argument("name")
@click.option("--description", default="", help="What it is for.")
@client_options
def create(client: Client, *, name: str, description: str, as_json: bool) -> None:
    """Create a project."""
    made = client.access.create_project(name, description=description)
    emit(made, as_json=as_json, human=lambda: click.echo(f"Created project {name}."))


@command.command("list")
@client_options
def list_projects(client: Client, *, as_json: bool) -> None:
    """List the projects that you have a role in."""
    projects = client.access.list_projects()
    rows = [(p.name, p.description, p.created_at) for p in projects]
    headers = ["project", "description", "created"]
    emit(projects, as_json=as_json, human=lambda: table(rows, headers=headers, empty="You have a role in no project."))
