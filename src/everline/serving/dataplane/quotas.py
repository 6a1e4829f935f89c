"""What holders of API keys have asked so far, in a file that all processes of a data plane share.

Each key has a slot of the file: a bucket of tokens for its requests per second, and the requests of the current day
(UTC). A slot is locked while it is looked at, so that any number of processes keep one quota together.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import time
from pathlib import Path

from everline.errors import TooBusyError
from everline.serving.types import DesiredKey

_SLOTS = 4096
_PLACES = 8
"""So many slots, one after the other, may hold a key; all of them are locked while it is looked for."""
_SLOT = struct.Struct("<16sddqq")  # whose, tokens, when they were counted, day, requests of the day
_DAY_S = 86_400


class QuotaExceededError(TooBusyError):
    """A key's holder asked more than was agreed on."""

    code = "quota_exceeded"

    def __init__(self, what: str, *, retry_after_s: float) -> None:
        self.retry_after_s = max(1, -int(-retry_after_s // 1))
        super().__init__(
            f"This API key may ask {what}.", hint=f"Try again in {self.retry_after_s} s, or ask for a larger quota."
        )


class Quotas:
    """Counts requests of keys that have a quota."""

    def __init__(self, path: Path) -> None:
        """Count in a file, which is made when a key with a quota first comes."""
        self._path = path
        self._handle = -1
        self._map: mmap.mmap | None = None

    def take(self, key: DesiredKey, *, now: float | None = None) -> None:
        """Count one request of a key.

        Args:
            now: seconds since 1970 UTC; None for the clock's.

        Raises:
            QuotaExceededError: it is one too many; it is not counted, and the error says when the next may come.
        """
        if key.requests_per_s is None and key.requests_per_day is None:
            return
        now = time.time() if now is None else now
        whose = hashlib.sha256(key.uid.encode()).digest()[:16]
        slots = self._open()
        # Keys that happen to share a place are told apart by looking on from there, up to a few places.
        home = int.from_bytes(whose[:4], "big") % (_SLOTS - _PLACES)
        fcntl.lockf(self._handle, fcntl.LOCK_EX, _PLACES, home)
        try:
            place, kept = _find(slots, whose, home)
            owner, tokens, counted_at, day, requests = kept
            today = int(now // _DAY_S)
            if owner != whose:
                tokens, counted_at, day, requests = _burst(key), now, today, 0
            if day != today:
                day, requests = today, 0
            if key.requests_per_day is not None and requests >= key.requests_per_day:
                raise QuotaExceededError(
                    f"{key.requests_per_day} times a day", retry_after_s=(today + 1) * _DAY_S - now
                )
            if key.requests_per_s is not None:
                tokens = min(_burst(key), tokens + max(now - counted_at, 0.0) * key.requests_per_s)
                if tokens < 1.0:
                    raise QuotaExceededError(
                        f"{key.requests_per_s:g} times a second", retry_after_s=(1.0 - tokens) / key.requests_per_s
                    )
                tokens -= 1.0
            _SLOT.pack_into(slots, place * _SLOT.size, whose, tokens, now, day, requests + 1)
        finally:
            fcntl.lockf(self._handle, fcntl.LOCK_UN, _PLACES, home)

    def _open(self) -> mmap.mmap:
        if self._map is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            os.ftruncate(self._handle, _SLOTS * _SLOT.size)
            self._map = mmap.mmap(self._handle, _SLOTS * _SLOT.size)
        return self._map


def _burst(key: DesiredKey) -> float:
    """How many requests may come at once: those of a second, and one at least."""
    return max(1.0, key.requests_per_s or 1.0)


def _find(slots: mmap.mmap, whose: bytes, home: int) -> tuple[int, tuple[bytes, float, float, int, int]]:
    oldest, place = float("inf"), home
    for at in range(home, home + _PLACES):
        kept = _SLOT.unpack_from(slots, at * _SLOT.size)
        if kept[0] == whose:
            return at, kept
        if kept[2] < oldest:
            oldest, place = kept[2], at
    return place, _SLOT.unpack_from(slots, place * _SLOT.size)
