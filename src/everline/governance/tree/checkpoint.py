"""Signed roots of the audit log, as C2SP checkpoints: three lines of text under an Ed25519 signature.

```
everline
42
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— everline x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
```

Sources: https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass

from everline.errors import IntegrityError
from everline.governance.signing import SigningKey, VerifyKey
from everline.governance.tree.merkle import HASH_BYTES
from everline.ids import whole_number

NOTE_BYTES_MAX = 64 * 1024
_MARK = "— "


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a signature says of the log: its name, how many events it has, and their root."""

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """The signed text, with its final newline."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign_checkpoint(key: SigningKey, *, size: int, root: bytes) -> str:
    """Return the signed note for a tree; the log's origin is the key's name."""
    body = Checkpoint(origin=key.name, size=size, root=root).body()
    return sign_note(key, body)


def open_checkpoint(note: str, keys: VerifyKey | Iterable[VerifyKey]) -> Checkpoint:
    """Verify a signed note and read the checkpoint in it.

    Raises:
        IntegrityError: not signed by any of the keys, or not a checkpoint.
    """
    trusted = [keys] if isinstance(keys, VerifyKey) else list(keys)
    lines = open_note(note, trusted).split("\n")
    if len(lines) < 4 or not lines[0] or lines[-1]:
        raise IntegrityError("The checkpoint has fewer than its three lines.")
    origin, size, root = lines[:3]
    try:
        raw = base64.b64decode(root, validate=True)
    except (ValueError, binascii.Error) as error:
        raise IntegrityError("The checkpoint's root is not base64.") from error
    if size != str(whole_number(size)) or len(raw) != HASH_BYTES:
        raise IntegrityError("The checkpoint's size or root is malformed.")
    if origin not in {key.name for key in trusted}:
        raise IntegrityError(f"The checkpoint belongs to the log {origin!r}, not to that of the trusted key.")
    return Checkpoint(origin=origin, size=int(size), root=raw)


def sign_note(key: SigningKey, body: str) -> str:
    """Sign a text that ends with a newline, as a C2SP note."""
    signature = key.verify_key.short_hash + key.sign(body.encode())
    return f"{body}\n{_MARK}{key.name} {base64.b64encode(signature).decode()}\n"


def open_note(note: str, keys: Iterable[VerifyKey]) -> str:
    """Return the signed text of a note, final newline and all.

    Signatures by keys that we don't know (witnesses) are skipped; one by a trusted key is needed, and a
    wrong one under a trusted key's name and hash refuses the note.

    Raises:
        IntegrityError: malformed, or no valid signature by any of the keys.
    """
    trusted = list(keys)
    if len(note) > NOTE_BYTES_MAX:
        raise IntegrityError(f"The signed note is longer than {NOTE_BYTES_MAX} bytes.")
    body, gap, signatures = note.rpartition("\n\n")
    if not gap or not signatures.endswith("\n"):
        raise IntegrityError("The signed note has no signature lines.")
    body += "\n"
    verified = False
    for line in signatures[:-1].split("\n"):
        name, raw = _signature(line)
        for key in trusted:
            if key.name != name or key.short_hash != raw[:4]:
                continue
            if not key.verify(raw[4:], body.encode()):
                raise IntegrityError(
                    f"The signature of {name!r} does not belong to this text.", hint="The signed note was changed."
                )
            verified = True
    if not verified:
        names = ", ".join(key.text for key in trusted) or "none given"
        raise IntegrityError(
            f"The signed note is not signed by a trusted key (trusted: {names}).",
            hint="It was signed by another server, or the key that you hold is not this log's.",
        )
    return body


def _signature(line: str) -> tuple[str, bytes]:
    name, _, encoded = line.removeprefix(_MARK).partition(" ")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error) as error:
        raise IntegrityError("A signature line of the note is not base64.") from error
    if not line.startswith(_MARK) or not name or len(raw) < 5:
        raise IntegrityError("A signature line of the note is malformed.")
    return name, raw
