"""Statements of key rotations, for readers who have a key and no database: which keys does it lead to?"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from everline.errors import IntegrityError, InvalidInputError
from everline.governance.signing import VerifyKey, dsse_verify

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "urn:everline:key-rotation:v1"
ROTATIONS_MAX = 1000


def expand(trusted: Iterable[VerifyKey], envelopes: Iterable[Mapping[str, Any]]) -> list[VerifyKey]:
    """The keys that a reader may trust who trusts some already: along the rotations that both keys signed.

    Args:
        envelopes: DSSE envelopes of any kind; what is no rotation, or not signed by both keys, is left out.
    """
    known = list(trusted)
    pairs = [pair for envelope in envelopes if (pair := _pair(envelope)) is not None]
    grown = True
    while grown:
        grown = False
        for pair in pairs:
            missing = [key for key in pair if key not in known]
            if len(missing) == 1:
                known += missing
                grown = True
    return known


def _pair(envelope: Mapping[str, Any]) -> tuple[VerifyKey, VerifyKey] | None:
    try:
        claimed = msgspec.json.decode(base64.b64decode(envelope["payload"], validate=True))
        if claimed["predicateType"] != PREDICATE_TYPE:
            return None
        old, new = (VerifyKey.parse(claimed["predicate"][name]) for name in ("previous", "next"))
        for key in (old, new):
            dsse_verify(envelope, key, payload_type=PAYLOAD_TYPE)
    except (KeyError, TypeError, ValueError, msgspec.MsgspecError, IntegrityError, InvalidInputError):
        return None
    return (old, new) if old.name == new.name else None
