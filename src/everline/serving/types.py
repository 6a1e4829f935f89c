"""Values of serving: endpoints, revisions, what data planes report, predictions and their outcomes.

Light on purpose: no database, numpy or web framework, so that the SDK and the data plane may import it.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

import msgspec


class Guard(StrEnum):
    """What an endpoint does with a row that its signature does not allow."""

    REJECT = "reject"
    """Answer an error that names the field."""
    FLAG = "flag"
    """Answer, and mark the prediction."""
    REPAIR = "repair"
    """Mend what has one meaning, answer, and mark the prediction; refuse the rest."""


class EndpointAccess(StrEnum):
    """Who may ask an endpoint."""

    OPEN = "open"
    """Whoever reaches the data plane."""
    KEY = "key"
    """Who has one of the endpoint's API keys."""


LogSpec = Literal["full"] | float
"""Which requests are logged: all, or a share of them, chosen by the hash of the request's id."""
DurabilitySpec = Literal["every"] | float
"""When a logged row is with the kernel: before each answer leaves, or at most so many seconds later."""


class RevisionRole(StrEnum):
    """What a revision does behind its endpoint."""

    PRIMARY = "primary"
    CANARY = "canary"
    SHADOW = "shadow"
    WARM = "warm"
    """Loaded, and answers nothing: what a rollback goes back to."""


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One model version behind an endpoint, with its share of the traffic.

    Attributes:
        revision: canonical UUIDv7 text.
        package: digest of the package manifest.
        signature: digest of the blob that holds the package's DSSE signature.
        release: uid of the release that brought it here.
        share: part of the requests that it answers, 0 to 1.
        since: when it got this role and share.
        until: when it lost them; None while they hold.
    """

    revision: str
    project: str
    endpoint: str
    model: str
    version: int
    model_version: str
    package: str
    signature: str
    release: str
    role: RevisionRole
    share: float
    since: datetime
    until: datetime | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A stable prediction address.

    Attributes:
        log: `full`, or the share of the requests whose rows are logged.
        durability: `every`, or for how many seconds logged rows may be in memory only: what kill -9 can lose.
        revisions: those that answer now, the primary first; empty before the first promotion.
    """

    uid: str
    project: str
    name: str
    guard: Guard
    access: EndpointAccess = EndpointAccess.OPEN
    log: LogSpec = "full"
    durability: DurabilitySpec = "every"
    created_at: datetime
    revisions: list[Revision] = []


class CreateEndpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends to create an endpoint before its first release."""

    name: str
    guard: Guard = Guard.REJECT


class ChangeEndpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends to change an endpoint; what is left out stays."""

    guard: Guard | None = None
    access: EndpointAccess | None = None
    log: LogSpec | None = None
    durability: DurabilitySpec | None = None


class EndpointKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key of an endpoint as it is kept: its secret is not, its prefix tells it from others.

    Attributes:
        requests_per_s, requests_per_day: what its holder may ask of each data plane; None for no limit.
    """

    uid: str
    endpoint: str
    name: str
    prefix: str
    requests_per_s: float | None
    requests_per_day: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewEndpointKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key at birth: the only time its secret is shown."""

    key: EndpointKey
    secret: str


class CreateEndpointKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends to make an API key; `days` of life, None for no end."""

    name: str
    requests_per_s: float | None = None
    requests_per_day: int | None = None
    days: int | None = None


# --- desired state and health ---------------------------------------------------------------------


class DesiredRevision(msgspec.Struct, frozen=True, kw_only=True):
    """A revision as a data plane must serve it; `statement` is the signed release decision (DSSE, in-toto)."""

    revision: str
    model: str
    version: int
    package: str
    signature: str
    share: float
    role: RevisionRole
    release: str
    statement: dict[str, Any]


class DesiredKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key in force: `hash` is the SHA-256 of its secret, as `sha256:…`."""

    uid: str
    hash: str
    requests_per_s: float | None = None
    requests_per_day: int | None = None
    expires_at: datetime | None = None


class DesiredEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as a data plane must serve it.

    Attributes:
        keys: who may ask it while `access` is `key`.
        log_share: part of the requests whose rows are logged, above 0 to 1.
        durability_s: how long a logged row may be in memory only; 0 means not at all.
    """

    endpoint: str
    project: str
    guard: Guard
    revisions: list[DesiredRevision]
    access: EndpointAccess = EndpointAccess.OPEN
    keys: list[DesiredKey] = []
    log_share: float = 1.0
    durability_s: float = 0.0


class DesiredState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a data plane must serve, as of one generation."""

    generation: int
    endpoints: list[DesiredEndpoint]
    rotations: list[dict[str, Any]] = []
    """Signed statements of key rotations: they lead a data plane from the key that it pinned to the one in force."""


class RevisionHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One revision as one replica serves it; counters since the replica's start, percentiles over the window.

    Attributes:
        ready: loaded, verified and answering.
        reason: why it is not ready.
        p50_ms: latency percentiles of the last `window_s` seconds; None without a request in them.
    """

    endpoint: str
    project: str
    revision: str
    model: str = ""
    version: int = 0
    package: str = ""
    role: str = ""
    share: float = 0.0
    ready: bool = False
    reason: str | None = None
    requests: int = 0
    errors: int = 0
    flags: int = 0
    in_flight: int = 0
    window_s: float = 60.0
    window_requests: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    last_prediction_at: datetime | None = None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What one data-plane process says of itself.

    Attributes:
        replica: stable text that tells it from others, at most 128 characters.
        address: base URL of its data plane.
        at: when it was received, by the control plane's clock.
        generation: the newest desired state that it has applied.
        spool_bytes: prediction log on its disk that has not shipped yet.
        segments_refused: segments that the control plane did not take.
    """

    replica: str
    address: str | None = None
    at: datetime | None = None
    generation: int = 0
    spool_bytes: int = 0
    segments_refused: int = 0
    revisions: list[RevisionHealth] = []


class HealthSample(msgspec.Struct, frozen=True, kw_only=True):
    """One point of a revision's recent history at one replica."""

    at: datetime
    replica: str
    revision: str
    requests: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


# --- predictions ----------------------------------------------------------------------------------


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A Parquet file of logged predictions.

    Attributes:
        digest: its name in the blob store, anchored in the audit log.
        stored: False if the same bytes were there already.
    """

    digest: str
    project: str
    endpoint: str
    rows: int
    first_prediction: str
    last_prediction: str
    stored: bool = True


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One logged answer.

    Attributes:
        at: when it was answered.
        event_time: when what it is about happens, if the caller said so.
        request: the request that asked; `row` is the row in it.
        latency_us: from the request's arrival to its answer, in microseconds.
        runtime: which of the package's runtimes computed it.
        role: what its revision was then: primary, canary or shadow; empty where the log does not say.
        primary: of what a shadow said, the prediction that was answered instead.
        outcome: the true outcome, once feedback has come; `outcome_at` is when it came.
        segment: digest of the log segment that holds it.
    """

    prediction: str
    at: datetime
    event_time: datetime | None
    project: str
    endpoint: str
    revision: str
    model: str
    version: int
    package: str
    release: str
    request: str
    row: int
    latency_us: int
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    runtime: str = "native"
    role: str = ""
    primary: str | None = None
    outcome: float | bool | None = None
    outcome_at: datetime | None = None
    segment: str = ""


# --- feedback -------------------------------------------------------------------------------------


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The true outcome of one prediction: a number, or true/false."""

    prediction: str
    outcome: float | bool
    event_time: datetime | None = None


class LogFeedback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends when outcomes are known."""

    endpoint: str
    items: list[Outcome]


class FeedbackReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch of outcomes.

    Attributes:
        received: items in the batch.
        stored: predictions that had no outcome before.
        replaced: predictions whose outcome changed; the earlier one is counted and overwritten.
        unchanged: items that said again what was known.
        unmatched_yet: predictions that are in no segment so far; their outcomes are kept and join when it ships.
    """

    received: int
    stored: int
    replaced: int
    unchanged: int
    unmatched_yet: int
