"""`everline export RUN|MODEL|PREDICTION FILE`: all evidence in one file, for somebody who has only the public key."""

from __future__ import annotations

from pathlib import Path

import click

from everline.cli.output import client_options, emit, facts
from everline.sdk.client import Client


@click.command("export", help=__doc__)
@click.argument("target", metavar="RUN|MODEL|PREDICTION")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--data/--without-data", default=True, help="Of a run: whether its dataset versions go with it. [with]")
@client_options
def command(client: Client, as_json: bool, target: str, file: Path, data: bool) -> int:
    client.bundles.export(target, file, data=data)
    [key, *_] = client.audit.keys()
    answer = {"file": str(file), "bytes": file.stat().st_size, "key": key.public}

    def human() -> None:
        facts([("file", str(file)), ("bytes", answer["bytes"]), ("public key", key.public)])
        click.echo(f"Check it offline: everline verify {file} --key PUBLIC_KEY")

    emit(answer, as_json=as_json, human=human)
    return 0
