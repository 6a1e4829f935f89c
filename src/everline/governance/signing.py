"""Ed25519 keys in the C2SP note text form, and signed statements in DSSE envelopes.

Light on purpose: the data plane and the offline verifiers import this module without a database.

Sources: C2SP signed-note (https://c2sp.org/signed-note), DSSE v1.0 (https://github.com/secure-systems-lab/dsse).
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from everline.config import Settings
from everline.errors import IntegrityError, InvalidInputError

ED25519 = b"\x01"
"""The C2SP algorithm byte. Other key types get other bytes, so that a text names its own algorithm."""

KEY_NAME = "everline"
KEY_TEXT_MAX = 1024
_PRIVATE_PREFIX = "PRIVATE+KEY+"


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public key: what an outsider needs, and all that they need, to check what we say."""

    name: str
    public_bytes: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form ``name+hash+base64``.

        Raises:
            InvalidInputError: the text is not a verifier key, or its hash does not belong to it.
        """
        text = text.strip()
        if len(text) > KEY_TEXT_MAX or text.startswith(_PRIVATE_PREFIX):
            raise _bad_key("it is too long for a public key" if len(text) > KEY_TEXT_MAX else "it is a private key")
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise _bad_key("it does not have the form name+hash+base64")
        name, short, encoded = parts
        check_key_name(name)
        raw = _decode_key(encoded)
        if short != _short_hash(name, raw).hex():
            raise _bad_key("its hash does not belong to its name and key; part of it was changed or lost")
        return cls(name=name, public_bytes=raw)

    @classmethod
    def read(cls, text_or_path: str) -> Self:
        """Read a key given as text, or as the path of a file that holds the text."""
        if text_or_path.count("+") >= 2 and not Path(text_or_path).is_file():
            return cls.parse(text_or_path)
        try:
            return cls.parse(Path(text_or_path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise _bad_key(f"there is no readable key file {text_or_path!r}") from error

    @property
    def text(self) -> str:
        """The key in the C2SP form ``name+hash+base64``, one line without an end."""
        encoded = base64.b64encode(ED25519 + self.public_bytes).decode()
        return f"{self.name}+{self.short_hash.hex()}+{encoded}"

    @property
    def short_hash(self) -> bytes:
        """Four bytes that say which key signed a note: a hint, never a proof."""
        return _short_hash(self.name, self.public_bytes)

    @property
    def keyid(self) -> str:
        """``sha256:…`` of the raw public key, as written into DSSE envelopes."""
        return f"sha256:{hashlib.sha256(self.public_bytes).hexdigest()}"

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Say whether this key made the signature over exactly this message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_bytes).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that lives in one file of mode 0600."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, *, name: str = KEY_NAME) -> Self:
        """Make a new key in memory."""
        check_key_name(name)
        return cls(name=name, private=Ed25519PrivateKey.generate())

    @classmethod
    def load_or_create(cls, path: Path, *, name: str = KEY_NAME) -> Self:
        """Load the key at ``path``; make it (and ``path`` with the ending ``.pub``) when there is none.

        Two processes that start at once end up with the same key: the file appears whole under its
        name or not at all, and the loser reads the winner's.

        Raises:
            InvalidInputError: the file is there but does not hold a key of ours.
        """
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            publish(path, cls.generate(name=name).private_text() + "\n", mode=0o600)
        key = cls.load(path)
        public = path.with_suffix(".pub")
        if not public.exists():
            publish(public, key.public_text + "\n", mode=0o644)
        return key

    @classmethod
    def load(cls, path: Path) -> Self:
        """Load the key at ``path``.

        Raises:
            InvalidInputError: no file there, or not a private key in our form.
        """
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise _bad_key(f"the file {path} cannot be read as a signing key") from error
        if not text.startswith(_PRIVATE_PREFIX):
            raise _bad_key(f"the file {path} does not hold a private key")
        parts = text.removeprefix(_PRIVATE_PREFIX).split("+", 2)
        if len(parts) != 3:
            raise _bad_key(f"the file {path} was cut short")
        key = cls(name=parts[0], private=Ed25519PrivateKey.from_private_bytes(_decode_key(parts[2])))
        if key.verify_key.short_hash.hex() != parts[1]:
            raise _bad_key(f"the file {path} was changed")
        return key

    @property
    def verify_key(self) -> VerifyKey:
        """The public half."""
        raw = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return VerifyKey(name=self.name, public_bytes=raw)

    @property
    def public_text(self) -> str:
        """The public half in the C2SP form ``name+hash+base64``."""
        return self.verify_key.text

    @property
    def keyid(self) -> str:
        """``sha256:…`` of the raw public key."""
        return self.verify_key.keyid

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature over the message."""
        return self.private.sign(message)

    def private_text(self) -> str:
        """The private half in text, for its file alone."""
        encoded = base64.b64encode(ED25519 + self.private.private_bytes_raw()).decode()
        return f"{_PRIVATE_PREFIX}{self.name}+{self.verify_key.short_hash.hex()}+{encoded}"


def server_key(settings: Settings) -> SigningKey:
    """The key that this server signs with; made at the first call ever, and read again when it was rotated."""
    path = settings.signing_key_file.absolute()
    return _load_cached(path, settings.log_name, _stamp(path))


