"""`everline views`: looks at the table of runs that people gave a name."""

from __future__ import annotations

from typing import Any

import click

from everline.cli.output import client_options, emit, facts, table


@click.group("views")
def command() -> None:
    """List, show and delete saved views of the table of runs."""


@command.command("list")
@client_options
def list_views(*, client: Any, as_json: bool) -> None:
    """List your own views and those of the project."""
    found = client.views.list()
    rows = [(one.name, "everybody" if one.shared else "you", one.author, one.updated_at, one.query) for one in found]
    emit(
        found,
        as_json=as_json,
        human=lambda: table(
            rows,
            headers=("name", "for", "by", "saved", "query"),
            empty="No saved views. The page of runs in the console saves one.",
        ),
    )


@command.command("show")
@click.argument("view")
@client_options
def show_view(view: str, *, client: Any, as_json: bool) -> None:
    """Show one view by its name or uid."""
    found = client.views.get(view)
    emit(
        found,
        as_json=as_json,
        human=lambda: facts([
            ("view", found.view),
            ("name", found.name),
            ("for", "everybody" if found.shared else "you"),
            ("by", found.author),
            ("saved", found.updated_at),
            ("page", f"/runs?{found.query}"),
        ]),
    )  # fmt: skip


@command.command("delete")
@click.argument("view")
@client_options
def delete_view(view: str, *, client: Any, as_json: bool) -> None:
    """Delete one view by its name or uid."""
    client.views.delete(view)
    emit({"deleted": view}, as_json=as_json, human=lambda: click.echo(f"Deleted the view {view}."))
