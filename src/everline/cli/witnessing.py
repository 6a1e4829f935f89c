"""`everline audit witness`, `cosign` and `tiles`: the log before other people's eyes."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from everline.cli.listening import listen
from everline.cli.output import client_options, emit, facts
from everline.clock import SystemClock
from everline.errors import InvalidInputError
from everline.governance.signing import SigningKey, VerifyKey
from everline.governance.tree.cosignature import WitnessKey
from everline.loader import load

if TYPE_CHECKING:
    from everline.sdk.client import Client


@click.command("witness")
@click.option("--home", type=click.Path(path_type=Path), required=True, help="Folder for its key and what it saw.")
@click.option("--log", "logs", multiple=True, required=True, help="The public key of a log: its text or its file.")
@click.option("--name", default="witness", show_default=True, help="Its name, such as witness.example/w1.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=7171, show_default=True, type=click.IntRange(0, 65535), help="0 for a free one.")
def witness(home: Path, logs: tuple[str, ...], name: str, host: str, port: int) -> int:
    """Run a witness: it cosigns what continues the logs that it knows, and nothing else (C2SP tlog-witness).

    Let somebody run it who does not run the server.
    """
    key = SigningKey.load_or_create(home.absolute() / "witness.key", name=name)
    keys = [VerifyKey.read(text) for text in logs]
    law = load("everline.governance.witness").Witness(home / "logs", key, keys, clock=SystemClock())
    listener = listen(host, port)
    address = listener.getsockname()
    click.echo(f"key     {WitnessKey.of(key).text}")
    click.echo(f"listens http://{address[0]}:{address[1]}", nl=True)
    load("everline.server.witness").serve(law, listener)
    return 0


@click.command("cosign")
@click.argument("url")
@click.option("--witness", "key", required=True, help="The witness's public key, from its operator.")
@client_options
def cosign(client: Client, *, as_json: bool, url: str, key: str) -> int:
    """Have the witness at URL sign the log as it is now, and keep its signature; exports carry it."""
    WitnessKey.parse(key)
    found = client.audit.cosign(url, witness=key)
    emit(found, as_json=as_json, human=lambda: click.echo(found.note, nl=False))
    return 0


@click.command("rotate-key")
@click.option("--reason", required=True, help="Why; goes into the audit log.")
@client_options
def rotate_key(client: Client, *, as_json: bool, reason: str) -> int:
    """Sign with a new key from now on. The event is signed by both keys; what the old one signed stays valid."""
    found = client.audit.rotate_key(reason=reason)

    def human() -> None:
        facts([("from", found.previous), ("to", found.next)])
        click.echo("Publish the new key. Whoever has the old one is led to the new one by the log, and back.")

    emit(found, as_json=as_json, human=human)
    return 0


@click.command("tiles")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--bundle", type=click.Path(path_type=Path), help="An exported log. [the server's, exported now]")
@click.option("--key", help="With --bundle: the public key that you trust.")
@client_options
def tiles(client: Client, *, as_json: bool, folder: Path, bundle: Path | None, key: str | None) -> int:
    """Write the log to FOLDER as C2SP tiles, which any static web server can host; run again, it adds what is new."""
    source = bundle or folder / ".export.zip"
    if bundle is None:
        client.audit.export(source)
    elif key is None:
        raise InvalidInputError("With --bundle, give the public key too.", field="key")
    trusted = VerifyKey.read(key) if key else VerifyKey.parse(client.audit.keys()[0].public)
    try:
        with zipfile.ZipFile(source) as opened:
            note = opened.read("checkpoint.txt").decode()
            size = load("everline.governance.tree.tiles").write_tiles(
                folder, leaves=_leaves(opened), note=note, key=trusted
            )
    except (OSError, zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{source} is no exported log: {error}.", field="bundle") from error
    finally:
        if bundle is None:
            source.unlink(missing_ok=True)
    answer: dict[str, Any] = {"folder": str(folder), "events": size}

    def human() -> None:
        facts([("folder", str(folder)), ("events", size)])
        click.echo(f"Check it: everline audit verify --tiles {folder} --key PUBLIC_KEY")

    emit(answer, as_json=as_json, human=human)
    return 0


def _leaves(bundle: zipfile.ZipFile) -> Iterator[bytes]:
    with bundle.open("leaves.jsonl") as file:
        for line in file:
            yield line.rstrip(b"\n")
