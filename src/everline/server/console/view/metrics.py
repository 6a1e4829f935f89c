"""Which metrics people look at first, and which belong on one chart."""

from __future__ import annotations

import re

_FIRST = ("auc", "log_loss", "calibration_error", "error_rate", "accuracy", "f1", "rmse", "mae", "loss")
_PART = re.compile(r"^(train(ing)?|val(id(ation)?)?|test|eval(uation)?)[_./ -]")
_LOWER = re.compile(
    r"(^|[_./ -])(loss|logloss|error|err|mae|mse|rmse|mape|smape|medae|rmsle|brier|perplexity|ppl|nll|cer|wer|fid"
    r"|deviance|divergence|drift|latency|duration|seconds|time|ms|regret|cost)([_./ -]|$)",
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


def lower_is_better(key: str) -> bool:
    """Whether people are glad of small values, judged by the metric's name: losses, errors, times, drift."""
    return bool(_LOWER.search(key))
