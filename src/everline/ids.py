"""Identifiers: time-ordered uids, content digests, and the names that people give."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
import uuid
from pathlib import Path

from everline.errors import InvalidInputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DIGITS = re.compile("[0-9]{1,19}")
_CHUNK_BYTES = 1 << 20
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The two highest bits of the last half say which layout of RFC 9562 this is."""

_lock = threading.Lock()
_last_ms = 0
_counter = 0


def new_uid() -> str:
    """Return a UUIDv7 as text, strictly increasing within this process.

    Source: RFC 9562, section 5.7, with the counter of section 6.2 method 1 in `rand_a`
    (12 bits); when the counter is used up the millisecond is borrowed from the future.
    """
    global _last_ms, _counter
    with _lock:
        now_ms = time.time_ns() // 1_000_000
        if now_ms > _last_ms:
            _last_ms, _counter = now_ms, int.from_bytes(os.urandom(1)) << 2
        elif _counter < 0xFFF:
            _counter += 1
        else:
            _last_ms, _counter = _last_ms + 1, 0
        value = _last_ms << 80 | 7 << 76 | _counter << 64
    value |= 0b10 << 62 | int.from_bytes(os.urandom(8)) >> 2
    return str(uuid.UUID(int=value))


def new_uids(count: int) -> list[str]:
    """Return `count` uids like those of `new_uid`, in increasing order; a third of the price each."""
    global _last_ms, _counter
    made: list[str] = []
    random = os.urandom(8 * count).hex()
    with _lock:
        now_ms = time.time_ns() // 1_000_000
        if now_ms > _last_ms:
            _last_ms, _counter = now_ms, int.from_bytes(os.urandom(1)) << 2
        head = f"{_last_ms >> 16:08x}-{_last_ms & 0xFFFF:04x}-7"
        for start in range(0, 16 * count, 16):
            if _counter < 0xFFF:
                _counter += 1
            else:
                _last_ms, _counter = _last_ms + 1, 0
                head = f"{_last_ms >> 16:08x}-{_last_ms & 0xFFFF:04x}-7"
            variant = _VARIANT[random[start]]
            made.append(
                f"{head}{_counter:03x}-{variant}{random[start + 1 : start + 4]}-{random[start + 4 : start + 16]}"
            )
    return made


def new_run_uid() -> str:
    """Return a run's uid: the 32 hexadecimal digits that MLflow clients expect."""
    return new_uid().replace("-", "")


def digest_bytes(data: bytes | bytearray | memoryview) -> str:
    """Name bytes by their content: `sha256:` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Name a file by its content, read in pieces of 1 MiB."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(value: str, *, field: str = "digest") -> str:
    """Return `value` if it is a digest, else say so."""
    if not _DIGEST.fullmatch(value):
        raise InvalidInputError(
            f"{field} {value[:80]!r} is not a digest.",
            hint="A digest is `sha256:` followed by 64 hexadecimal digits in lower case.",
            field=field,
        )
    return value


def check_name(value: str, *, field: str = "name") -> str:
    """Return `value` if it can name a thing: no path, no space, at most 128 characters."""
    if not _NAME.fullmatch(value) or ".." in value:
        raise InvalidInputError(
            f"{field} {value[:80]!r} cannot be used as a name.",
            hint="Use 1 to 128 letters, digits, dots, dashes and underscores, starting with a letter or digit.",
            field=field,
        )
    return value


def whole_number(text: str) -> int | None:
    """Read ASCII digits as a number of at most 19 of them, else None.

    `int()` takes other scripts' digits, and fails on thousands of them.
    """
    return int(text) if _DIGITS.fullmatch(text) else None


def check_uid(value: str, *, field: str = "uid") -> str:
    """Return `value` in canonical text if it is a UUID, else say so."""
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise InvalidInputError(
            f"{field} {value[:80]!r} is not an identifier.",
            hint="Identifiers look like 0192f5c4-7d2e-7c31-9d7e-0a4b5c6d7e8f; list commands print them.",
            field=field,
        ) from None
