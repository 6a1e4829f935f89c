"""Values of releases. Light on purpose: the SDK imports this module."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from everline.governance.types import Approval, ClauseVerdict, GateState, Verdict, Waiver
from everline.releases.states import Move, State
from everline.serving.types import RevisionRole


class Guards(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must hold while a canary answers; `releases/guards.py` says how each is judged.

    Attributes:
        requests_min: requests of this step that the canary must have answered before any guard speaks.
        error_rate_over: by how much the canary's share of failed requests may exceed the champion's, 0 to 1.
        error_rate_max: largest share of its requests that may fail, whatever the champion does; None for no limit.
        p99_ratio_max: largest p99 latency, in multiples of the champion's; None for no limit.
        p99_ms_max: largest p99 latency in milliseconds; None for no limit.
        drift: whether the canary's predictions may not drift from the champion's.
        quality: whether its loss may not be shown to be worse, once outcomes come; missing ones hold nothing up.
    """

    requests_min: int = 100
    error_rate_over: float = 0.01
    error_rate_max: float | None = None
    p99_ratio_max: float | None = 2.0
    p99_ms_max: float | None = None
    drift: bool = True
    quality: bool = True


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a release reaches all traffic.

    Attributes:
        canary_share: part of the requests that the canary answers, 0 to 0.5; 0 means no canary. The first
            release of an endpoint has nothing to stand beside, and is promoted without one.
        steps: shares and times, such as `5% 10 min → 25% → 100%`: the release goes on by itself while its guards
            hold, and is rolled back by itself when one does not. Without them a person promotes.
        guards: what must hold; of a plan with steps and none, the defaults; of one without steps, they only watch.
    """

    canary_share: float = 0.1
    steps: str | msgspec.UnsetType = msgspec.UNSET
    guards: Guards | msgspec.UnsetType = msgspec.UNSET


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


class Waive(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends to set a rule of a policy aside for a release."""

    policy: str
    rule: str
    reason: str
    expires_at: datetime
    owner: str = ""


class Revoke(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends to take a waiver back."""

    reason: str


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """The review of a release that went live past its policies.

    Attributes:
        reason: what made it an emergency, in the words of who broke the glass.
        finding: what the reviewer found; None while it is open.
    """

    uid: str
    project: str
    endpoint: str
    release: str
    reason: str
    opened_by: str
    opened_by_name: str
    opened_at: datetime
    closed_by: str | None = None
    closed_by_name: str | None = None
    closed_at: datetime | None = None
    finding: str | None = None


class BreakGlass(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends to break the glass: what makes it an emergency."""

    reason: str


class CloseReview(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends to close a review: what was found."""

    finding: str


class ChangeClass(StrEnum):
    """How much a release changes, after Annex IV, 2(f) of the EU AI Act."""

    PRE_DETERMINED = "pre-determined"
    MINOR = "minor"
    SUBSTANTIAL = "substantial"


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """The policy that foresaw a change, and what its clauses saw."""

    policy: str
    version: int
    digest: str
    clauses: list[ClauseVerdict]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The class of a change, with its proof.

    Attributes:
        same: what both packages have in common, by name; None where one of them does not say.
        foreseen: for a pre-determined change, the policy that foresaw it.
    """

    kind: ChangeClass
    same: dict[str, bool | None]
    why: str
    foreseen: Foreseen | None = None


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
    change: Change | None = None


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One move of a release, and who made it."""

    at: datetime
    actor: str
    actor_name: str
    move: Move
    before: State
    after: State
    reason: str


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one guard said when it looked last.

    Attributes:
        verdict: `holds`, `broken`, or `unclear` while there is too little to say.
        value: what was measured, in the guard's unit; `limit` is what it may be at most.
        n: the canary's requests, rows or outcomes behind it.
    """

    guard: str
    verdict: str
    value: float | None
    limit: float | None
    n: int
    text: str


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """How far a release with steps or guards has come.

    Attributes:
        status: `advancing`; `paused` by a person; `stalled` by what `problem` says; `ended`.
        step: which of `steps`, from 1.
        share: what the canary answers by the step; a person may have lowered it since.
        since: when the step began, by the control plane's clock; `hold_s` is how long it lasts at least.
        readings: what each guard said at `looked_at`.
    """

    status: str
    step: int
    steps: int
    share: float
    since: datetime
    hold_s: float
    looked_at: datetime | None
    readings: list[Reading]
    problem: str = ""


class SetShare(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends to move a canary's share of the requests, above 0 and below 1, by hand."""

    share: float
    reason: str = ""


class StartShadow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends to start a shadow: the share of the requests that it is asked too, above 0 to 1."""

    share: float = 1.0


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
        rollout: how far its plan has come; None before its canary, and without steps and guards.
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
    rollout: Rollout | None = None
    check: Check | None = None
    approvals: list[Approval] = []
    waivers: list[Waiver] = []
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
    waivers: list[Waiver]
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


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One side of an experiment.

    Attributes:
        rows: what it answered; `units` are the keys, else the requests, that they belong to.
        n: units with a value of the metric; `mean` is theirs.
    """

    revision: str
    model: str
    version: int
    share: float
    rows: int
    units: int
    n: int
    mean: float | None = None


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """Two revisions that answered different units which chance divided.

    Attributes:
        metric: `outcome`, `loss`, or the name of an output.
        unit: `key` or `request`: what chance divided.
        since: when the shares became what they are.
        difference: canary minus primary; `low` and `high` are its 95 % interval. None with too few units.
        method: `newcombe` for shares of yes, `welch` for means.
        ratio_p_value: of "units were divided by the shares"; below 0.001 nothing else here can be believed.
        verdict: `higher`, `lower`, `no difference shown`, `too few`, or `divided otherwise`.
    """

    endpoint: str
    metric: str
    unit: str
    since: datetime
    primary: Arm
    canary: Arm
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    method: str | None = None
    ratio_p_value: float | None = None
    verdict: str = "too few"
    text: str = ""


class OutputDifference(msgspec.Struct, frozen=True, kw_only=True):
    """What a shadow said of one output, beside what was answered, row by row.

    Attributes:
        mean, largest: of the absolute difference; None for an output that is no number.
    """

    output: str
    rows: int
    equal: int
    mean: float | None = None
    largest: float | None = None


class ShadowRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row on which a shadow disagreed."""

    prediction: str
    shadow: str
    output: str
    answered: float | bool | str | None
    said: float | bool | str | None


class ShadowComparison(msgspec.Struct, frozen=True, kw_only=True):
    """A shadow beside what was answered, on the same rows.

    Attributes:
        unanswered: rows of the shadow whose answer has not shipped, or is beyond the rows that are read.
        furthest: rows on which the two differ most, the furthest first.
    """

    endpoint: str
    revision: str
    model: str
    version: int
    since: datetime
    rows: int
    unanswered: int
    outputs: list[OutputDifference]
    furthest: list[ShadowRow]
