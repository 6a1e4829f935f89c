"""Counts the people who said yes, as a policy asks for them.

The rules that hold here:
    1. Nobody counts twice, and the author never.
    2. A yes given in a role counts for one seat of the quorum, whatever other roles the person holds.
    3. A yes older than the policy allows is void; a no never grows old.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from everline.governance.document import Approvals
from everline.governance.types import ApprovalVerdict, Outcome


def count(wanted: Approvals, facts: Mapping[str, Any]) -> ApprovalVerdict:
    """Say how far the people have come.

    Args:
        facts: with `approvals`, `release.authors` and `now`, as `policies.gather` gives them.
    """
    counted = _counted(wanted, facts)
    no = [item for item in counted if item["decision"] == "reject"]
    yes = [item for item in counted if item["decision"] == "approve"]
    fresh = [item for item in yes if _valid(item, wanted, facts)]
    number = len({item["person"] for item in fresh}) if wanted.distinct else len(fresh)
    missing = _missing(wanted, fresh)
    enough = number >= wanted.count and not missing
    return ApprovalVerdict(
        required=max(wanted.count, sum(wanted.quorum.values())),
        given=number,
        roles=wanted.roles or list(wanted.quorum),
        outcome=Outcome.FAIL if no else Outcome.PASS if enough else Outcome.UNKNOWN,
        text=f"rejected by {no[0]['person_name']}"
        if no
        else _text(wanted, number, missing, expired=len(yes) - len(fresh)),
        by=[item["person_name"] for item in (no or fresh)],
    )


def _counted(wanted: Approvals, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    authors = set((facts.get("release") or {}).get("authors") or []) if wanted.not_author else set()
    return [
        item
        for item in facts.get("approvals") or []
        if item["person"] not in authors
        and item["meaning"] != "author"
        and (not wanted.roles or set(wanted.roles) & set(item["roles"]))
    ]


def _valid(item: Mapping[str, Any], wanted: Approvals, facts: Mapping[str, Any]) -> bool:
    if wanted.valid_days is None:
        return True
    try:
        given, now = (msgspec.convert(text, datetime) for text in (item["at"], facts["now"]))
    except (KeyError, msgspec.ValidationError):
        return False  # when it was given is not known, so neither is whether it still counts
    return now - given <= timedelta(days=wanted.valid_days)


def _missing(wanted: Approvals, yes: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the yeses do not cover: seats of the quorum, and capacities."""
    people: dict[str, set[str]] = {}
    for item in yes:
        people.setdefault(item["person"], set()).update(item["roles"])
    seats = [role for role, number in sorted(wanted.quorum.items()) for _ in range(number)]
    taken = _seat(seats, people)
    meanings = {item["meaning"] for item in yes}
    return [seats[place] for place in range(len(seats)) if place not in taken] + [
        f"one as {meaning}" for meaning in wanted.meanings if meaning not in meanings
    ]


def _seat(seats: Sequence[str], people: Mapping[str, set[str]]) -> dict[int, str]:
    """Give as many seats as can be to different people (Kuhn's augmenting paths); place -> person."""
    taken: dict[int, str] = {}

    def find(person: str, tried: set[int]) -> bool:
        for place, role in enumerate(seats):
            if role in people[person] and place not in tried:
                tried.add(place)
                if place not in taken or find(taken[place], tried):
                    taken[place] = person
                    return True
        return False

    for person in sorted(people):
        find(person, set())
    return taken


def _text(wanted: Approvals, number: int, missing: Sequence[str], *, expired: int) -> str:
    roles = " or ".join(wanted.roles) or "anyone who may approve"
    text = f"{number} of {wanted.count} approvals by {roles}" + (", not the author" if wanted.not_author else "")
    if missing and (wanted.quorum or wanted.meanings):
        text += f"; missing: {', '.join(missing)}"
    if expired:
        text += f"; {expired} expired after {wanted.valid_days:g} days"
    return text
