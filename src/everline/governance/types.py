"""Values of governance, light enough for SDK and CLI."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

BASELINE = "baseline"
"""The policy that every project starts with."""


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One leaf of the audit log, with its place in it."""

    index: int
    schema: int
    at: str
    """RFC 3339, UTC, as the writer's clock had it; the order of events is their index."""
    actor: str
    actor_name: str
    action: str
    """`<word>.<verb>`, such as `release.promote`."""
    subject: str
    """`<kind>:<uid or name>`."""
    project: str
    """The project's name, or `*` for what belongs to the server."""
    data: dict[str, Any]


class InclusionProof(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an outsider needs, beside the public key, to see that an event is in the log."""

    schema: int = 1
    index: int
    size: int
    leaf: str
    """The event as canonical JSON: exactly the bytes that are hashed."""
    path: list[str]
    """Sibling hashes from the leaf up, hexadecimal."""
    checkpoint: str
    """The signed note whose root the path leads to."""


class KeyRotation(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the server's key, by both public keys in text."""

    previous: str
    next: str
    reason: str
    at: datetime


class LogProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a log, and where."""

    index: int | None
    what: str
    """removed, altered, reordered, invented, truncated, rewritten, unsigned or malformed."""
    detail: str


class LogReport(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of checking a log against its signatures."""

    verified: bool
    size: int
    root: str
    """Of the events that were found, hexadecimal."""
    checkpoint_size: int
    """How many events the newest checked signature covers."""
    checkpoints: int
    """Signed roots that were checked."""
    key: str
    problems: list[LogProblem] = []
    witnessed: int = 0
    """How many events the newest checkpoint covers that every given witness cosigned."""


class CheckpointInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A signed root of the log."""

    size: int
    root: str
    note: str
    at: datetime | None = None


class Outcome(StrEnum):
    """What a rule says: missing evidence is `unknown`, and unknown blocks."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    UNKNOWN = "unknown"


class GateState(StrEnum):
    """What all verdicts together allow."""

    OPEN = "open"
    AWAITING_APPROVAL = "awaiting_approval"
    REJECTED = "rejected"
    BLOCKED = "blocked"


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """A fact about a subject, kept as it was given."""

    uid: str
    subject: str
    project: str
    kind: str
    body: dict[str, Any]
    digest: str
    at: datetime
    actor: str
    actor_name: str


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A value that a clause looked at."""

    path: str
    value: Any
    missing: bool = False


class ClauseVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One `&&` part of a rule: its text, what it says, and what it saw."""

    text: str
    outcome: Outcome
    values: list[Seen]
    note: str | None = None


class Waived(msgspec.Struct, frozen=True, kw_only=True):
    """Who set a rule aside, why, who answers for it, and until when."""

    uid: str
    by: str
    owner: str
    reason: str
    expires_at: datetime


class RuleVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of a policy, judged."""

    name: str
    reason: str
    expression: str
    outcome: Outcome
    clauses: list[ClauseVerdict]
    source: str = ""
    waiver: Waived | None = None
    """Set where the rule does not pass and somebody let it pass all the same; the outcome stays what it is."""

    @property
    def stands(self) -> bool:
        """Whether this rule lets the release through: it passes, or is waived."""
        return self.outcome is Outcome.PASS or self.waiver is not None


class ApprovalVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """How far the people have come."""

    required: int
    given: int
    roles: list[str]
    outcome: Outcome
    """fail: somebody said no."""
    text: str
    by: list[str] = []


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One policy, judged on one set of facts."""

    policy: str
    version: int
    title: str
    reason: str
    digest: str
    """Of the policy's text, so that nobody can say later that it read otherwise."""
    outcome: Outcome
    """Of the rules alone; the people's part is in `approvals`."""
    rules: list[RuleVerdict]
    approvals: ApprovalVerdict | None = None


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a policy that one person asked for; another one puts it into force by asking for the same."""

    version: int | None
    """None to take the policy out of force."""
    by: str
    reason: str
    at: datetime


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a policy foresaw a change, and what its clauses saw."""

    policy: str
    version: int
    digest: str
    holds: bool
    clauses: list[ClauseVerdict]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a policy, as it was saved."""

    uid: str
    project: str
    name: str
    version: int
    title: str
    reason: str
    action: str
    digest: str
    source: str
    active: bool
    rules: int
    at: datetime
    actor_name: str
    proposal: Proposal | None = None
    """A change of what is in force that waits for a second person."""


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """One of a policy's own test cases, run."""

    name: str
    expected: Outcome
    found: Outcome
    passed: bool
    rules: list[RuleVerdict] = []


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A person's yes or no to exactly one digest."""

    uid: str
    project: str
    subject: str
    digest: str
    decision: str
    meaning: str
    reason: str
    person: str
    person_name: str
    roles: list[str]
    at: datetime
    statement: str
    """Digest of the signed DSSE envelope, kept as a blob."""


class Waiver(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that a person set aside for exactly one digest, until a time."""

    uid: str
    project: str
    subject: str
    digest: str
    policy: str
    rule: str
    reason: str
    owner: str
    """Who answers for mending what the rule asks for."""
    person: str
    person_name: str
    at: datetime
    expires_at: datetime
    statement: str
    """Digest of the signed DSSE envelope, kept as a blob."""
    revoked_at: datetime | None = None
    revoked_by: str | None = None
