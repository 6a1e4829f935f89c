"""What the known kinds of evidence and the other facts of a release look like: policies are checked against these.

Evidence of an unknown kind is kept too; rules reach it as `evidence["kind"]`, without types.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

import msgspec

from everline.errors import InvalidInputError
from everline.governance.cel.kinds import DYN, TIMESTAMP, Kind, kind_of_struct, list_of, map_of


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of merit on one set of rows; a name of one's own is reached as `metrics["name"]`."""

    OPEN_NUMBERS: ClassVar[bool] = True

    auc: float | None = None
    log_loss: float | None = None
    brier: float | None = None
    calibration_error: float | None = None
    error_rate: float | None = None
    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    average_precision: float | None = None
    base_rate: float | None = None
    mean_prediction: float | None = None
    rmse: float | None = None
    mae: float | None = None
    r2: float | None = None


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The same figures on the rows where one feature has one value."""

    by: str
    value: Any
    n: int
    metrics: Metrics


class EvaluationBody(msgspec.Struct, frozen=True, kw_only=True):
    """`evaluation`: one model version on one dataset version."""

    metrics: Metrics
    dataset: str | None = None
    digest: str | None = None
    n: int | None = None
    slices: list[Slice] = []


class ComparedSlice(msgspec.Struct, frozen=True, kw_only=True):
    """The same comparison on the rows where one column has one value; the intervals of all slices hold together."""

    by: str
    value: str
    n: int
    difference: float
    low: float
    high: float
    verdict: str


class ComparisonBody(msgspec.Struct, frozen=True, kw_only=True):
    """`comparison`: challenger against champion on the same rows, with an interval."""

    champion: str
    metric: str
    low: float
    high: float
    challenger: str | None = None
    n: int | None = None
    champion_value: float | None = None
    challenger_value: float | None = None
    difference: float | None = None
    level: float | None = None
    method: str | None = None
    verdict: str | None = None
    slices: list[ComparedSlice] = []
    worse_slices: int | None = None
    certificate: str | None = None
    digest: str | None = None


class BacktestBody(msgspec.Struct, frozen=True, kw_only=True):
    """`backtest`: a candidate asked again what an endpoint was asked; `verdict` is `no outcomes` without any."""

    endpoint: str
    n: int
    flipped: int
    flipped_share: float
    verdict: str
    metric: str | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    worse_slices: int | None = None
    certificate: str | None = None
    digest: str | None = None


class ExplanationBody(msgspec.Struct, frozen=True, kw_only=True):
    """`explanation`: what moved a metric since another run; `shares` are by part, in the metric's unit."""

    metric: str
    before: str
    finding: str
    change: float | None = None
    shares: dict[str, float] = {}
    certificate: str | None = None
    digest: str | None = None


class LineageBody(msgspec.Struct, frozen=True, kw_only=True):
    """`lineage`: what is recorded of how the model came to be."""

    run: str | None = None
    code_recorded: bool | None = None
    environment_recorded: bool | None = None
    data_recorded: bool | None = None
    seed_recorded: bool | None = None
    data_age_days: float | None = None


class SignatureBody(msgspec.Struct, frozen=True, kw_only=True):
    """`signature`: whether every file of the package is what was signed."""

    verified: bool
    key: str | None = None


class ReproductionBody(msgspec.Struct, frozen=True, kw_only=True):
    """`reproduction`: how far a rebuild came, L0 to L6."""

    level: str
    verdict: str
    certificate: str | None = None


class CardBody(msgspec.Struct, frozen=True, kw_only=True):
    """`card`: whether the model card is filled."""

    complete: bool
    missing: list[str] = []


class FairnessGroup(msgspec.Struct, frozen=True, kw_only=True):
    """How one group of people fares: shares of 0 to 1; a rate is left out where nobody could have it."""

    value: str
    n: int
    selection_rate: float
    true_positive_rate: float | None = None
    false_positive_rate: float | None = None


class FairnessGap(msgspec.Struct, frozen=True, kw_only=True):
    """The widest gap between two groups of one protected attribute, in the good outcome that the model decides about.

    `selection_ratio` is the lowest group's share of good outcomes by the highest's (1 is equal), `low` and `high` its
    95 % interval; `demographic_parity` the difference of those shares; `equal_opportunity` that of the shares among
    people who deserved the good outcome; `equalized_odds` the wider of that and the one among those who did not.
    """

    attribute: str
    n: int
    selection_ratio: float
    demographic_parity: float
    equal_opportunity: float | None = None
    equalized_odds: float | None = None
    low: float | None = None
    high: float | None = None
    lowest: str = ""
    highest: str = ""
    groups: list[FairnessGroup] = []


class FairnessBody(msgspec.Struct, frozen=True, kw_only=True):
    """`fairness`: how the groups of each protected attribute fare under the model's decisions at one threshold."""

    gaps: list[FairnessGap]
    threshold: float
    good: str
    """Which decision is the good one for the person: `below` or `above` the threshold."""
    attributes: list[str] = []
    n: int | None = None
    dataset: str | None = None
    digest: str | None = None


class ContractBody(msgspec.Struct, frozen=True, kw_only=True):
    """`contract`: whether the data that the model was made of keep what their contract promises."""

    holds: bool
    dataset: str | None = None
    digest: str | None = None
    violations: list[str] = []
    data_age_days: float | None = None


