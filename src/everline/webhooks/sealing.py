"""Secrets of webhooks at rest: sealed under a key that is derived from the server's signing key.

Whoever reads the database, or a backup of it, without the key file learns no secret, and a sealed secret that is
moved to another webhook's row does not open.

Sources: AES-256-GCM (NIST SP 800-38D), HKDF with SHA-256 (RFC 5869).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from everline.config import Settings
from everline.errors import IntegrityError
from everline.governance.signing import sealing_key

_INFO = b"everline webhook secret v1"
_FINGERPRINT = b"everline webhook fingerprint v1"
_NONCE_BYTES = 12


def seal(settings: Settings, secret: str, *, webhook: str) -> str:
    """Return `secret` as text that only this server opens, and only for this webhook."""
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_key(settings)).encrypt(nonce, secret.encode(), webhook.encode())
    return base64.b64encode(nonce + sealed).decode()


def unseal(settings: Settings, sealed: str, *, webhook: str) -> str:
    """Return the secret.

    Raises:
        IntegrityError: it was sealed under another key, for another webhook, or was changed.
    """
    try:
        raw = base64.b64decode(sealed, validate=True)
        opened = AESGCM(_key(settings)).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], webhook.encode())
    except (InvalidTag, ValueError, binascii.Error):
        raise IntegrityError(
            f"The secret of webhook {webhook} does not open: it was changed, or the server has another key now.",
            hint="Set it again: `everline webhooks update`.",
        ) from None
    return opened.decode()


def fingerprint(settings: Settings, value: str) -> str:
    """What tells a secret from others and gives none away: keyed by the server, 64 hexadecimal digits."""
    return hmac.new(derived_key(settings, _FINGERPRINT), value.encode(), "sha256").hexdigest()


def derived_key(settings: Settings, purpose: bytes) -> bytes:
    """32 bytes that only this server knows, different for each purpose."""
    private = sealing_key(settings).private.private_bytes_raw()
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(private)


def _key(settings: Settings) -> bytes:
    return derived_key(settings, _INFO)
