"""How good a model's probabilities are: metrics of a two-class model. numpy only.

One formula per function, each with its source; `everline.pipelines.evaluation` applies them to tables.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from everline.errors import InvalidInputError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

CALIBRATION_BINS = 15
PROBABILITY_FLOOR = 1e-15


def auc(outcome: BoolArray, probability: FloatArray) -> float:
    """Return the area under the ROC curve: how often a random positive is ranked above a random negative.

    What it measures: order only, `(R - n1 (n1 + 1) / 2) / (n1 n0)` with R the rank sum of the positives, ties
    counted half.
    When it misleads: it says nothing about calibration, and little where positives are very rare.

    Args:
        outcome: bool, shape (n,), with both values present.
        probability: float64, shape (n,), each in [0, 1].

    Returns:
        0 to 1; 0.5 is chance.

    Raises:
        InvalidInputError: only one outcome occurs.

    Source: Hanley and McNeil (1982), after Mann and Whitney (1947).

    Example:
        >>> auc(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.4, 0.8]))
        0.875
    """
    positives = int(outcome.sum())
    negatives = outcome.size - positives
    if positives == 0 or negatives == 0:
        raise InvalidInputError("AUC needs both outcomes, and only one occurs.", hint="Evaluate on more rows.")
    _, group, counts = np.unique(probability, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2.0  # the mean rank of each group of ties
    rank_sum = float(ranks[group][outcome].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def log_loss(outcome: BoolArray, probability: FloatArray) -> float:
    """Return the mean logarithmic loss, `-mean(y ln p + (1 - y) ln(1 - p))`, in nats.

    What it measures: how surprised the model is by the truth; proper, so honest probabilities are best.
    When it misleads: one confident error may outweigh a thousand rows; p is kept off 0 and 1 by 1e-15.

    Args:
        outcome: bool, shape (n,), n at least 1.
        probability: float64, shape (n,), each in [0, 1].

    Source: Good (1952), "Rational decisions".

    Example:
        >>> round(log_loss(np.array([True, False]), np.array([0.5, 0.5])), 4)
        0.6931
    """
    right = np.where(outcome, probability, 1.0 - probability)
    return float(-np.log(np.clip(right, PROBABILITY_FLOOR, 1.0)).mean())


def brier(outcome: BoolArray, probability: FloatArray) -> float:
    """Return the Brier score, `mean((p - y)^2)`, 0 to 1, lower is better.

    What it measures: calibration and sharpness together; proper, and bounded unlike log loss.
    When it misleads: with rare positives a constant small p already scores well; compare with that.

    Args:
        outcome: bool, shape (n,), n at least 1.
        probability: float64, shape (n,), each in [0, 1].

    Source: Brier (1950).

    Example:
        >>> brier(np.array([True, False]), np.array([0.5, 0.5]))
        0.25
    """
    return float(np.square(probability - outcome).mean())


def error_rate(outcome: BoolArray, probability: FloatArray, *, threshold: float = 0.5) -> float:
    """Return the share of rows whose label is wrong, the label being `p >= threshold`.

    What it measures: errors of the decision, false alarms and misses alike.
    When it misleads: where one outcome is rare, always saying the other has a low error rate.

    Args:
        outcome: bool, shape (n,), n at least 1.
        probability: float64, shape (n,), each in [0, 1].
        threshold: from which probability on the answer is yes, 0 to 1.

    Source: the 0-1 loss; Hastie, Tibshirani and Friedman (2009), section 2.4.

    Example:
        >>> error_rate(np.array([True, False]), np.array([0.7, 0.6]))
        0.5
    """
    return float(((probability >= threshold) != outcome).mean())


def calibration_error(outcome: BoolArray, probability: FloatArray, *, bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error over bins of equal width: `sum_b n_b/n |mean y_b - mean p_b|`.

    What it measures: how far announced probabilities are from observed shares, weighted by rows.
    When it misleads: it depends on the bins, and few rows per bin bias it upwards.

    Args:
        outcome: bool, shape (n,), n at least 1.
        probability: float64, shape (n,), each in [0, 1].
        bins: number of bins of equal width on [0, 1], 2 to 1000.

    Returns:
        0 to 1, lower is better.

    Source: Naeini, Cooper and Hauskrecht (2015), section "Calibration metrics"; 15 bins as in Guo et al. (2017).

    Example:
        >>> round(calibration_error(np.array([True, False, False, False]), np.full(4, 0.3)), 4)
        0.05
    """
    if not 2 <= bins <= 1000:
        raise InvalidInputError(f"bins {bins} is out of range.", hint="Use 2 to 1000 bins.", field="bins")
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, weights=outcome - probability, minlength=bins)
    return float(np.abs(gap).sum() / outcome.size)


def metrics(outcome: BoolArray, probability: FloatArray) -> dict[str, float]:
    """Return every metric that is defined on these rows; AUC is left out where only one outcome occurs."""
    found = {
        "log_loss": log_loss(outcome, probability),
        "calibration_error": calibration_error(outcome, probability),
        "error_rate": error_rate(outcome, probability),
        "brier": brier(outcome, probability),
        "base_rate": float(outcome.mean()),
    }
    if 0 < outcome.sum() < outcome.size:
        found["auc"] = auc(outcome, probability)
    return {name: found[name] for name in sorted(found)}
