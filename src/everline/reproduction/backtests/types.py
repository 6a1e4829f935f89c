"""Values of backtests. Light."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from everline.models.types import Comparison, SliceComparison

FLIPS_TOLD_MAX = 1_000


class Backtest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends: which predictions a candidate was asked again, and its answers.

    Attributes:
        predictions: ids, in the order of the answers.
        outputs: the candidate's answers by output.
        refused: why the candidate could not be asked some predictions, by id.
        slices: inputs of the predictions by whose values the comparison is divided.
        by_day: rows of one day (of the event, else of the answer) depend on each other.
    """

    endpoint: str
    model: str
    version: int | str
    predictions: list[str]
    outputs: dict[str, list[Any]]
    refused: dict[str, str] = {}
    metric: str = "log_loss"
    slices: list[str] = []
    by_day: bool = True
    since: datetime | None = None
    until: datetime | None = None
    certify: bool = True


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction that the candidate would have answered with another label.

    Attributes:
        before, after: the labels, of which `probability_before` and `probability_after` are the probabilities.
        outcome: the true one, if it is known.
    """

    prediction: str
    at: datetime
    before: Any
    after: Any
    probability_before: float | None = None
    probability_after: float | None = None
    outcome: Any = None


class FlipCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many predictions went from one label to another.

    Attributes:
        known: how many of them have an outcome; `right` of these the candidate has right, `wrong` the answer given had.
    """

    before: Any
    after: Any
    count: int
    known: int = 0
    right: int = 0
    wrong: int = 0


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """How far a number that is answered would move.

    Attributes:
        mean: mean of candidate minus logged, with its 95 % interval over rows (or days).
        largest: the greatest distance between the two.
    """

    output: str
    mean: float
    low: float
    high: float
    largest: float


class BacktestReport(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate held against what was answered.

    Attributes:
        n: predictions that both answered; `refused` could not be asked, with an example of why.
        answered_by: the versions that gave the logged answers, with how many each.
        flipped: how many get another label, with the interval of their share.
        mcnemar_p: two-sided exact McNemar test of the labels, where the outcome is known; None without outcomes.
        comparison: champion (what was answered) against candidate on the rows with a known outcome; None if too few.
        why_no_comparison: one sentence, if there is none.
        flips: at most 1,000, those whose probability moved most first.
    """

    endpoint: str
    model: str
    version: int
    package: str
    n: int
    refused: int = 0
    why_refused: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    answered_by: dict[str, int] = {}
    flipped: int = 0
    flipped_low: float | None = None
    flipped_high: float | None = None
    counts: tuple[FlipCount, ...] = ()
    shifts: tuple[Shift, ...] = ()
    known: int = 0
    mcnemar_p: float | None = None
    comparison: Comparison | None = None
    why_no_comparison: str | None = None
    slices: tuple[SliceComparison, ...] = ()
    flips: tuple[Flip, ...] = ()
    certificate: str | None = None
