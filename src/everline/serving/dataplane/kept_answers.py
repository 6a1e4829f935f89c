"""Answers that are kept by the digest of what was asked, so that the same question does not cost the model twice.

What is kept is what the model said, not the answer that left: a kept answer is a prediction of its own, with an id, and
is logged like any other. A package gives the same bits for the same input, so nobody can tell it from a new one.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from everline.models.signature import Array
from everline.serving.dataplane.log.packing import Packer

ROWS_MAX = 64
"""Requests with more rows than this are not kept: they hardly come twice, and take the room of many."""

_encoder = msgspec.msgpack.Encoder()


class KeptAnswers:
    """The outputs of the last so many different requests to one revision."""

    def __init__(self, packer: Packer, *, requests_max: int) -> None:
        self._packer = packer
        self._requests_max = requests_max
        self._kept: OrderedDict[bytes, dict[str, Array]] = OrderedDict()

    def digest(self, arrays: Mapping[str, Array], *, runtime: str) -> bytes:
        """SHA-256 of a request's inputs, as the model takes them, and of the runtime that is asked."""
        return hashlib.sha256(_encoder.encode((runtime, self._packer.pack(arrays)))).digest()

    def find(self, digest: bytes) -> dict[str, Array] | None:
        """What the model said to this; None if that is not known any more."""
        found = self._kept.get(digest)
        if found is not None:
            self._kept.move_to_end(digest)
        return found

    def keep(self, digest: bytes, outputs: dict[str, Array]) -> None:
        """Keep what the model said; what was asked for longest ago makes room."""
        self._kept[digest] = {name: array.copy() for name, array in outputs.items()}
        self._kept.move_to_end(digest)
        while len(self._kept) > self._requests_max:
            self._kept.popitem(last=False)
