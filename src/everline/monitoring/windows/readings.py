"""One window read by one monitor: per stream a p-value, and the change in the stream's own unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from everline.monitoring.drift.columns import Column, as_kind
from everline.monitoring.drift.result import P_SMALLEST
from everline.monitoring.profiles import FloatArray
from everline.monitoring.windows.blocks import ROWS_MIN, BlockReference, FeatureReference, WindowDrift, judge_window
from everline.monitoring.windows.quality import QualityBaseline, judge_quality

_SHARES = frozenset(("missing", "unseen", "spike"))


@dataclass(frozen=True, slots=True)
class Reading:
    """What one stream (a feature, an output, a metric) says in one window; see `types.Signal`."""

    test: str
    p_value: float
    effect: float
    value: float | None
    reference_value: float | None
    unit: str
    distance: float


def read_features(reference: BlockReference, window: Mapping[str, Column]) -> dict[str, Reading]:
    """Judge every feature of the reference in a window; a column that is gone or of another type comes first.

    Features with fewer than `ROWS_MIN` rows are left out: not enough data to say.
    """
    rows = max((column.rows for column in window.values()), default=0)
    if rows < ROWS_MIN:
        return {}
    judged = judge_window(reference, window)
    readings: dict[str, Reading] = {}
    for name, prepared in reference.features.items():
        column = window.get(name)
        if column is None:
            readings[name] = Reading("schema", P_SMALLEST, 1.0, None, None, "share of rows", 1.0)
        elif name in judged:
            readings[name] = _reading(prepared, column, judged[name])
        elif as_kind(column, prepared.column.kind).kind != prepared.column.kind and prepared.column.kind != "none":
            readings[name] = Reading("type", P_SMALLEST, 1.0, None, None, "share of rows", 1.0)
    return readings


def read_quality(baseline: QualityBaseline, predicted: FloatArray, outcome: FloatArray) -> dict[str, Reading]:
    """Judge every metric of a window's answers with outcomes; none where there are too few."""
    return {
        name: Reading(
            "quality", verdict.p_value, verdict.value - verdict.baseline, verdict.value, verdict.baseline, name, 0.0
        )
        for name, verdict in judge_quality(baseline, predicted, outcome).items()
    }


def _reading(prepared: FeatureReference, column: Column, drift: WindowDrift) -> Reading:
    """Say the loudest test's effect in a unit that people know."""
    loudest = drift.loudest
    if loudest.test in _SHARES:
        spread = prepared.spreads.get(loudest.test)
        rooted = loudest.test == "unseen" and prepared.axis is not None
        before = (spread.centre**2 if rooted else spread.centre) if spread else 0.0
        return Reading(
            loudest.test, loudest.p_value, loudest.effect, before + loudest.effect, before, "share of rows",
            drift.distance,
        )  # fmt: skip
    finite = column.numbers[np.isfinite(column.numbers)]
    if prepared.axis is None or not len(finite):
        return Reading(loudest.test, loudest.p_value, loudest.effect, None, None, "Cohen's w", drift.distance)
    if loudest.test in ("scale", "spread"):
        value, before, unit = float(finite.std()), prepared.deviation, "standard deviation"
    else:
        value, before, unit = float(finite.mean()), prepared.mean, "mean"
    return Reading(loudest.test, loudest.p_value, value - before, value, before, unit, drift.distance)
