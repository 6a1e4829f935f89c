"""Quality of answers whose outcomes came back: metrics per window, judged against the blocks of an evaluation.

A day's log loss depends on the day's weather, so a window is judged against the spread of the metric over the
days of the evaluation, not against the noise of single rows (see `blocks`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from everline.errors import InvalidInputError
from everline.monitoring.profiles import FloatArray
from everline.monitoring.windows.blocks import BLOCKS_MIN, Spread, judge_statistic, spread_of

ROWS_MIN = 50
_CLIP = 1e-7


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric to watch: the smallest loss worth an alarm, and the sign that makes larger worse (0: both ways)."""

    delta: float
    worse: int


METRICS: Mapping[str, Metric] = {
    "log_loss": Metric(0.01, 1),
    "error_rate": Metric(0.005, 1),
    "auc": Metric(0.01, -1),
    "calibration": Metric(0.01, 0),
    "absolute_error": Metric(0.0, 1),
    "bias": Metric(0.0, 0),
}


@dataclass(frozen=True, slots=True)
class QualityBaseline:
    """The metrics of an evaluation: over all rows, their spread over its blocks, and one row's variance."""

    values: Mapping[str, float]
    spreads: Mapping[str, Spread]
    row_variance: Mapping[str, float]
    classification: bool


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """One metric of a window: its value, the baseline's, the p-value of "not worse", and z."""

    value: float
    baseline: float
    p_value: float
    z: float


def log_loss(predicted: FloatArray, outcome: FloatArray) -> float:
    """Return the mean negative log-likelihood of binary outcomes.

    When it misleads: one sure and wrong answer outweighs many good ones; probabilities are clipped at 1e-7.

    Args:
        predicted: float64, shape (n,), probabilities of outcome 1.
        outcome: float64, shape (n,), 0 or 1.

    Returns:
        Nats per row, 0 or more.

    Source: Good (1952), Rational decisions.

    Example:
        >>> round(log_loss(np.array([0.5, 0.5]), np.array([0.0, 1.0])), 4)
        0.6931
    """
    p = np.clip(predicted, _CLIP, 1.0 - _CLIP)
    return float(-np.mean(outcome * np.log(p) + (1.0 - outcome) * np.log1p(-p)))


def auc(predicted: FloatArray, outcome: FloatArray) -> float:
    """Return the area under the ROC curve: the chance that a random 1 is ranked above a random 0, ties half.

    When it misleads: it does not see probabilities that are all too high or too low.

    Returns:
        0 to 1; NaN when all outcomes are equal.

    Source: Hanley & McNeil (1982), by the rank sum of Mann & Whitney (1947).

    Example:
        >>> auc(np.array([0.1, 0.9, 0.4]), np.array([0.0, 1.0, 0.0]))
        1.0
    """
    ones = int((outcome > 0.5).sum())
    zeros = len(outcome) - ones
    if ones == 0 or zeros == 0:
        return float("nan")
    _, place, count = np.unique(predicted, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2.0)[place]
    return float((ranks[outcome > 0.5].sum() - ones * (ones + 1) / 2.0) / (ones * zeros))


def metrics_of(predicted: FloatArray, outcome: FloatArray, *, classification: bool) -> dict[str, float]:
    """Return every metric of some answers with outcomes.

    `error_rate` counts answers on the wrong side of 0.5; `calibration` is the mean prediction less the share of
    ones (calibration in the large); `bias` is the mean prediction less the mean outcome.

    Args:
        predicted: float64, shape (n,), n at least 1, finite.
        outcome: float64, shape (n,), finite; 0 or 1 for classification.
    """
    if not classification:
        difference = predicted - outcome
        return {"absolute_error": float(np.abs(difference).mean()), "bias": float(difference.mean())}
    found = {
        "log_loss": log_loss(predicted, outcome),
        "error_rate": float(((predicted >= 0.5) != (outcome > 0.5)).mean()),
        "calibration": float(predicted.mean() - outcome.mean()),
    }
    area = auc(predicted, outcome)
    return found if np.isnan(area) else found | {"auc": area}


