"""The audit log as one file that a stranger can check: no server, no home, only the public key.

A bundle is a ZIP with
    leaves.jsonl        one event per line, canonical JSON: exactly the bytes that are hashed
    hashes.bin          the events' hashes, 32 bytes each: says which event differs, proves nothing alone
    checkpoint.txt      the signed root over all events in the bundle
    checkpoints.jsonl   earlier signed roots, one note per line as a JSON string
    key.txt             the public key in text: for convenience; trust the one that you got another way
    README.txt          what all this is
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from everline.errors import IntegrityError, InvalidInputError
from everline.governance import rotations
from everline.governance.signing import VerifyKey
from everline.governance.tree import merkle
from everline.governance.tree.checkpoint import NOTE_BYTES_MAX, open_checkpoint
from everline.governance.tree.cosignature import WitnessKey, cosigned_at
from everline.governance.tree.walk import Walk, compare
from everline.governance.types import AuditEvent, InclusionProof, LogReport

LEAF_BYTES_MAX = 1 << 20
EVENTS_MAX = 100_000_000
CHECKPOINTS_MAX = 100_000
PROOF_BYTES_MAX = 4 << 20
_BATCH = 10_000
_ROTATES = b'"key.rotate"'

README = """\
This is an exported Everline audit log.

Check it with nothing but the public key of the server that wrote it:

    everline audit verify --bundle THIS_FILE --key PUBLIC_KEY

