"""The rungs of a certificate: what each level means, whether it was earned, and by what or why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

_MEANING = {
    "L0": ("Recorded", "code, data, parameters and environment are recorded, and every byte of them is there"),
    "L1": ("Rebuildable", "the rebuild ran in the recorded environment, distribution by distribution"),
    "L2": ("Re-runnable", "the run finished again from its record alone"),
    "L3": ("Statistically equal", "results lie where repetitions of the run lie"),
    "L4": ("Equal within tolerance", "every table, array and value is within 1e-9 of the recorded one"),
    "L5": ("Bit-equal", "every output has the recorded digest"),
    "L6": ("Bit-equal elsewhere", "the same bits on a machine of another class"),
    "P0": ("Logged", "the prediction is in the log, and its segment is what its digest says"),
    "P1": ("Traced", "release and revision are known; the package is intact and signed"),
    "P2": ("Equal within tolerance", "every number is within 1e-9 of the logged one"),
    "P3": ("Bit-equal", "every output has the logged bits"),
    "P4": ("Proved outside", "an outsider repeated it from an exported bundle"),
}


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One level. `state` is `earned`, `missed` (the first that was not), or `beyond`: it needs that one.

    Attributes:
        word: the state in words.
        reached: whether this is the level of the certificate.
    """

    level: str
    name: str
    state: str
    word: str
    reason: str
    reached: bool = False


def rungs(predicate: Mapping[str, Any]) -> list[Rung]:
    """The ladder of a statement, the highest level first, as ladders stand; empty for statements of other kinds."""
    facts = predicate.get("everline") or {}
    passed, failed = _texts(predicate.get("passedTests")), _texts(predicate.get("failedTests"))
    reasons = {
        str(one.get("level")): str(one.get("reason") or "")
        for one in facts.get("levels") or []
        if isinstance(one, Mapping)
    }
    found: list[Rung] = []
    missed: str | None = None
    for level in sorted({*passed, *failed} & _MEANING.keys()):
        name, meaning = _MEANING[level]
        earned = level in passed
        state = "beyond" if missed else "earned" if earned else "missed"
        word = "earned" if state == "earned" else f"holds, but {missed} is missing" if earned else "not earned"
        reached = state == "earned" and level == facts.get("level")
        found.append(
            Rung(level=level, name=name, state=state, word=word, reason=reasons.get(level) or meaning, reached=reached)
        )
        missed = missed or (None if earned else level)
    return found[::-1]


def _texts(given: Any) -> Sequence[str]:
    return [str(one) for one in given] if isinstance(given, list) else []