def prepare_quality(blocks: Sequence[tuple[FloatArray, FloatArray]]) -> QualityBaseline:
    """Prepare the baseline from an evaluation's blocks of (predictions, outcomes).

    Raises:
        InvalidInputError: fewer than `BLOCKS_MIN` blocks have enough rows.
    """
    usable = [(p, y) for p, y in blocks if len(y) >= ROWS_MIN]
    if len(usable) < BLOCKS_MIN:
        raise InvalidInputError(
            f"The evaluation has {len(usable)} blocks of at least {ROWS_MIN} rows with outcomes; "
            f"{BLOCKS_MIN} are needed.",
            hint="Give a longer evaluation, or longer blocks.",
            field="reference",
        )
    predicted, outcome = (np.concatenate(side) for side in zip(*usable, strict=True))
    classification = bool(np.isin(outcome, (0.0, 1.0)).all() and (predicted >= 0).all() and (predicted <= 1).all())
    series: dict[str, list[float]] = {}
    for p, y in usable:
        for name, value in metrics_of(p, y, classification=classification).items():
            series.setdefault(name, []).append(value)
    rows = float(np.mean([len(y) for _, y in usable]))
    spreads = {name: spread_of(np.asarray(values), rows=rows) for name, values in series.items() if len(values) > 2}
    values = metrics_of(predicted, outcome, classification=classification)
    return QualityBaseline(values, spreads, _row_variances(predicted, outcome, classification), classification)


def baseline_to_json(baseline: QualityBaseline) -> dict[str, Any]:
    """A baseline as plain values, to be kept; `baseline_from_json` reads it back."""
    return dataclasses.asdict(baseline)


def baseline_from_json(kept: Mapping[str, Any]) -> QualityBaseline:
    """Read what `baseline_to_json` wrote."""
    spreads = {name: Spread(**values) for name, values in kept["spreads"].items()}
    return QualityBaseline(kept["values"], spreads, kept["row_variance"], kept["classification"])


def judge_quality(baseline: QualityBaseline, predicted: FloatArray, outcome: FloatArray) -> dict[str, MetricVerdict]:
    """Judge a window's metrics; none with fewer than `ROWS_MIN` rows with outcomes ("not enough data to say")."""
    if len(outcome) < ROWS_MIN:
        return {}
    verdicts: dict[str, MetricVerdict] = {}
    for name, value in metrics_of(predicted, outcome, classification=baseline.classification).items():
        spread, metric = baseline.spreads.get(name), METRICS[name]
        if spread is None:
            continue
        sign = -1.0 if metric.worse < 0 else 1.0
        turned = Spread(sign * spread.centre, spread.deviation, spread.freedom, spread.blocks, spread.rows)
        p_value, z = judge_statistic(
            sign * value,
            turned,
            rows=len(outcome),
            row_variance=baseline.row_variance.get(name, 0.0),
            delta=metric.delta,
            two_sided=metric.worse == 0,
        )
        verdicts[name] = MetricVerdict(value, baseline.values.get(name, spread.centre), p_value, z)
    return verdicts


def _row_variances(predicted: FloatArray, outcome: FloatArray, classification: bool) -> dict[str, float]:
    difference = predicted - outcome
    if not classification:
        return {"absolute_error": float(np.abs(difference).var()), "bias": float(difference.var())}
    p = np.clip(predicted, _CLIP, 1.0 - _CLIP)
    losses = -(outcome * np.log(p) + (1.0 - outcome) * np.log1p(-p))
    wrong = (predicted >= 0.5) != (outcome > 0.5)
    return {
        "log_loss": float(losses.var()),
        "error_rate": float(wrong.var()),
        "calibration": float(difference.var()),
        # Hanley & McNeil's variance of the area with balanced classes is near 1/3 per row; with few ones it grows.
        "auc": float(1.0 / (12.0 * max(1e-3, outcome.mean() * (1.0 - outcome.mean())))),
    }
