"""Who may ask an endpoint: API keys, checked against the hashes in the desired state, no control plane needed."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime

from everline.errors import ForbiddenError, UnauthenticatedError
from everline.ids import digest_bytes
from everline.serving.dataplane.http.messages import Request
from everline.serving.dataplane.quotas import Quotas
from everline.serving.dataplane.routing import RoutingTable, ServedEndpoint
from everline.serving.types import DesiredKey, EndpointAccess

_BEARER = b"bearer "
_SECRET_BYTES_MAX = 256


class Gate:
    """Lets requests pass that carry a key of the endpoint they ask.

    A secret is hashed before it is looked for, and hashes are compared in constant time: how long a refusal takes
    tells nothing of any key.
    """

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    def check(self, endpoint: ServedEndpoint, request: Request, table: RoutingTable | None) -> None:
        """Let a request pass, and count it against its key's quota.

        Raises:
            UnauthenticatedError: no key came with it, or none that is in force.
            ForbiddenError: the key is another endpoint's.
            QuotaExceededError: its holder asked more than was agreed on.
        """
        if endpoint.desired.access is EndpointAccess.OPEN:
            return
        secret = _secret(request)
        if secret is None:
            raise UnauthenticatedError(
                f"The endpoint {endpoint.name!r} asks for an API key.",
                hint="Send `Authorization: Bearer evk_…`; `everline endpoints keys create` makes one.",
            )
        hashed = digest_bytes(secret)
        key = _matching(endpoint.desired.keys, hashed)
        if key is None:
            others = table.endpoints if table is not None else []
            if any(_matching(one.desired.keys, hashed) for one in others):
                raise ForbiddenError(
                    f"This API key is not for the endpoint {endpoint.name!r}.", hint="Ask its owner for one of its own."
                )
            raise UnauthenticatedError("This API key is not in force.", hint="It may be mistyped, revoked or expired.")
        self._quotas.take(key)


def _secret(request: Request) -> bytes | None:
    given = request.headers.get(b"authorization", b"")
    if given[: len(_BEARER)].lower() == _BEARER:
        given = given[len(_BEARER) :].strip()
    else:
        given = request.headers.get(b"x-api-key", b"").strip()
    return given if 0 < len(given) <= _SECRET_BYTES_MAX else None


def _matching(keys: list[DesiredKey], hashed: str) -> DesiredKey | None:
    found = None
    for key in keys:
        if hmac.compare_digest(key.hash, hashed):
            found = key
    if found is not None and found.expires_at is not None and found.expires_at <= datetime.now(UTC):
        return None
    return found
