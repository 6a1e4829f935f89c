"""What witnesses say of a checkpoint: that, at a time, it was the largest they saw, and continued all they saw before.

A cosignature is one more signature line of the note. Its key has an algorithm byte of its own, so that no log's key can
pass for a witness's, nor the other way round.

Sources: https://c2sp.org/tlog-cosignature (Ed25519, version 1), https://c2sp.org/signed-note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from typing import Self

from everline.errors import IntegrityError, InvalidInputError
from everline.governance.signing import KEY_TEXT_MAX, SigningKey, VerifyKey, check_key_name

ALGORITHM = b"\x04"
LINES_MAX = 64
_MARK = "— "
_SIGNATURE_BYTES = 4 + 8 + 64


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness's public key."""

    name: str
    public_bytes: bytes

    @classmethod
    def of(cls, key: SigningKey) -> Self:
        """The witness half of a key: one key signs for one witness, and for nothing else."""
        return cls(name=key.name, public_bytes=key.verify_key.public_bytes)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form ``name+hash+base64``.

        Raises:
            InvalidInputError: it is not the key of a witness, or part of it was changed.
        """
        parts = text.strip().split("+", 2)
        try:
            name, short, encoded = parts
            raw = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error) as error:
            raise _bad("it does not have the form name+hash+base64") from error
        check_key_name(name)
        if len(text) > KEY_TEXT_MAX or raw[:1] != ALGORITHM or len(raw) != 33:
            raise _bad("it is not an Ed25519 key for cosignatures")
        key = cls(name=name, public_bytes=raw[1:])
        if short != key.short_hash.hex():
            raise _bad("its hash does not belong to its name and key")
        return key

    @property
    def text(self) -> str:
        """The key in the C2SP form ``name+hash+base64``."""
        return f"{self.name}+{self.short_hash.hex()}+{base64.b64encode(ALGORITHM + self.public_bytes).decode()}"

    @property
    def short_hash(self) -> bytes:
        """Four bytes that say which key signed."""
        return hashlib.sha256(self.name.encode() + b"\n" + ALGORITHM + self.public_bytes).digest()[:4]


def cosign(key: SigningKey, body: str, *, timestamp: int) -> str:
    """Return the signature line of a witness for a checkpoint's text.

    Args:
        body: the note's text with its final newline, without signatures.
        timestamp: seconds since 1970.
    """
    signature = key.sign(_message(body, timestamp))
    raw = WitnessKey.of(key).short_hash + struct.pack(">Q", timestamp) + signature
    return f"{_MARK}{key.name} {base64.b64encode(raw).decode()}\n"


def cosigned_at(note: str, key: WitnessKey) -> int | None:
    """When a witness cosigned a note, in seconds since 1970; None if it did not.

    Raises:
        IntegrityError: a line under the witness's name and key does not belong to this text.
    """
    body, gap, signatures = note.rpartition("\n\n")
    if not gap:
        return None
    found: int | None = None
    for line in signatures.splitlines()[:LINES_MAX]:
        name, _, encoded = line.removeprefix(_MARK).partition(" ")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            continue
        if name != key.name or raw[:4] != key.short_hash:
            continue
        if len(raw) != _SIGNATURE_BYTES:
            raise IntegrityError(f"The cosignature of {name!r} is malformed.")
        (timestamp,) = struct.unpack(">Q", raw[4:12])
        verifier = VerifyKey(name=key.name, public_bytes=key.public_bytes)
        if timestamp >= 2**63 or not verifier.verify(raw[12:], _message(body + "\n", timestamp)):
            raise IntegrityError(f"The cosignature of {name!r} does not belong to this checkpoint.")
        found = max(found or 0, timestamp)
    return found


def lines_of(note: str, name: str) -> str:
    """The signature lines under one name."""
    signatures = note.rpartition("\n\n")[2]
    return "".join(f"{line}\n" for line in signatures.splitlines() if line.startswith(f"{_MARK}{name} "))


def _message(body: str, timestamp: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp}\n{body}".encode()


def _bad(why: str) -> InvalidInputError:
    return InvalidInputError(
        f"This is not the key of a witness: {why}.", hint="`everline audit witness` prints it when it starts.",
        field="witness",
    )  # fmt: skip
