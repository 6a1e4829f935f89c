"""`everline package MODEL`: a released model version in one file that is served with no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from everline.cli.output import client_options, emit, facts
from everline.governance.signing import VerifyKey
from everline.ids import digest_file
from everline.loader import load
from everline.sdk.client import Client


@click.command("package", help=__doc__)
@click.argument("model", metavar="MODEL[:VERSION|@ALIAS]")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=Path(), help="The file, or the folder it goes to. [.]"
)
@click.option("--endpoint", help="Where the version answers, if that is several endpoints.")
@click.option(
    "--image", type=click.Path(path_type=Path, file_okay=False),
    help="Also write the build context of a container image to this folder, which is new or empty.",
)  # fmt: skip
@click.option("--base-digest", default="", metavar="sha256:…", help="With --image: digest of the Python base image.")
@click.option(
    "--lock", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="With --image: a lock with hashes, instead of having uv ask the package index for them.",
)  # fmt: skip
@client_options
def command(
    client: Client,
    as_json: bool,
    model: str,
    out: Path,
    endpoint: str | None,
    image: Path | None,
    base_digest: str,
    lock: Path | None,
) -> int:
    found = client.models.named(model)
    name = f"{found.model}:{found.version}"
    file = out / f"{found.model}-{found.version}.everline" if out.is_dir() else out
    client.bundles.package(name, file, endpoint=endpoint)
    [key, *_] = client.audit.keys()
    answer: dict[str, Any] = {
        "file": str(file), "bytes": file.stat().st_size, "digest": digest_file(file), "model": found.model,
        "version": found.version, "package": found.package, "key": key.public,
    }  # fmt: skip
    if image is not None:
        written = load("everline.sdk.images").write_context(
            file,
            image,
            key=VerifyKey.parse(key.public),
            lock=None if lock is None else lock.read_text(encoding="utf-8"),
            base_digest=base_digest,
        )
        answer["image"] = {"directory": str(image), "files": [path.name for path in written]}

    def human() -> None:
        pairs = [("file", str(file)), ("bytes", answer["bytes"]), ("model", f"{found.model}/{found.version}")]
        facts([*pairs, ("digest", answer["digest"]), ("public key", key.public)])
        click.echo(f"Serve it anywhere: everline serve --bundle {file} --key PUBLIC_KEY")
        if image is not None:
            given = "" if base_digest else " --build-arg BASE_DIGEST=sha256:…"
            click.echo(f"Build an image: docker build{given} {image}")

    emit(answer, as_json=as_json, human=human)
    return 0