By hand: leaf hash = SHA-256(0x00 || line of leaves.jsonl without its newline); the leaves form the Merkle
tree of RFC 9162, section 2.1.1; its root and size are the second and third line of checkpoint.txt, which is
a C2SP signed note (https://c2sp.org/signed-note) under an Ed25519 key.
"""


class Leaf(NamedTuple):
    """One event on its way into a bundle."""

    text: bytes
    hash: bytes


def write_bundle(target: Path, *, leaves: Iterable[Leaf], note: str, earlier: Iterable[str], key: VerifyKey) -> int:
    """Write a bundle; the file appears under its name when it is whole.

    Returns:
        The number of events.
    """
    partial = target.with_name(target.name + ".partial")
    count = 0
    hashes = bytearray()
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as bundle:
        with bundle.open("leaves.jsonl", "w", force_zip64=True) as file:
            for leaf in leaves:
                file.write(leaf.text + b"\n")
                hashes += leaf.hash
                count += 1
        bundle.writestr(zipfile.ZipInfo("hashes.bin"), bytes(hashes))
        bundle.writestr("checkpoint.txt", note)
        bundle.writestr("checkpoints.jsonl", b"".join(msgspec.json.encode(text) + b"\n" for text in earlier))
        bundle.writestr("key.txt", key.text + "\n")
        bundle.writestr("README.txt", README)
    partial.replace(target)
    return count


def verify_bundle(
    path: Path, key: VerifyKey | str, *, known: Iterable[str] = (), witnesses: Sequence[WitnessKey] = ()
) -> LogReport:
    """Check an exported log: every event, in its place, under the signatures of one key.

    Args:
        path: the file that `everline audit export` wrote.
        key: the public key, from a source that you trust: not the one inside the bundle.
        known: checkpoints that you kept from earlier; a log that was rolled back behind them is found.
        witnesses: keys of witnesses of which each must have cosigned a checkpoint of this log.

    Returns:
        The report; `verified` is true only if nothing at all is wrong.

    Raises:
        InvalidInputError: the file cannot be read as a bundle at all.
    """
    trusted = VerifyKey.parse(key) if isinstance(key, str) else key
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidInputError(f"The file {path} cannot be read: {error.strerror}.", field="bundle") from error
    with file:
        try:
            with zipfile.ZipFile(file) as bundle:
                return _verify_open(bundle, trusted, list(known), witnesses)
        except Exception as error:  # a hostile archive can fail in every way that its decoders know
            return _malformed(trusted, f"The file is no bundle, or was damaged ({type(error).__name__}: {error}).")


def _verify_open(
    bundle: zipfile.ZipFile, key: VerifyKey, known: list[str], witnesses: Sequence[WitnessKey]
) -> LogReport:
    note = _read(bundle, "checkpoint.txt", NOTE_BYTES_MAX).decode()
    keys = _keys(bundle, key)
    with bundle.open("checkpoints.jsonl") as file:
        earlier = [msgspec.json.decode(line, type=str) for line in _lines(file, NOTE_BYTES_MAX * 2, CHECKPOINTS_MAX)]
    walk = Walk([note, *earlier, *known], keys)
    found = _feed(bundle, walk)
    size = len(found)
    raw = _read(bundle, "hashes.bin", EVENTS_MAX * merkle.HASH_BYTES)
    claimed = [raw[start : start + merkle.HASH_BYTES] for start in range(0, len(raw), merkle.HASH_BYTES)]
    compare(walk, claimed=claimed, found=found)
    walk.finish()
    witnessed = [_witnessed([note, *earlier, *known], walk, one, keys) for one in witnesses]
    signed = _signed_size(note, keys)
    if signed is not None and size > signed:
        walk.report("invented", signed, f"{size - signed} events stand after the last one that is signed.")
    return LogReport(
        verified=not walk.problems and signed == size == walk.agreed,
        size=size,
        root=walk.tree.root.hex(),
        checkpoint_size=walk.agreed,
        checkpoints=len(walk.checkpoints),
        key=key.text,
        problems=walk.problems,
        witnessed=min(witnessed, default=0),
    )


def _witnessed(notes: Iterable[str], walk: Walk, witness: WitnessKey, key: Sequence[VerifyKey]) -> int:
    """The size of the largest checkpoint that a witness cosigned; a problem if there is none."""
    sizes = [0]
    for note in notes:
        try:
            if cosigned_at(note, witness) is not None:
                sizes.append(open_checkpoint(note, key).size)
        except IntegrityError as error:
            walk.report("unsigned", None, error.message)
    if max(sizes) == 0:
        walk.report("unwitnessed", None, f"No checkpoint in the log is cosigned by {witness.name}.")
    return max(sizes)


def _feed(bundle: zipfile.ZipFile, walk: Walk) -> list[bytes]:
    found: list[bytes] = []
    with bundle.open("leaves.jsonl") as file:
        for index, line in enumerate(_lines(file, LEAF_BYTES_MAX, EVENTS_MAX)):
            found.append(merkle.leaf_hash(line))
            try:
                msgspec.convert(msgspec.json.decode(line) | {"index": index}, AuditEvent)
            except (msgspec.MsgspecError, TypeError, UnicodeDecodeError):
                walk.report("malformed", index, f"What stands at {index} is not an event.")
    for start in range(0, len(found), _BATCH):
        walk.feed(found[start : start + _BATCH])
    return found


def _keys(bundle: zipfile.ZipFile, key: VerifyKey) -> list[VerifyKey]:
    """The trusted key, and those that it leads to along the rotations in the log."""
    envelopes: list[dict[str, Any]] = []
    with bundle.open("leaves.jsonl") as file:
        for line in _lines(file, LEAF_BYTES_MAX, EVENTS_MAX):
            if _ROTATES not in line or len(envelopes) >= rotations.ROTATIONS_MAX:
                continue
            try:
                event = msgspec.convert(msgspec.json.decode(line) | {"index": 0}, AuditEvent)
            except (msgspec.MsgspecError, TypeError, UnicodeDecodeError):
                continue  # the walk says so
            if isinstance(statement := event.data.get("statement"), dict):
                envelopes.append(statement)
    return rotations.expand([key], envelopes)


def _signed_size(note: str, key: Sequence[VerifyKey]) -> int | None:
    try:
        return open_checkpoint(note, key).size
    except IntegrityError:
        return None  # the walk has already said so


def _lines(file: IO[bytes], bytes_max: int, lines_max: int) -> Iterator[bytes]:
    count = 0
    while line := file.readline(bytes_max + 1):
        count += 1
        if not line.endswith(b"\n") or count > lines_max:
            raise ValueError("a line is cut short or too long, or there are too many.")
        yield line[:-1]


def _read(bundle: zipfile.ZipFile, name: str, bytes_max: int) -> bytes:
    with bundle.open(name) as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise ValueError(f"{name} is longer than {bytes_max} bytes.")
    return data


def _malformed(key: VerifyKey, detail: str) -> LogReport:
    walk = Walk([], key)
    walk.report("malformed", None, detail)
    return LogReport(
        verified=False,
        size=0,
        root=merkle.EMPTY_ROOT.hex(),
        checkpoint_size=0,
        checkpoints=0,
        key=key.text,
        problems=walk.problems,
    )


def verify_proof(proof: InclusionProof, key: VerifyKey | str | Sequence[VerifyKey]) -> AuditEvent:
    """Check one inclusion proof offline, and return the event that it proves.

    Raises:
        IntegrityError: the checkpoint is not signed by the key, or the path does not lead from the event to it.
    """
    trusted = VerifyKey.parse(key) if isinstance(key, str) else key
    checkpoint = open_checkpoint(proof.checkpoint, trusted)
    try:
        path = [bytes.fromhex(value) for value in proof.path]
        event = msgspec.convert(msgspec.json.decode(proof.leaf) | {"index": proof.index}, AuditEvent)
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise IntegrityError(f"The proof is malformed: {error}.") from error
    if proof.size != checkpoint.size or any(len(value) != merkle.HASH_BYTES for value in path):
        raise IntegrityError("The proof is malformed: its size is not that of its checkpoint, or a hash is cut short.")
    leaf = merkle.leaf_hash(proof.leaf.encode())
    merkle.verify_inclusion(leaf, index=proof.index, size=proof.size, path=path, root=checkpoint.root)
    return event


def read_proof(path: Path) -> InclusionProof:
    """Read a proof from a file.

    Raises:
        InvalidInputError: no such file, or not a proof.
    """
    try:
        if path.stat().st_size > PROOF_BYTES_MAX:
            raise InvalidInputError(f"The file {path} is too long for a proof.", field="proof")
        return msgspec.json.decode(path.read_bytes(), type=InclusionProof)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"The file {path} is not an inclusion proof: {error}.",
            hint="`everline audit prove INDEX --out FILE` writes one.",
            field="proof",
        ) from error
