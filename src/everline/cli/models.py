"""`everline models`: list, show, verify, export, package and card; aliases and their history; deletion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from everline.cli.output import client_options, emit, facts, table
from everline.clock import parse_rfc3339
from everline.errors import InvalidInputError
from everline.models.compiling.findings import runtimes_told


@click.group("models")
def command() -> None:
    """List, show, verify, export and package model versions; move aliases; delete."""


@command.command("list")
@click.option("--filter", "filter_text", default="", help="Such as \"name LIKE 'flight%'\".")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@client_options
def list_models(filter_text: str, limit: int, *, client: Any, as_json: bool) -> None:
    """List models."""
    found = client.models.list(filter=filter_text, limit=limit)
    rows = [
        (
            model.name,
            model.latest_version,
            " ".join(f"@{name}={number}" for name, number in model.aliases.items()),
            model.updated_at,
        )
        for model in found
    ]
    empty = "No models yet. Pipelines register them; so does `client.models.register`."
    emit(
        found,
        as_json=as_json,
        human=lambda: table(rows, headers=("model", "latest", "aliases", "changed"), empty=empty),
    )


@command.command("show")
@click.argument("model")
@click.argument("version", required=False)
@client_options
def show_model(model: str, version: str | None, *, client: Any, as_json: bool) -> None:
    """Show a model and its versions, or one version (a number, `latest` or `@alias`) with its lineage."""
    if version is None:
        versions = client.models.versions(model)
        found = client.models.model(model)
        rows = [(item.version, item.author_name, item.created_at, item.run, item.package) for item in versions]
        emit(
            {"model": found, "versions": versions},
            as_json=as_json,
            human=lambda: table(rows, headers=("version", "by", "at", "run", "package"), empty="No versions yet."),
        )
        return
    one = client.models.get(model, version)
    graph = client.models.lineage(model, one.version)
    found = {} if one.package is None else client.models.manifest(model, one.version).get("metadata", {})
    answer = {"version": one, "lineage": graph, "runtimes": found.get("runtimes")}
    emit(answer, as_json=as_json, human=lambda: _show(one, graph, runtimes_told(found)))


@command.command("verify")
@click.argument("model")
@click.argument("version", default="latest")
@client_options
def verify(model: str, version: str, *, client: Any, as_json: bool) -> int:
    """Hash every byte of a version again and check its signature; exits 1 if anything does not hold."""
    check = client.models.verify(model, version)

    def human() -> None:
        if check.verified:
            signed = f"signed by {check.key}" if check.key else "as registered; nobody signed them"
            click.secho(f"verified: {check.files} files, {check.bytes:,} bytes, {signed}", fg="green")
        else:
            click.secho(f"not verified: {check.problem}", fg="red")

    emit(check, as_json=as_json, human=human)
    return 0 if check.verified else 1


@command.command("export")
@click.argument("model")
@click.argument("version")
@click.argument("directory", type=click.Path(path_type=Path))
@client_options
def export(model: str, version: str, directory: Path, *, client: Any, as_json: bool) -> None:
    """Write a version's package to DIRECTORY, every file verified, its signature beside it."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InvalidInputError(
            f"{directory} exists and is not an empty directory.",
            hint="Name a directory that does not exist yet.",
            field="directory",
        )
    written = client.models.export(model, version, directory=directory)
    files = sorted(path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file())
    emit(
        {"directory": written.as_posix(), "files": files},
        as_json=as_json,
        human=lambda: click.echo(f"wrote {len(files)} files to {written}"),
    )


@command.command("package")
@click.argument("model")
@click.argument("version")
@click.option("--as", "into", metavar="NAME", help="Register the package under another model's name.")
@click.option(
    "--trust-pickle",
    is_flag=True,
    help="Load a pickle, here: it runs whatever its author put in there. The package is free of it.",
)
@client_options
def package(model: str, version: str, into: str | None, trust_pickle: bool, *, client: Any, as_json: bool) -> None:
    """Make a package of a VERSION that MLflow's client registered: the next version, which can be released."""
    made = client.models.package(model, version, into=into, trust_pickle=trust_pickle)

    def human() -> None:
        click.echo(f"{made.model} {made.version} is the package of {made.tags['everline.packaged_from']}")
        click.echo(f"  {made.package}")

    emit(made, as_json=as_json, human=human)