class ScanBody(msgspec.Struct, frozen=True, kw_only=True):
    """`scan`: what a scanner found in the package's files."""

    clean: bool
    scanner: str | None = None
    findings: list[str] = []
    formats: list[str] = []


class RiskBody(msgspec.Struct, frozen=True, kw_only=True):
    """`risk`: the risk assessment of the intended use."""

    assessed: bool
    tier: str | None = None
    """`low`, `medium` or `high`: exposure and purpose together."""
    residual_accepted: bool | None = None
    by: str | None = None
    assessed_at: datetime | None = None
    document: str | None = None


class OversightBody(msgspec.Struct, frozen=True, kw_only=True):
    """`oversight`: who watches the decisions, and can stop or overrule them."""

    human_review: bool
    can_override: bool | None = None
    can_stop: bool | None = None
    responsible: str | None = None


class MonitoringBody(msgspec.Struct, frozen=True, kw_only=True):
    """`monitoring`: what will be watched once the model answers."""

    planned: bool
    drift: bool | None = None
    quality: bool | None = None
    responsible: str | None = None


class ValidationBody(msgspec.Struct, frozen=True, kw_only=True):
    """`validation`: the finding of people who did not build the model."""

    independent: bool
    by: str | None = None
    at: datetime | None = None
    open_findings: int | None = None
    conceptual_soundness: bool | None = None
    document: str | None = None


class PrivacyBody(msgspec.Struct, frozen=True, kw_only=True):
    """`privacy`: what data protection law asks before a decision about a person is left to a model."""

    impact_assessed: bool | None = None
    legal_basis: str | None = None
    """For a decision by automated means alone: `contract`, `law` or `consent`; `not solely automated` else."""
    contestable: bool | None = None
    explainable: bool | None = None
    special_categories: bool | None = None
    document: str | None = None


class ModelFact(msgspec.Struct, frozen=True, kw_only=True):
    """The model version that is to be released; inputs and outputs are the names in its signature."""

    subject: str
    name: str = ""
    inputs: list[str] = []
    outputs: list[str] = []


class ReleaseFact(msgspec.Struct, frozen=True, kw_only=True):
    """The release itself."""

    subject: str = ""
    digest: str = ""
    endpoint: str = ""
    authors: list[str] = []


class ChampionFact(msgspec.Struct, frozen=True, kw_only=True):
    """What answers the endpoint now; null for a first release."""

    model: str
    version: int
    package: str
    name: str
    """`model/version`."""


class ApprovalFact(msgspec.Struct, frozen=True, kw_only=True):
    """One person's word on exactly this release."""

    person: str
    person_name: str
    decision: str
    meaning: str
    roles: list[str]
    at: datetime


class WaiverFact(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that a person has set aside for exactly this release, for a while."""

    policy: str
    rule: str
    reason: str
    owner: str
    person: str
    person_name: str
    expires_at: datetime


class ChangeFact(msgspec.Struct, frozen=True, kw_only=True):
    """What a release changes against the champion, by the digests and words of both packages; null at a first one."""

    same_model: bool
    same_flavor: bool
    same_inputs: bool
    same_outputs: bool
    same_target: bool
    same_code: bool | None = None
    same_environment: bool | None = None
    same_data: bool | None = None


BODIES: dict[str, type[msgspec.Struct]] = {
    "evaluation": EvaluationBody,
    "comparison": ComparisonBody,
    "backtest": BacktestBody,
    "explanation": ExplanationBody,
    "lineage": LineageBody,
    "signature": SignatureBody,
    "reproduction": ReproductionBody,
    "card": CardBody,
    "fairness": FairnessBody,
    "contract": ContractBody,
    "scan": ScanBody,
    "risk": RiskBody,
    "oversight": OversightBody,
    "monitoring": MonitoringBody,
    "validation": ValidationBody,
    "privacy": PrivacyBody,
}
"""The known kinds of evidence."""

_comparison = kind_of_struct(ComparisonBody, name="comparison")

SCOPE: dict[str, Kind] = {kind: kind_of_struct(body, name=kind) for kind, body in BODIES.items()} | {
    "comparisons": list_of(_comparison),
    "model": kind_of_struct(ModelFact, name="model"),
    "release": kind_of_struct(ReleaseFact, name="release"),
    "champion": kind_of_struct(ChampionFact, name="champion"),
    "approvals": list_of(kind_of_struct(ApprovalFact, name="approval")),
    "waivers": list_of(kind_of_struct(WaiverFact, name="waiver")),
    "change": kind_of_struct(ChangeFact, name="change"),
    "evidence": map_of(DYN),
    "now": TIMESTAMP,
}
"""Every fact that a rule may speak of, and its kind."""


def check_body(kind: str, body: dict[str, Any]) -> None:
    """Hold the body of known evidence to its form.

    Raises:
        InvalidInputError: a field is missing or of another type; says which.
    """
    known = BODIES.get(kind)
    if known is None:
        return
    try:
        msgspec.convert(body, known)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        field = where.rstrip("`").lstrip(".") or None
        raise InvalidInputError(
            f"This is not evidence of the kind {kind!r}: {message}" + (f" (at {field})." if field else "."),
            hint=f"Its form is described in docs/governance.md under {kind!r}; other kinds may have any form.",
            field=field,
        ) from None
