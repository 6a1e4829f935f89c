"""`everline audit`: read, verify, prove and export the log of what happened."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from everline.cli import witnessing
from everline.cli.output import client_options, emit, facts, table
from everline.errors import IntegrityError, InvalidInputError
from everline.governance import bundle as bundles
from everline.governance.signing import VerifyKey
from everline.governance.tree.cosignature import WitnessKey
from everline.governance.types import AuditEvent, InclusionProof, LogReport
from everline.loader import load
from everline.reproduction.statements import read_certificate

if TYPE_CHECKING:
    from everline.sdk.client import Client

_NOTE_BYTES_MAX = 64 * 1024


@click.group("audit")
def command() -> None:
    """Read, verify, prove and export the audit log."""


@command.command("log")
@click.option("--subject", help="Only of this thing, such as release:0192….")
@click.option("--actor", help="Only by this person (name or uid).")
@click.option("--action", help="Only this action; `release.` takes all that begin so.")
@click.option("--since", help="From this time on, such as 2013-06-01T05:00:00Z.")
@click.option("--until", help="Before this time.")
@click.option("--all-projects", is_flag=True, help="Every project's events, and the server's own.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000))
@client_options
def log(client: Client, *, as_json: bool, limit: int, all_projects: bool, **filters: str | None) -> int:
    """List the newest events."""
    events: list[AuditEvent] = client.audit.list(every_project=all_projects, limit=limit, **filters)
    rows = ((event.index, event.at[:19] + "Z", event.actor_name, event.action, event.subject) for event in events)
    headers = ("index", "at", "who", "action", "subject")
    empty = "No event matches. Everything that changes state leaves one."
    emit(events, as_json=as_json, human=lambda: table(rows, headers=headers, empty=empty))
    return 0


@command.command("show")
@click.argument("index", type=click.IntRange(min=0))
@client_options
def show(client: Client, *, as_json: bool, index: int) -> int:
    """Show one event with all that it says."""
    event: AuditEvent = client.audit.get(index)
    emit(event, as_json=as_json, human=lambda: _print_event(event))
    return 0


def _offline_options(function: Callable[..., int]) -> Callable[..., int]:
    """The options of a client that is opened only when the command needs one."""

    @click.option("--home", type=click.Path(path_type=Path), help="Home directory. [$EVERLINE_HOME, ./.everline]")
    @click.option("--url", help="A server's address. [$EVERLINE_URL]")
    @click.option("--token", help="API token. [$EVERLINE_TOKEN]")
    @click.option("--project", default="default", show_default=True, help="Project that the command speaks of.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
    @functools.wraps(function)
    def wrapped(**values: Any) -> int:
        home, url, token, project = (values.pop(name) for name in ("home", "url", "token", "project"))
        return function(
            open_client=lambda: load("everline.sdk.client").Client(url, home=home, token=token, project=project),
            **values,
        )

    return wrapped


@command.command("verify")
@click.option("--bundle", type=click.Path(path_type=Path), help="An exported log; needs --key and nothing else.")
@click.option("--proof", type=click.Path(path_type=Path), help="An inclusion proof; needs --key and nothing else.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    help="A signed certificate of a rebuild or replay; needs --key and nothing else.",
)
@click.option("--key", help="The public key that you trust: its text, or a file that holds it.")
@click.option(
    "--checkpoint",
    "checkpoints",
    type=click.Path(path_type=Path),
    multiple=True,
    help="With --bundle: a signed checkpoint that you kept; a log rolled back behind it is found.",
)
@click.option("--tiles", type=click.Path(path_type=Path), help="A folder of tiles; needs --key and nothing else.")
@click.option(
    "--witness", "witnesses", multiple=True, help="With --bundle: the key of a witness that must have cosigned the log."
)
@_offline_options
def verify(
    *,
    open_client: Callable[[], Client],
    as_json: bool,
    bundle: Path | None,
    proof: Path | None,
    certificate: Path | None,
    key: str | None,
    checkpoints: tuple[Path, ...],
    tiles: Path | None,
    witnesses: tuple[str, ...],
) -> int:
    """Verify the log: the server's own; or offline an exported bundle, a single proof, a certificate. Exits 0 or 1."""
    given = [file for file in (bundle, proof, certificate, tiles) if file is not None]
    if not given:
        with open_client() as client:
            return _report(client.audit.verify(), as_json=as_json)
    if key is None or len(given) > 1:
        raise InvalidInputError(
            "Offline, give one of --bundle, --tiles, --proof and --certificate, and the public key.",
            hint="Add --key signing.pub, or the key's text; take it from a source that you trust.",
            field="key",
        )
    trusted = VerifyKey.read(key)
    if certificate is not None:
        return _verify_certificate(certificate, trusted, as_json=as_json)
    if proof is not None:
        return _verify_proof(bundles.read_proof(proof), trusted, as_json=as_json)
    known = [_note(path) for path in checkpoints]
    if tiles is not None:
        return _report(
            load("everline.governance.tree.tiles").verify_tiles(tiles, trusted, known=known), as_json=as_json
        )
    assert bundle is not None
    keys = [WitnessKey.parse(text) for text in witnesses]
    return _report(bundles.verify_bundle(bundle, trusted, known=known, witnesses=keys), as_json=as_json)


