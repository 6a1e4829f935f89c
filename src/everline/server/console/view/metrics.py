"""Which metrics people look at first, and which belong on one chart."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

_FIRST = ("auc", "log_loss", "calibration_error", "error_rate", "accuracy", "f1", "rmse", "mae", "loss")
_PART = re.compile(r"^(train(ing)?|val(id(ation)?)?|test|eval(uation)?)[_./ -]")
_WORD = r"(^|[_./@ -])({})(\d*)([_./@ -]|$)"
_LOWER = re.compile(
    _WORD.format(
        "loss|m?logloss|error|err|mae|mse|rmse|mape|smape|medae|rmsle|msle|brier|perplexity|ppl|nll|cer|wer|fid|deviance"
        "|divergence|drift|latency|duration|regret"
    ),
    re.IGNORECASE,
)
_HIGHER = re.compile(
    _WORD.format(
        "auc|auroc|auprc|accuracy|acc|f|f1|fbeta|precision|recall|r|r2|score|map|ap|ndcg|mrr|bleu|rouge|meteor|iou|dice"
        "|reward|return|gain|lift|gini|kappa|mcc|throughput|per_second|specificity|sensitivity|likelihood"
    ),
    re.IGNORECASE,
)


SYSTEM = "system/"
"""How the names of metrics of the machine begin, in MLflow and in our SDK."""
FILTER_CHARACTERS_MAX = 250


def plain(key: str) -> str:
    """The metric without the part of the data it was measured on: `log_loss` for `val_log_loss`."""
    return _PART.sub("", key)


def rank(key: str) -> int:
    """The place of a metric among those that people look at first; all others share the last place."""
    bare = plain(key)
    return _FIRST.index(bare) if bare in _FIRST else len(_FIRST)


def matches(key: str, wanted: str) -> bool:
    """Whether a metric's name has every word of a filter in it, whatever their case and order."""
    return all(word in key.casefold() for word in wanted.casefold().split())


def direction(key: str) -> int:
    """1 where people are glad of great values, -1 of small ones, 0 where the metric's name does not tell."""
    if _LOWER.search(key):
        return -1
    return 1 if _HIGHER.search(key) else 0


def lower_is_better(key: str) -> bool:
    """Whether people are glad of small values, judged by the metric's name: losses, errors, latency, drift."""
    return direction(key) < 0


def best(key: str, values: Iterable[float | None]) -> float | None:
    """The value that people are gladdest of; None where all are equal or the name does not tell."""
    known = {value for value in values if value is not None and math.isfinite(value)}
    if len(known) < 2 or not direction(key):
        return None
    return min(known) if direction(key) < 0 else max(known)
