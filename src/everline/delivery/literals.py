"""What must not stand in a file that everybody reads: secrets, and values that have no canonical form."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from everline.delivery.faults import Text
from everline.delivery.spots import Path

DEPTH_MAX = 50
_WHOLE_MAX = 2**53
# Marks that issuers give their tokens so that scanners find them.
_TOKENS = re.compile(
    r"evl_[A-Za-z0-9_-]{20}|gh[pousr]_[A-Za-z0-9]{20}|github_pat_|glpat-[A-Za-z0-9_-]{10}|xox[abeoprs]-|AKIA[0-9A-Z]{16}"
    r"|sk-[A-Za-z0-9_-]{20}|-----BEGIN [A-Z ]*PRIVATE KEY|eyJ[A-Za-z0-9_-]{10,}\.eyJ"
)
_SECRET_NAMES = re.compile(
    r"(^|[_-])(token|secret|password|passwd|api[_-]?key|access[_-]?key|auth|sig|signature|code)$", re.I
)
_RANDOM_CHARACTERS_MIN = 16
_RANDOM_BITS_MIN = 3.2
_WORDS = re.compile(r"[a-z]{3,}|[A-Z][a-z]{2,}")


def check_values(value: Any, text: Text, path: Path = ()) -> None:
    """Refuse tokens, numbers without a canonical form, and depths that nobody means.

    Raises:
        InvalidInputError: says where, and what to write instead.
    """
    if len(path) > DEPTH_MAX:
        raise text.fault(f"This is nested more than {DEPTH_MAX} deep.", path)
    if isinstance(value, dict):
        for key, one in value.items():
            check_values(one, text, (*path, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            check_values(one, text, (*path, number))
    elif isinstance(value, str):
        if _TOKENS.search(value):
            raise text.fault(
                "This looks like a secret, and the file is read by everybody who reads the repository.", path,
                hint="Revoke it, keep the new one in an environment variable, and name that (secret_env, url_env).",
            )  # fmt: skip
        if "\0" in value:
            raise text.fault("Text cannot hold the character zero.", path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise text.fault(f"{value} is no number that can be kept.", path)
    elif isinstance(value, int) and abs(value) > _WHOLE_MAX:
        raise text.fault("Whole numbers lie within 2^53.", path, hint="Write it as text.")


def secret_part(url: str) -> str | None:
    """Name the part of an address that looks like a secret, or None.

    Example:
        >>> secret_part("https://hooks.slack.com/services/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")
        'the path'
        >>> secret_part("https://ci.example.com/hooks/flight-delay-retraining") is None
        True
    """
    try:
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            return "the user's name"
    except ValueError:
        return None
    for name, given in parse_qsl(parts.query, keep_blank_values=False):
        if _SECRET_NAMES.search(name) or _looks_random(given):
            return f"the parameter {name}"
    if any(_looks_random(segment) for segment in parts.path.split("/")):
        return "the path"
    return None


def _looks_random(text: str) -> bool:
    """Long, of many different characters, and hardly any words: nobody chose it."""
    if len(text) < _RANDOM_CHARACTERS_MIN:
        return False
    bits = -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
    in_words = sum(len(word) for word in _WORDS.findall(text))
    return bits >= _RANDOM_BITS_MIN and in_words < len(text) / 2 and bool(re.search(r"[0-9A-Z]", text))
