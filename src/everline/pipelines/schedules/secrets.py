"""Secrets of the addresses that set schedules going, and how a request shows that it knows one.

A secret is derived from the server's signing key, the schedule and a number: nothing is stored that could be stolen
with the database, and a higher number makes the secrets before it worthless.

Three ways, those that programs have already:
    Authorization: Bearer <secret>                          a script, GitLab (X-Gitlab-Token: <secret>)
    webhook-id, webhook-timestamp, webhook-signature        Standard Webhooks 1.0: HMAC-SHA256, not older than 5 minutes
    X-Hub-Signature-256: sha256=<hex>                       GitHub: HMAC-SHA256 of the body

Sources: Standard Webhooks (https://www.standardwebhooks.com), HKDF with SHA-256 (RFC 5869).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from everline.config import Settings
from everline.governance.signing import sealing_key
from everline.ids import whole_number

TOLERANCE_S = 300
_INFO = b"everline schedule webhook v1"
_PREFIX = "whsec_"
_IDENTIFIERS = ("webhook-id", "x-github-delivery", "x-gitlab-event-uuid", "idempotency-key")


def secret_of(settings: Settings, schedule: str, *, number: int) -> str:
    """The secret of a schedule; `number` counts how often it was given out anew, from 1."""
    private = sealing_key(settings).private.private_bytes_raw()
    info = b"|".join((_INFO, schedule.encode(), str(number).encode()))
    return (
        _PREFIX + base64.b64encode(HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(private)).decode()
    )


def knows(secret: str, headers: Mapping[str, str], body: bytes, *, now: datetime) -> bool:
    """Whether a request shows that it knows the secret.

    Args:
        headers: by names in lower case.
    """
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return _equal(token.strip(), secret)
    if "x-gitlab-token" in headers:
        return _equal(headers["x-gitlab-token"], secret)
    if "webhook-signature" in headers:
        return _standard(secret, headers, body, now=now)
    if "x-hub-signature-256" in headers:
        return _equal(headers["x-hub-signature-256"], "sha256=" + hmac.new(secret.encode(), body, "sha256").hexdigest())
    return False


def identifier(headers: Mapping[str, str]) -> str | None:
    """What makes a delivery that is sent again the same one; None if the sender says nothing."""
    found = next((headers[name] for name in _IDENTIFIERS if headers.get(name)), None)
    return None if found is None else hashlib.sha256(found.encode()).hexdigest()


def _standard(secret: str, headers: Mapping[str, str], body: bytes, *, now: datetime) -> bool:
    at = whole_number(headers.get("webhook-timestamp", ""))
    if at is None or abs(now.timestamp() - at) > TOLERANCE_S:
        return False
    signed = b".".join((headers.get("webhook-id", "").encode(), str(at).encode(), body))
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    wanted = "v1," + base64.b64encode(hmac.new(key, signed, "sha256").digest()).decode()
    return any(_equal(one, wanted) for one in headers["webhook-signature"].split(" ")[:10])


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
