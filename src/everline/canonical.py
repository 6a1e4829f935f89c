"""One way to write JSON, so that equal values have equal digests (RFC 8785)."""

from __future__ import annotations

from typing import Any

import rfc8785

from everline.errors import InvalidInputError
from everline.ids import digest_bytes


def canonical_json(value: Any) -> bytes:
    """Write `value` as RFC 8785 canonical JSON.

    Raises:
        InvalidInputError: a NaN, an infinity, an integer beyond 2^53, or something that JSON lacks.
    """
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise InvalidInputError(
            f"This value has no canonical JSON form: {error}.",
            hint="Use finite numbers, whole numbers below 2^53, text, lists and objects with text keys.",
        ) from error


def canonical_digest(value: Any) -> str:
    """The digest of `value` in canonical JSON."""
    return digest_bytes(canonical_json(value))
