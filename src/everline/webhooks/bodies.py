"""What a delivery says and how it is signed: as MLflow 3 does, so that its receivers need no change.

Source: MLflow 3, `mlflow/webhooks/delivery.py`, after Standard Webhooks (https://www.standardwebhooks.com): the
signature is HMAC-SHA256 over `delivery-id.timestamp.body`, written `v1,<base64>`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime
from typing import Any

import msgspec

from everline.errors import TooLargeError
from everline.webhooks.types import Event


def body_of(event: Event, data: dict[str, Any], *, at: datetime, bytes_max: int) -> str:
    """A delivery's body; tags and description are left out, and it says so, if they make it too long.

    Raises:
        TooLargeError: it is too long without them.
    """
    entity, _, action = event.value.partition(".")
    head = {"entity": entity, "action": action, "timestamp": at.isoformat()}
    body = msgspec.json.encode(head | {"data": data})
    if len(body) > bytes_max:
        short = {**data, "tags": {}, "description": None} if "tags" in data else data | {"value": ""}
        body = msgspec.json.encode(head | {"data": short, "truncated": True})
    if len(body) > bytes_max:
        raise TooLargeError(f"The webhook's body has {len(body)} bytes; {bytes_max} are allowed.")
    return body.decode()


def signature(secret: str, *, delivery: str, timestamp: str, body: str) -> str:
    """The value of `X-MLflow-Signature`."""
    digest = hmac.new(secret.encode(), f"{delivery}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
