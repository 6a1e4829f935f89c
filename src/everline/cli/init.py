"""`everline init [DIR]`: a new project that runs, with pipeline, tests, policy, everline.toml and CI."""

from __future__ import annotations

from pathlib import Path

import click

from everline.cli.output import emit
from everline.cli.scaffold.writing import write_project


@click.command("init", help=__doc__)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--name", help="Of the model, endpoint and pipeline. [the directory's]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def command(directory: Path, name: str | None, as_json: bool) -> int:
    name, written = write_project(directory, name=name)

    def human() -> None:
        for path in written:
            click.echo(f"  {path}")
        click.secho(f"{name}: {len(written)} files in {directory}", bold=True)
        into = "" if directory == Path() else f"cd {directory} && "
        click.echo(f"Next: {into}git init && sh ci/check.sh")

    emit({"directory": str(directory), "name": name, "files": written}, as_json=as_json, human=human)
    return 0
