"""The states of a release, and the only moves between them.

    draft ─check→ checking ─block→ blocked
                     │  └──ask──→ awaiting_approval ─approve→ approved ─start_canary→ canary
                     └──allow──→ approved                        └──────promote──┐      │
                                          (shadow between approved and either)    │      │
                                                                                 ▼      │
                            superseded ←supersede── promoted ←────────────────promote───┘
                                 └──restore────────────↑

    blocked, awaiting_approval and approved may be checked again; whoever may decide can reject them.
    a canary advances from share to share; canary and promoted can be rolled back; rejected and rolled_back are final.

    blocked, awaiting_approval, approved and canary may break the glass to promoted; that opens a review.

Nothing else is possible: every service function asks `after` for its next state before it changes anything.
"""

from __future__ import annotations

from enum import StrEnum

from everline.errors import ConflictError


class State(StrEnum):
    """Where a release stands."""

    DRAFT = "draft"
    CHECKING = "checking"
    BLOCKED = "blocked"
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTED = "promoted"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled_back"
    REJECTED = "rejected"


class Move(StrEnum):
    """What can happen to a release."""

    CHECK = "check"
    BLOCK = "block"
    ASK = "ask"
    ALLOW = "allow"
    APPROVE = "approve"
    REJECT = "reject"
    START_SHADOW = "start_shadow"
    START_CANARY = "start_canary"
    ADVANCE = "advance"
    BREAK_GLASS = "break_glass"
    PROMOTE = "promote"
    SUPERSEDE = "supersede"
    RESTORE = "restore"
    ROLL_BACK = "roll_back"


_OPEN = (State.BLOCKED, State.AWAITING_APPROVAL, State.APPROVED)

MOVES: dict[Move, dict[State, State]] = {
    Move.CHECK: dict.fromkeys((State.DRAFT, *_OPEN), State.CHECKING),
    Move.BLOCK: {State.CHECKING: State.BLOCKED},
    Move.ASK: {State.CHECKING: State.AWAITING_APPROVAL},
    Move.ALLOW: {State.CHECKING: State.APPROVED},
    Move.APPROVE: {State.AWAITING_APPROVAL: State.APPROVED},
    Move.REJECT: dict.fromkeys((State.CHECKING, *_OPEN), State.REJECTED),
    Move.START_SHADOW: {State.APPROVED: State.SHADOW},
    Move.START_CANARY: dict.fromkeys((State.APPROVED, State.SHADOW), State.CANARY),
    Move.ADVANCE: {State.CANARY: State.CANARY},
    Move.PROMOTE: dict.fromkeys((State.APPROVED, State.SHADOW, State.CANARY), State.PROMOTED),
    Move.BREAK_GLASS: dict.fromkeys((*_OPEN, State.SHADOW, State.CANARY), State.PROMOTED),
    Move.SUPERSEDE: {State.PROMOTED: State.SUPERSEDED},
    Move.RESTORE: {State.SUPERSEDED: State.PROMOTED},
    Move.ROLL_BACK: dict.fromkeys((State.SHADOW, State.CANARY, State.PROMOTED), State.ROLLED_BACK),
}

PENDING = frozenset({State.DRAFT, State.CHECKING, *_OPEN, State.SHADOW, State.CANARY})
"""States of a release that has not come to its end yet."""

LIVE = frozenset({State.CANARY, State.PROMOTED})
"""States in which a release answers traffic."""

_PEOPLE = (Move.CHECK, Move.APPROVE, Move.REJECT, Move.START_SHADOW, Move.START_CANARY, Move.PROMOTE, Move.ROLL_BACK)
_COMMANDS = {Move.START_SHADOW: "shadow", Move.START_CANARY: "canary", Move.ROLL_BACK: "rollback"}


def after(state: State, move: Move) -> State:
    """Return the state that `move` leads to.

    Raises:
        ConflictError: the move is not possible from `state`; the hint names those that are.

    Example:
        >>> after(State.CANARY, Move.PROMOTE)
        <State.PROMOTED: 'promoted'>
    """
    target = MOVES[move].get(state)
    if target is None:
        possible = ", ".join(f"`everline release {command(one)}`" for one in moves_of_people(state))
        raise ConflictError(
            f"A release that is {state.value.replace('_', ' ')} cannot be changed by {command(move)!r}.",
            hint=f"Possible now: {possible}." if possible else "This state is final; open a new release.",
            field="state",
        )
    return target


def moves_of_people(state: State) -> list[Move]:
    """The moves that a person can ask for from `state`.

    Example:
        >>> [move.value for move in moves_of_people(State.CANARY)]
        ['promote', 'roll_back']
    """
    return [move for move in _PEOPLE if state in MOVES[move]]


def command(move: Move) -> str:
    """The word on the command line for a move."""
    return _COMMANDS.get(move, move.value)
