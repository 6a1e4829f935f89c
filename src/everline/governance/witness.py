"""A witness: remembers the largest checkpoint of each log that it saw, and cosigns only what continues it.

Run by somebody else than the log's operator, it makes a log that shows different histories to different people, or
that was rolled back, impossible to hide from whoever asks for its cosignature.

The rules that hold here:
    1. Nothing is cosigned that a trusted key of that log did not sign.
    2. Nothing smaller than what was cosigned before, nothing that does not continue it, not after a restart either: the
       new state is on disk before the answer is given, and one request at a time changes it.
    3. Two histories are kept as evidence, and refused.

Source: https://c2sp.org/tlog-witness.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from everline.clock import Clock
from everline.errors import IntegrityError
from everline.governance.signing import SigningKey, VerifyKey
from everline.governance.tree import merkle
from everline.governance.tree.checkpoint import NOTE_BYTES_MAX, Checkpoint, open_checkpoint, open_note
from everline.governance.tree.cosignature import WitnessKey, cosign
from everline.ids import whole_number

PROOF_LINES_MAX = 63
REQUEST_BYTES_MAX = NOTE_BYTES_MAX + 8 * 1024
SIZE_TYPE = "text/x.tlog.size"


class RefusedError(Exception):
    """A checkpoint that is not cosigned, with the protocol's status.

    Attributes:
        size: for 409, the size that was cosigned last.
    """

    def __init__(self, status: int, why: str, *, size: int | None = None) -> None:
        super().__init__(why)
        self.status, self.why, self.size = status, why, size


class Witness:
    """One witness with its key, its folder, and the logs that it knows."""

    def __init__(self, folder: Path, key: SigningKey, logs: Sequence[VerifyKey], *, clock: Clock) -> None:
        self.folder, self.key, self.clock = folder, key, clock
        self.public = WitnessKey.of(key)
        self.logs: dict[str, list[VerifyKey]] = {}
        for log in logs:
            self.logs.setdefault(log.name, []).append(log)
        folder.mkdir(parents=True, exist_ok=True)

    def add_checkpoint(self, request: bytes) -> str:
        """Answer an `add-checkpoint` call with our signature line.

        Args:
            request: the call's body.

        Raises:
            RefusedError: it is not cosigned; says with which status.
        """
        old, path, note = _parse(request)
        origin = note.partition("\n")[0]
        keys = self.logs.get(origin)
        if keys is None:
            raise RefusedError(404, f"This witness does not know the log {origin[:80]!r}.")
        try:
            found = open_checkpoint(note, keys)
        except IntegrityError as error:
            raise RefusedError(403, error.message) from None
        if old > found.size:
            raise RefusedError(400, "The old size is larger than the checkpoint's.")
        body = open_note(note, keys)
        with self._locked(origin) as file:
            self._require_continues(self._last(file, keys), found, old=old, path=path, note=note, origin=origin)
            _replace(file, note)
            return cosign(self.key, body, timestamp=int(self.clock.now().timestamp()))

    def _require_continues(
        self, last: Checkpoint | None, found: Checkpoint, *, old: int, path: list[bytes], note: str, origin: str
    ) -> None:
        size = last.size if last else 0
        if old != size:
            raise RefusedError(409, f"The checkpoint cosigned last has {size} events.", size=size)
        if last is not None and found.size == size and found.root != last.root:
            self._keep_evidence(origin, note)
            raise RefusedError(409, "Two roots for one size: this log shows two histories.", size=size)
        if last is None or size == 0 or found.size == size:
            if path:
                raise RefusedError(422, "A proof is given where none is needed.")
            return
        try:
            merkle.verify_consistency(size, found.size, path=path, first_root=last.root, second_root=found.root)
        except IntegrityError as error:
            self._keep_evidence(origin, note)
            raise RefusedError(422, error.message) from None

    def _last(self, file: Path, keys: list[VerifyKey]) -> Checkpoint | None:
        if not file.exists():
            return None
        return open_checkpoint(file.read_text(encoding="utf-8"), keys)

    def _keep_evidence(self, origin: str, note: str) -> None:
        """A signed checkpoint that contradicts what was seen: the log's own signature is against it."""
        name = f"{_name(origin)}.{hashlib.sha256(note.encode()).hexdigest()[:16]}.contradiction"
        (self.folder / name).write_text(note, encoding="utf-8")

    @contextmanager
    def _locked(self, origin: str) -> Iterator[Path]:
        with (self.folder / f"{_name(origin)}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.folder / f"{_name(origin)}.checkpoint"


def write_request(*, old: int, path: Sequence[bytes], note: str) -> bytes:
    """The body of an `add-checkpoint` call."""
    proof = "".join(f"{base64.b64encode(value).decode()}\n" for value in path)
    return f"old {old}\n{proof}\n{note}".encode()


def _parse(request: bytes) -> tuple[int, list[bytes], str]:
    if len(request) > REQUEST_BYTES_MAX:
        raise RefusedError(413, f"The request is longer than {REQUEST_BYTES_MAX} bytes.")
    try:
        head, gap, note = request.decode().partition("\n\n")
        first, *lines = head.split("\n")
        word, _, size = first.partition(" ")
        path = [base64.b64decode(line, validate=True) for line in lines]
    except (UnicodeDecodeError, ValueError, binascii.Error):
        raise RefusedError(400, "The request is not text with base64 lines.") from None
    if not gap or word != "old" or size != str(whole_number(size)):
        raise RefusedError(400, "The request does not begin with the old size and an empty line after the proof.")
    if len(path) > PROOF_LINES_MAX or any(len(value) != merkle.HASH_BYTES for value in path):
        raise RefusedError(400, f"A proof has at most {PROOF_LINES_MAX} hashes of 32 bytes.")
    return int(size), path, note


def _name(origin: str) -> str:
    return hashlib.sha256(origin.encode()).hexdigest()


def _replace(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    with temporary.open("x", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
