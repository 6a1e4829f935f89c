"""`everline signature`: packages signed and checked in the OpenSSF model-signing format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from everline.cli.output import client_options, emit, facts
from everline.errors import IntegrityError, InvalidInputError
from everline.ids import digest_file
from everline.loader import load

if TYPE_CHECKING:
    from everline.models.oms import Signed
    from everline.sdk.client import Client


@click.group("signature")
def command() -> None:
    """Sign and verify models in the OpenSSF model-signing format, which other tools read."""


@command.command("export")
@click.argument("model")
@click.argument("version")
@click.argument("directory", type=click.Path(path_type=Path))
@client_options
def export(client: Client, *, as_json: bool, model: str, version: str, directory: Path) -> int:
    """Write the package of MODEL VERSION to DIRECTORY with `model.sig`, and beside it the public key, DIRECTORY.pem."""
    client.models.export(model, version, directory=directory)
    found: Any = client.models.signature(model, version)
    target, key = directory / "model.sig", directory.with_name(f"{directory.name}.pem")
    target.write_bytes(msgspec.json.encode(found.bundle))
    key.write_text(found.public_key, encoding="ascii")
    answer = {"directory": str(directory), "signature": str(target), "public_key": str(key)}

    def human() -> None:
        facts([("package", str(directory)), ("signature", str(target)), ("public key", str(key))])
        click.echo(f"Check it: everline signature verify {directory} --key {key}")
        click.echo(f"      or: model_signing verify key {directory} --signature {target} --public-key {key}")

    emit(answer, as_json=as_json, human=human)
    return 0


@command.command("sign")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--private-key", required=True, type=click.Path(path_type=Path), help="PEM; P-256, P-384 or P-521.")
@click.option("--certificate", type=click.Path(path_type=Path), help="The signer's certificate and its chain, PEM.")
@click.option("--name", help="What the statement calls the model. [the folder's name]")
@click.option("--out", type=click.Path(path_type=Path), help="[DIRECTORY/model.sig]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def sign(
    directory: Path, *, private_key: Path, certificate: Path | None, name: str | None, out: Path | None, as_json: bool
) -> int:
    """Sign the files of DIRECTORY with a key of your own; needs no server."""
    oms = load("everline.models.oms")
    target = out or directory / "model.sig"
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.resolve() != target.resolve()]
    kept = [path for path in paths if path.relative_to(directory).parts[0] not in oms.IGNORED]
    if not kept:
        raise InvalidInputError(f"There is nothing to sign in {directory}.", field="directory")
    files = {path.relative_to(directory).as_posix(): digest_file(path) for path in kept}
    chain = oms.read_certificates(certificate) if certificate else ()
    key = oms.read_private_key(private_key)
    bundle = oms.sign_files(files, key, name=name or directory.absolute().name, chain=chain)
    target.write_bytes(msgspec.json.encode(bundle))
    answer = {"signature": str(target), "files": len(files)}
    emit(answer, as_json=as_json, human=lambda: facts([("signature", str(target)), ("files", len(files))]))
    return 0


@command.command("verify")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--signature", type=click.Path(path_type=Path), help="[DIRECTORY/model.sig]")
@click.option("--key", type=click.Path(path_type=Path), help="The public key that you trust, PEM.")
@click.option("--certificates", type=click.Path(path_type=Path), help="The root certificates that you trust, PEM.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def verify(
    directory: Path, *, signature: Path | None, key: Path | None, certificates: Path | None, as_json: bool
) -> int:
    """Check that DIRECTORY is what was signed, by whomever; needs no server. Exits 0 or 1."""
    oms = load("everline.models.oms")
    source = signature or directory / "model.sig"
    try:
        text, pem = source.read_bytes(), key.read_bytes() if key else b""
    except OSError as error:
        raise InvalidInputError(f"{error.filename} cannot be read: {error.strerror}.", field="signature") from error
    try:
        found: Signed = oms.verify_folder(
            directory, text, key=oms.read_public_key(pem) if key else None,
            roots=oms.read_certificates(certificates) if certificates else (), signature_file=source,
        )  # fmt: skip
    except IntegrityError as error:
        answer: dict[str, Any] = {"verified": False, "problem": error.message}
        emit(answer, as_json=as_json, human=lambda: click.secho(f"NOT verified: {answer['problem']}", fg="red"))
        return 1

    def human() -> None:
        click.secho(f"verified: {found.name}, {found.files} files, signed by {found.method} {found.signer}", fg="green")

    emit({"verified": True, **msgspec.structs.asdict(found)}, as_json=as_json, human=human)
    return 0