def server_keys(settings: Settings) -> list[VerifyKey]:
    """The public keys that signatures of this server may be of: the one in force, then retired ones, newest first."""
    return [server_key(settings).verify_key, *(key.verify_key for key in reversed(_retired(settings)))]


def sealing_key(settings: Settings) -> SigningKey:
    """The first key that this server ever had, of which the keys that seal secrets are derived."""
    return next(iter(_retired(settings)), None) or server_key(settings)


def put_in_place(settings: Settings, new: SigningKey) -> None:
    """Retire the key in force and sign with another one from now on, in every process that uses this file."""
    path = settings.signing_key_file.absolute()
    folder = _retired_folder(path)
    folder.mkdir(mode=0o700, exist_ok=True)
    number = len(_retired(settings)) + 1
    publish(folder / f"{number:06d}.key", path.read_text(encoding="ascii"), mode=0o600)
    for target, text, mode in (
        (path.with_suffix(".pub"), new.public_text, 0o644), (path, new.private_text(), 0o600),
    ):  # fmt: skip
        fresh = target.with_name(f".{target.name}.new-{secrets.token_hex(8)}")
        publish(fresh, text + "\n", mode=mode)
        fresh.replace(target)


def _retired(settings: Settings) -> tuple[SigningKey, ...]:
    folder = _retired_folder(settings.signing_key_file.absolute())
    return _load_retired(folder, _stamp(folder)) if folder.is_dir() else ()


def _retired_folder(path: Path) -> Path:
    return path.with_name("retired")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_ino, found.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _load_cached(path: Path, name: str, _stamped: tuple[int, int]) -> SigningKey:
    return SigningKey.load_or_create(path, name=name)


@functools.lru_cache(maxsize=16)
def _load_retired(folder: Path, _stamped: tuple[int, int]) -> tuple[SigningKey, ...]:
    return tuple(SigningKey.load(path) for path in sorted(folder.glob("*.key")))


def check_key_name(name: str) -> None:
    """Refuse a key name that the note format cannot carry: empty, or with spaces or a plus sign."""
    if not name or len(name) > 200 or "+" in name or not name.isprintable() or any(c.isspace() for c in name):
        raise _bad_key(f"the name {name!r} must be 1 to 200 characters without spaces or '+'")


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the DSSE v1 pre-authentication encoding: the bytes that are really signed.

    Example:
        >>> pae("http://example.com/HelloWorld", b"hello world")
        b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def dsse_sign(key: SigningKey, payload_type: str, payload: bytes) -> dict[str, Any]:
    """Wrap a payload in a DSSE envelope with one signature."""
    signature = key.sign(pae(payload_type, payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": key.keyid, "sig": base64.b64encode(signature).decode()}],
    }


def dsse_verify(
    envelope: Mapping[str, Any], keys: VerifyKey | Iterable[VerifyKey], *, payload_type: str | None = None
) -> bytes:
    """Return the payload of an envelope that at least one of ``keys`` signed.

    Args:
        envelope: the decoded JSON object; nothing in it is trusted before the check.
        keys: the public keys that the caller trusts.
        payload_type: when given, the only type accepted, so that a statement of one kind never passes for another.

    Raises:
        IntegrityError: malformed, of another type, or not signed by any of the keys.
    """
    trusted = [keys] if isinstance(keys, VerifyKey) else list(keys)
    try:
        kind = envelope["payloadType"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(entry["sig"], validate=True) for entry in envelope["signatures"]]
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise IntegrityError("The signed statement is not a whole DSSE envelope.") from error
    if not isinstance(kind, str) or (payload_type is not None and kind != payload_type):
        raise IntegrityError(f"The signed statement is of type {kind!r}, where {payload_type!r} was expected.")
    message = pae(kind, payload)
    if any(key.verify(signature, message) for signature in signatures for key in trusted):
        return payload
    names = ", ".join(key.text for key in trusted) or "none given"
    raise IntegrityError(
        f"The statement is not signed by a trusted key (trusted: {names}).",
        hint="Its content was changed after signing, or it was signed by another server.",
    )


def signed_by(envelope: Mapping[str, Any], key: VerifyKey) -> bool:
    """Whether one signature of a DSSE envelope is of this key."""
    try:
        dsse_verify(envelope, key)
    except IntegrityError:
        return False
    return True


def publish(path: Path, text: str, *, mode: int) -> None:
    """Write a file so that it appears whole, once, with its mode; an existing one is left as it is.

    Of two processes that start at once the first one's stays.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        temporary.unlink()


def _short_hash(name: str, raw: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + raw).digest()[:4]


def _decode_key(encoded: str) -> bytes:
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error) as error:
        raise _bad_key("its last part is not base64") from error
    if raw[:1] != ED25519 or len(raw) != 33:
        raise _bad_key("it is not an Ed25519 key")
    return raw[1:]


def _bad_key(why: str) -> InvalidInputError:
    return InvalidInputError(
        f"This is not a key that can be used: {why}.",
        hint="A public key is one line such as everline+1f2e3d4c+AQ…; the server gives it at /api/v1/keys.",
        field="key",
    )
