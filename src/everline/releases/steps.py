"""The steps of a rollout as people write them: `5% 10 min → 25% → 100%`. Light on purpose."""

from __future__ import annotations

import re

import msgspec

from everline.errors import InvalidInputError

STEPS_MAX = 20
HOLD_S_MAX = 30 * 24 * 3600
HOLD_S_DEFAULT = 600.0
_HINT = "Write it like '5% 10 min → 25% 1 h → 100%'; the times are s, min, h or d."
_STEP = re.compile(r"(\d{1,3}(?:\.\d{1,4})?)\s*%(?:\s*(?:for\s+)?(\d{1,7}(?:\.\d{1,3})?)\s*(s|m|min|h|d))?")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a rollout.

    Attributes:
        share: part of the requests that the canary answers, above 0 to 1; 1 is the promotion.
        hold_s: how long the guards must hold at least before the next step.
    """

    share: float
    hold_s: float


def parse_steps(text: str) -> list[Step]:
    """Read a plan's steps; a step without a time holds as long as the one before, the first ten minutes.

    Steps are parted by `→`, `->` or a comma. A plan that does not end in 100 % leaves the promotion to a person.

    Raises:
        InvalidInputError: a step cannot be read, the shares do not grow, or the first is everything.

    Example:
        >>> [(step.share, step.hold_s) for step in parse_steps("5% 10 min → 25% → 100%")]
        [(0.05, 600.0), (0.25, 600.0), (1.0, 0.0)]
    """
    steps: list[Step] = []
    hold_s = HOLD_S_DEFAULT
    for part in re.split(r"→|->|,", text):
        found = _STEP.fullmatch(part.strip())
        if found is None:
            raise _wrong(f"The step {part.strip()[:40]!r} of the rollout cannot be read.")
        share = round(float(found[1]) / 100, 6)
        if found[2] is not None:
            hold_s = float(found[2]) * _SECONDS[found[3]]
        if not 0.0 < share <= 1.0:
            raise _wrong(f"A step cannot take {found[1]} % of the traffic.")
        if steps and share <= steps[-1].share:
            raise _wrong(f"The shares must grow: {found[1]} % does not follow {steps[-1].share:.4g}.")
        if hold_s > HOLD_S_MAX:
            raise _wrong(f"A step cannot hold for more than {HOLD_S_MAX // 86_400} days.")
        steps.append(Step(share=share, hold_s=0.0 if share == 1.0 else hold_s))
    if len(steps) > STEPS_MAX:
        raise _wrong(f"A rollout has at most {STEPS_MAX} steps.")
    if steps[0].share == 1.0:
        raise _wrong("The first step takes everything, so that nothing could be watched.")
    return steps


def _wrong(what: str) -> InvalidInputError:
    return InvalidInputError(what, hint=_HINT, field="plan.steps")
