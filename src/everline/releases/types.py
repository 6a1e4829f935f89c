"""Values of releases. Light on purpose: the SDK imports this module."""

from __future__ import annotations

from datetime import datetime

import msgspec

from everline.governance.types import Approval, GateState, Verdict
from everline.releases.states import Move, State
from everline.serving.types import RevisionRole


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a release reaches all traffic.

    Attributes:
        canary_share: part of the requests that the canary answers, 0 to 0.5; 0 means no canary. The first
            release of an endpoint has nothing to stand beside, and is promoted without one.
    """

    canary_share: float = 0.1


class CreateRelease(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends to open a release.

    Attributes:
        version: a number, `@alias` or `latest`.
        plan: None follows the endpoint's own.
    """

    endpoint: str
    model: str
    version: int | str
    plan: Plan | None = None


class Decide(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends with a decision: what it means (author, reviewer, validator, owner), and why."""

    meaning: str = "reviewer"
    reason: str = ""


class Champion(msgspec.Struct, frozen=True, kw_only=True):
    """The model version that answers an endpoint now, which a release is to replace."""

    model: str
    version: int
    package: str
    revision: str
    release: str


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate says of a version before anybody opened a release.

    Attributes:
        champion: what answers the endpoint now; None for nothing.
        live: the version's package is what answers already, so that there is nothing to release.
        verdicts: each policy in force that speaks of this, clause by clause; no approval is given yet.
    """

    endpoint: str
    model: str
    version: int
    champion: Champion | None
    live: bool
    gate: GateState
    verdicts: list[Verdict]


class EvidenceRef(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of evidence that a check looked at, by the digest of its content."""

    uid: str
    kind: str
    digest: str
    at: datetime


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One judgement of a release: every policy's clauses with the values they saw, and what they saw them in.

    Attributes:
        gate: what all verdicts together allow.
        champion: what answered the endpoint at that moment.
    """

    uid: str
    at: datetime
    by_name: str
    gate: GateState
    verdicts: list[Verdict]
    evidence: list[EvidenceRef]
    champion: Champion | None


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One move of a release, and who made it."""

    at: datetime
    actor: str
    actor_name: str
    move: Move
    before: State
    after: State
    reason: str


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """The act of bringing one model version to one endpoint.

    Attributes:
        model_version: uid of the version; evidence is attached to `model-version:<uid>`.
        package: digest of the exact package.
        author: uid of the model version's author, who may not approve; nor may `created_by`.
        digest: of what is asked for (endpoint, version, package, plan, author, champion): what approvals bind to.
        champion: what answered the endpoint when the release was last checked.
        revision: the revision that serves it, from its first traffic on.
        next: the moves that can be asked for now.
        check: the newest judgement; None in a list.
    """

    uid: str
    project: str
    endpoint: str
    model: str
    version: int
    model_version: str
    package: str
    signature: str
    author: str
    author_name: str
    created_by: str
    created_by_name: str
    created_at: datetime
    updated_at: datetime
    plan: Plan
    digest: str
    state: State
    champion: Champion | None
    revision: str | None
    next: list[Move]
    check: Check | None = None
    approvals: list[Approval] = []
    history: list[Transition] = []

    @property
    def subject(self) -> str:
        """The release's name in governance."""
        return f"release:{self.uid}"


class LiveAt(msgspec.Struct, frozen=True, kw_only=True):
    """What answered an endpoint at a moment, who allowed it, and on what evidence.

    Attributes:
        since: when this revision got this share; `until` is when it lost it, None if it still holds.
        approvals: the people's decisions known at that moment.
        check: the judgement in force at that moment, with policy and evidence digests.
        moved: the move that put it live.
    """

    project: str
    endpoint: str
    at: datetime
    role: RevisionRole
    share: float
    since: datetime
    until: datetime | None
    revision: str
    release: str
    model: str
    version: int
    model_version: str
    package: str
    author_name: str
    approvals: list[Approval]
    check: Check | None
    moved: Transition | None


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What one revision has done since the canary began.

    Attributes:
        n: predictions logged.
        requests: requests that its replicas report since their start, with `errors` among them.
        p50_ms: latency of the logged predictions.
        n_outcomes: predictions with a known outcome, on which error rate and log loss rest.
    """

    revision: str
    model: str
    version: int
    share: float
    n: int
    requests: int
    errors: int
    p50_ms: float | None = None
    p95_ms: float | None = None
    mean_probability: float | None = None
    n_outcomes: int = 0
    error_rate: float | None = None
    log_loss: float | None = None


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """A canary beside its champion, so far.

    Attributes:
        log_loss_difference: canary minus champion, on different rows that chance divided; `low` and `high`
            are its 95 % interval (Welch). None until both have 30 outcomes.
        text: what the numbers say, in one sentence.
    """

    release: str
    endpoint: str
    since: datetime
    canary: Side
    champion: Side
    log_loss_difference: float | None = None
    low: float | None = None
    high: float | None = None
    text: str = ""