@command.command("alias")
@click.argument("model")
@click.argument("alias")
@click.option("--at", help="A moment, such as 2026-03-03T05:00:00Z; a date alone means its first moment in UTC.")
@client_options
def show_alias(model: str, alias: str, at: str | None, *, client: Any, as_json: bool) -> None:
    """Show where ALIAS points, or pointed at a moment, and every move that it made."""
    moment = None if at is None else parse_rfc3339(at, field="at")
    held = client.models.alias(model, alias, at=moment)
    moves = client.models.alias_moves(model, alias)
    shown = [(item.version, item.at, item.until, item.actor_name, item.release) for item in moves]

    def human() -> None:
        click.echo(f"{model} {held.version} since {held.at:%Y-%m-%d %H:%M:%S}, by {held.actor_name}\n")
        table(shown, headers=("version", "from", "until", "by", "release"), empty="")

    emit({"held": held, "moves": moves}, as_json=as_json, human=human)


@command.command("set-alias")
@click.argument("model")
@click.argument("alias")
@click.argument("version", type=int)
@client_options
def set_alias(model: str, alias: str, version: int, *, client: Any, as_json: bool) -> None:
    """Point ALIAS at VERSION; a name for people, which releases nothing."""
    client.models.set_alias(model, alias.removeprefix("@"), version)
    _show_where(client, model, alias, as_json=as_json)


@command.command("delete-alias")
@click.argument("model")
@click.argument("alias")
@client_options
def delete_alias(model: str, alias: str, *, client: Any, as_json: bool) -> None:
    """Remove ALIAS; its moves are kept."""
    client.models.delete_alias(model, alias)
    emit({"model": model, "alias": alias}, as_json=as_json, human=lambda: click.echo(f"{alias} is gone"))


@command.command("follow")
@click.argument("model")
@click.argument("alias")
@click.argument("endpoint")
@client_options
def follow(model: str, alias: str, endpoint: str, *, client: Any, as_json: bool) -> None:
    """Let ALIAS name what answers ENDPOINT, from now on; its releases move it, people do not."""
    found = client.models.follow(model, alias, endpoint=endpoint)
    number = found.aliases.get(alias.removeprefix("@"))
    where = "nothing yet" if number is None else f"{model} {number}"
    emit(found, as_json=as_json, human=lambda: click.echo(f"{alias} follows {endpoint}: {where}"))


@command.command("unfollow")
@click.argument("model")
@click.argument("alias")
@client_options
def unfollow(model: str, alias: str, *, client: Any, as_json: bool) -> None:
    """Free ALIAS: it stays where it points, and people move it again."""
    client.models.unfollow(model, alias)
    emit({"model": model, "alias": alias}, as_json=as_json, human=lambda: click.echo(f"{alias} is free"))


@command.command("delete")
@click.argument("model")
@click.argument("version", type=int, required=False)
@client_options
def delete(model: str, version: int | None, *, client: Any, as_json: bool) -> None:
    """Take MODEL, or one VERSION of it, off the shelf; refused while an endpoint needs it."""
    client.models.delete(model, version)
    what = model if version is None else f"{model} {version}"
    emit(
        {"model": model, "version": version},
        as_json=as_json,
        human=lambda: click.echo(f"{what} is off the shelf; its record and its files are kept"),
    )


@command.command("card")
@click.argument("model")
@click.argument("version", default="latest")
@click.option("--attach", is_flag=True, help="Also attach the card as evidence, so that policies see it.")
@client_options
def card(model: str, version: str, attach: bool, *, client: Any, as_json: bool) -> None:
    """Print the model card: Markdown with the Hugging Face hub's front matter, from recorded facts."""
    made = client.models.make_card(model, version) if attach else client.models.card(model, version)
    emit(made, as_json=as_json, human=lambda: click.echo(made.text))


def _show_where(client: Any, model: str, alias: str, *, as_json: bool) -> None:
    held = client.models.alias(model, alias)
    emit(held, as_json=as_json, human=lambda: click.echo(f"{alias} points at {model} {held.version}"))


def _show(one: Any, graph: Any, runtimes: str | None) -> None:
    facts(
        [
            ("model", one.model),
            ("version", one.version),
            ("uid", one.uid),
            ("package", one.package),
            ("contents", one.contents),
            ("signature", one.signature),
            ("runtimes", runtimes),
            ("run", one.run),
            ("by", one.author_name),
            ("at", one.created_at),
            ("aliases", " ".join(f"@{name}" for name in one.aliases) or None),
            ("source", one.source),
        ]
    )
    names = {node.id: f"{node.kind} {node.label}" for node in graph.nodes}
    if graph.edges:
        click.echo()
        table(
            [(names[edge.source], edge.label, names[edge.target]) for edge in graph.edges],
            headers=("from", "", "to"),
            empty="",
        )
