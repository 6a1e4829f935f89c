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


class ModelFact(msgspec.Struct, frozen=True, kw_only=True):
    """The model version that is to be released."""

    subject: str
    name: str = ""


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


BODIES: dict[str, type[msgspec.Struct]] = {
    "evaluation": EvaluationBody,
    "comparison": ComparisonBody,
    "backtest": BacktestBody,
    "explanation": ExplanationBody,
    "lineage": LineageBody,
    "signature": SignatureBody,
    "reproduction": ReproductionBody,
    "card": CardBody,
}
"""The known kinds of evidence."""

_comparison = kind_of_struct(ComparisonBody, name="comparison")

SCOPE: dict[str, Kind] = {kind: kind_of_struct(body, name=kind) for kind, body in BODIES.items()} | {
    "comparisons": list_of(_comparison),
    "model": kind_of_struct(ModelFact, name="model"),
    "release": kind_of_struct(ReleaseFact, name="release"),
    "champion": kind_of_struct(ChampionFact, name="champion"),
    "approvals": list_of(kind_of_struct(ApprovalFact, name="approval")),
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