@command.command("prove")
@click.argument("index", type=click.IntRange(min=0))
@click.option("--out", type=click.Path(path_type=Path), help="Write the proof to this file.")
@client_options
def prove(client: Client, *, as_json: bool, index: int, out: Path | None) -> int:
    """Prove that an event is in the log, for somebody who has only the public key."""
    proof: InclusionProof = client.audit.prove(index)
    if out is not None:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(proof), indent=2) + b"\n")

    def human() -> None:
        facts([
            ("event", index),
            ("log size", proof.size),
            ("hashes", len(proof.path)),
            ("written to", str(out) if out else "nowhere; add --out FILE"),
        ])  # fmt: skip
        if out is not None:
            click.echo(f"Check it offline: everline audit verify --proof {out} --key PUBLIC_KEY")

    emit(proof, as_json=as_json, human=human)
    return 0


@command.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@client_options
def export(client: Client, *, as_json: bool, file: Path) -> int:
    """Write the whole log to one file that anyone can check with the public key."""
    client.audit.export(file)
    [key, *_] = client.audit.keys()
    answer = {"file": str(file), "bytes": file.stat().st_size, "key": key.public}

    def human() -> None:
        facts([("file", str(file)), ("bytes", answer["bytes"]), ("public key", key.public)])
        click.echo(f"Check it offline: everline audit verify --bundle {file} --key PUBLIC_KEY")

    emit(answer, as_json=as_json, human=human)
    return 0


@command.command("checkpoint")
@client_options
def checkpoint(client: Client, *, as_json: bool) -> int:
    """Print the newest signed root; keep it somewhere else, and a rolled-back log is found."""
    newest = client.audit.checkpoint()
    emit(newest, as_json=as_json, human=lambda: click.echo(newest.note, nl=False))
    return 0


@command.command("key")
@client_options
def key(client: Client, *, as_json: bool) -> int:
    """Print the public key that checks bundles and proofs."""
    keys = client.audit.keys()
    emit(keys, as_json=as_json, human=lambda: click.echo("\n".join(item.public for item in keys)))
    return 0


def _report(report: LogReport, *, as_json: bool) -> int:
    def human() -> None:
        if report.verified:
            click.secho(f"verified: {report.size} events, none removed, altered, reordered or invented", fg="green")
        else:
            click.secho(f"NOT verified: {len(report.problems)} problem(s) in {report.size} events", fg="red")
        for problem in report.problems:
            where = "" if problem.index is None else f" at {problem.index}"
            click.echo(f"  {problem.what}{where}: {problem.detail}")
        facts([
            ("root", report.root),
            ("signed", f"{report.checkpoint_size} events, {report.checkpoints} checkpoint(s)"),
            ("witnessed", f"{report.witnessed} events" if report.witnessed else None),
            ("key", report.key),
        ])  # fmt: skip

    emit(report, as_json=as_json, human=human)
    return 0 if report.verified else 1


def _verify_certificate(file: Path, key: VerifyKey, *, as_json: bool) -> int:
    try:
        statement = read_certificate(file, key)
    except IntegrityError as error:
        answer: dict[str, Any] = {"verified": False, "problem": error.message}
        emit(answer, as_json=as_json, human=lambda: click.secho(f"NOT verified: {answer['problem']}", fg="red"))
        return 1
    said = statement["predicate"]["everline"]
    verdict = said.get("verdict") or said.get("finding")
    answer = {"verified": True, "level": said.get("level"), "verdict": verdict, "statement": statement}

    def human() -> None:
        click.secho(f"verified: signed by {key.text}", fg="green")
        subjects = statement["subject"]
        facts([
            ("of", subjects[0]["name"]),
            ("level", said.get("level")),
            ("verdict", verdict),
            ("reason", said.get("reason")),
            ("outputs named", len(subjects) - 1),
            ("signed", said["at"]),
            ("asked by", said["by"]),
        ])  # fmt: skip

    emit(answer, as_json=as_json, human=human)
    return 0


def _verify_proof(proof: InclusionProof, key: VerifyKey, *, as_json: bool) -> int:
    try:
        event = bundles.verify_proof(proof, key)
    except IntegrityError as error:
        answer = {"verified": False, "problem": error.message}
        emit(answer, as_json=as_json, human=lambda: click.secho(f"NOT verified: {answer['problem']}", fg="red"))
        return 1

    def human() -> None:
        click.secho(f"verified: event {event.index} is in the signed log of {proof.size} events", fg="green")
        _print_event(event)

    emit({"verified": True, "event": event}, as_json=as_json, human=human)
    return 0


def _print_event(event: AuditEvent) -> None:
    facts([
        ("index", event.index),
        ("at", event.at),
        ("who", f"{event.actor_name} ({event.actor})"),
        ("action", event.action),
        ("subject", event.subject),
        ("project", event.project),
        *((f"  {name}", msgspec.json.encode(value).decode()) for name, value in event.data.items()),
    ])  # fmt: skip


def _note(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_NOTE_BYTES_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"The checkpoint {path} cannot be read: {error}.", field="checkpoint") from error


for _one in (witnessing.witness, witnessing.cosign, witnessing.tiles, witnessing.rotate_key):
    command.add_command(_one)
