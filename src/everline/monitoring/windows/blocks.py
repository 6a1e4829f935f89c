"""Dependent rows: judge a day against the natural movement from day to day, not against the noise of single rows.

Rows of a day share their weather and their schedule, so a test of independent rows alarms on every day. Here the
reference is cut into blocks of a window's length; each statistic of a new window is judged against its own spread
over the blocks, by a Student tail whose weight is fitted to the blocks' kurtosis, and never below sampling noise.

Sources: van der Waerden and Klotz scores as in `drift.location` and `drift.scale`; the t law by the method of
moments: excess kurtosis ``k = 6 / (nu - 4)``, so ``nu = 4 + 6 / k``; the prediction interval's factor 1 + 1/D:
Hahn & Meeker (1991), Statistical Intervals, section 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import special

from everline.errors import InvalidInputError
from everline.monitoring.drift.columns import Column, as_kind, pooled
from everline.monitoring.drift.combination import combine_tests
from everline.monitoring.drift.location import normal_scores
from everline.monitoring.drift.rates import binomial_above
from everline.monitoring.drift.result import DriftResult, of_minimum_effect
from everline.monitoring.drift.shape import equal_mass_bins
from everline.monitoring.profiles import CategoryAxis, FloatArray, IntArray, NumberAxis, profile_number

BLOCKS_MIN = 8
ROWS_MIN = 20
BINS = 10
_FREEDOM_MAX = 100.0
_SOFT = 0.01

STATISTICS = ("missing", "unseen", "location", "scale", "spread", "shape", "spike", "extreme")
# The smallest change worth an alarm, per statistic, each in its own unit (see docs/monitoring.md).
DELTAS = dict(zip(STATISTICS, (0.005, 0.005, 0.03, 0.06, 0.06, 0.03, 0.005, 0.25), strict=True))
_DELTA_UNSEEN_NUMBER = (
    0.14  # the root of 2 %: a few new values between known ones (a new minute in the schedule) are no fault
)
WEIGHTS = dict.fromkeys(STATISTICS, 1.0 / len(STATISTICS))
_TWO_SIDED = frozenset(("missing", "location", "scale", "spread"))
# Variance of one row's contribution to each statistic: by theory for scores (normal scores have variance 1), for
# Cohen's w and for the root of a share; for the largest cell about that of a share of 5 %.
_ROW_VARIANCE = {"unseen": 0.25, "location": 1.0, "scale": 2.0, "spread": 0.5, "shape": 0.25, "spike": 0.05}
# The largest |z| has no law per row: its log is never taken to be surer than this.
_DEVIATION_MIN = {"extreme": 0.15}
# Statistics that are bounded below and skewed have a longer upper tail than their kurtosis over the blocks shows.
_TAIL_MAX = {"unseen": 4.0, "missing": 8.0, "shape": 8.0, "spike": 8.0}


@dataclass(frozen=True, slots=True)
class Spread:
    """One statistic over the reference's blocks: its centre, its standard deviation and the weight of its tails."""

    centre: float
    deviation: float
    freedom: float
    blocks: int
    rows: float


@dataclass(frozen=True, slots=True)
class FeatureReference:
    """One feature of the reference, prepared: what a window is compared with."""

    column: Column
    axis: NumberAxis | None
    known: pa.Array
    cells: IntArray
    shares: FloatArray
    scores: FloatArray
    edge_scores: FloatArray
    bins: IntArray
    bin_shares: FloatArray
    spreads: Mapping[str, Spread]
    mean: float
    deviation: float
    # The share that one value has in a block, on average: rows of an hour share its weather, so values repeat.
    repeat: float = 0.0


@dataclass(frozen=True, slots=True)
class BlockReference:
    """A reference cut into blocks, prepared once and kept."""

    features: Mapping[str, FeatureReference]
    blocks: int


@dataclass(frozen=True, slots=True)
class WindowDrift:
    """One feature in one window: the loudest test with the feature's p-value, every test, distance 0 to 1."""

    loudest: DriftResult
    results: tuple[DriftResult, ...]
    distance: float
    statistics: Mapping[str, float]
    z: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Counts:
    """One block's or window's rows on the cells of the reference."""

    counts: IntArray
    scores: FloatArray
    bins: IntArray
    shares: FloatArray
    unseen: int
    reach: float
    missing: int
    rows: int


def prepare_blocks(blocks: Sequence[Mapping[str, Column]], *, names: Sequence[str] | None = None) -> BlockReference:
    """Prepare a reference from its blocks.

    Args:
        blocks: the columns of each block (see `drift.columns.blocks_of`); at least `BLOCKS_MIN` blocks.
        names: the features to prepare; all columns of the first block when None.

    Raises:
        InvalidInputError: there are too few blocks to know the natural movement between them.
    """
    if len(blocks) < BLOCKS_MIN:
        raise InvalidInputError(
            f"The reference has {len(blocks)} blocks; at least {BLOCKS_MIN} are needed to know how they move.",
            hint="Give a longer reference, or shorter blocks.",
            field="blocks",
        )
    chosen = list(blocks[0]) if names is None else list(names)
    features = {name: _prepare([block[name] for block in blocks]) for name in chosen}
    return BlockReference(features, len(blocks))


def judge_window(reference: BlockReference, window: Mapping[str, Column]) -> dict[str, WindowDrift]:
    """Judge every feature of a window; features without enough rows, or of another type, are left out."""
    judged: dict[str, WindowDrift] = {}
    for name, prepared in reference.features.items():
        column = window.get(name)
        if column is None or column.rows < ROWS_MIN:
            continue
        column = as_kind(column, prepared.column.kind)
        if column.kind not in (prepared.column.kind, "none"):
            continue
        counts = _counts_of(prepared, column)
        statistics = _statistics(prepared, counts)
        judged[name] = _judge(prepared, counts, statistics)
    return judged


def judge_statistic(
    value: float, spread: Spread, *, rows: int, row_variance: float, delta: float, two_sided: bool, share: bool = False
) -> tuple[float, float]:
    """Return (p-value, z) of one statistic of a window against its spread over the blocks.

    Args:
        value: the window's statistic.
        spread: the reference's.
        rows: rows of the window.
        row_variance: variance of one row's contribution; sets the noise that no spread can be below.
        delta: the smallest change worth an alarm.
        two_sided: whether a fall counts as well.
        share: the statistic is a share of rows, whose own noise grows with it.

    Example:
        >>> spread = Spread(0.0, 1.0, 100.0, 90, 1000.0)
        >>> p, z = judge_statistic(0.5, spread, rows=1000, row_variance=1.0, delta=0.0, two_sided=True)
        >>> round(z, 2), p > 0.5
        (0.5, True)
    """
    noise = row_variance / rows
    variance = max(spread.deviation**2 + max(0.0, noise - row_variance / spread.rows), noise)
    widened = variance * (1.0 + 1.0 / spread.blocks)
    change = value - spread.centre
    z = change / np.sqrt(widened) if widened > 0 else 0.0
    size = abs(change) if two_sided else change
    p_any = float(special.stdtr(spread.freedom, -abs(z) if two_sided else -z)) * (2.0 if two_sided else 1.0)
    edge = widened
    if share:
        rate = min(0.5, max(spread.centre, 0.0) + delta)
        edge = max(widened, rate * (1.0 - rate) / rows)
        # A share near zero has the tail of a count, which is heavier than any bell.
        p_any = max(p_any, binomial_above(rows * value, rows, min(0.5, row_variance)) if change > 0 else 0.0)
    p_minimum = float(special.stdtr(spread.freedom, -(size - delta) / np.sqrt(edge))) if edge > 0 else 1.0
    return of_minimum_effect(min(1.0, p_any), p_minimum), float(z)


def spread_of(
    values: FloatArray, *, rows: float, deviation_min: float = 0.0, freedom_max: float = _FREEDOM_MAX
) -> Spread:
    """Return the spread of one statistic over blocks: centre, deviation, and degrees of freedom from the kurtosis.

    Args:
        values: float64, shape (d,), finite, at least 2.
        rows: mean rows of a block.
        deviation_min: the deviation is never taken to be smaller.
        freedom_max: the tails are never taken to be lighter.
    """
    centred = values - values.mean()
    second = float(np.mean(centred**2))
    excess = float(np.mean(centred**4)) / second**2 - 3.0 if second > 1e-300 else 0.0
    freedom = 4.0 + 6.0 / excess if excess > 0 else _FREEDOM_MAX
    freedom = min(freedom, freedom_max, len(values) - 1.0)
    deviation = max(deviation_min, float(values.std(ddof=1)))
    return Spread(float(values.mean()), deviation, freedom, len(values), max(1.0, rows))


def _prepare(columns: Sequence[Column]) -> FeatureReference:
    whole = pooled(columns)
    parts = [as_kind(column, whole.kind) for column in columns]
    parts = [part for part in parts if part.kind in (whole.kind, "none")]
    empty = FeatureReference(
        whole, None, pa.array([], type=pa.string()), _INTS, _FLOATS, _FLOATS, _FLOATS, _INTS, _FLOATS, {}, 0.0, 0.0
    )
    if whole.kind == "number":
        return _with_spreads(_prepare_number(whole, empty), parts)
    if whole.kind in ("category", "boolean"):
        return _with_spreads(_prepare_category(whole, empty), parts)
    return _with_spreads(empty, parts)


_INTS: IntArray = np.empty(0, dtype=np.int64)
_FLOATS: FloatArray = np.empty(0, dtype=np.float64)


def _prepare_number(whole: Column, empty: FeatureReference) -> FeatureReference:
    axis = NumberAxis.of(whole.numbers)
    profile = profile_number(whole.numbers, axis)
    counts = profile.counts
    bins = equal_mass_bins(counts, bins=BINS)
    edges = np.concatenate([[0], np.cumsum(counts)])
    finite = whole.numbers[np.isfinite(whole.numbers)]
    return FeatureReference(
        whole,
        axis,
        empty.known,
        profile.cells,
        counts / counts.sum(),
        normal_scores(counts),
        special.ndtri((edges + 0.5) / (counts.sum() + 1.0)),
        bins,
        np.bincount(bins, weights=counts.astype(np.float64)) / counts.sum(),
        {},
        float(finite.mean()) if len(finite) else 0.0,
        float(finite.std()) if len(finite) else 0.0,
    )


def _prepare_category(whole: Column, empty: FeatureReference) -> FeatureReference:
    known = CategoryAxis.of(whole.texts).known
    values = pa.array(known, type=pa.string())
    index = pc.index_in(whole.texts, value_set=values).drop_null().to_numpy(zero_copy_only=False)
    counts = np.bincount(index, minlength=len(known)).astype(np.int64)
    bins = np.minimum(np.arange(len(known)), BINS)
    shares: FloatArray = counts / counts.sum()
    binned: FloatArray = np.bincount(bins, weights=shares).astype(np.float64)
    flat = np.zeros(len(known))
    return FeatureReference(whole, None, values, _INTS, shares, flat, flat, bins, binned, {}, 0.0, 0.0)


def _with_spreads(feature: FeatureReference, parts: Sequence[Column]) -> FeatureReference:
    gathered = [_counts_of(feature, part) for part in parts]
    total = np.zeros(len(feature.shares), dtype=np.int64)
    on_cells = [_on_reference(feature, part) for part in parts]
    for vector in on_cells:
        total += vector
    rows = float(np.mean([part.rows for part in parts]))
    series: dict[str, list[float]] = {}
    for counts, vector, part in zip(gathered, on_cells, parts, strict=True):
        if part.rows == 0:
            continue
        # A block always has its own values, so its unseen ones are those that no other block has.
        alone = int(vector[(vector > 0) & (total == vector)].sum())
        alone_counts = _Counts(
            counts.counts, counts.scores, counts.bins, counts.shares, alone, counts.reach, counts.missing, counts.rows
        )
        for name, value in _statistics(feature, alone_counts).items():
            series.setdefault(name, []).append(value)
    spreads = {
        name: spread_of(
            np.asarray(values),
            rows=rows,
            deviation_min=_DEVIATION_MIN.get(name, 0.0),
            freedom_max=_TAIL_MAX.get(name, _FREEDOM_MAX),
        )
        for name, values in series.items()
        if len(values) >= 3
    }
    return FeatureReference(
        feature.column,
        feature.axis,
        feature.known,
        feature.cells,
        feature.shares,
        feature.scores,
        feature.edge_scores,
        feature.bins,
        feature.bin_shares,
        spreads,
        feature.mean,
        feature.deviation,
        float(np.mean([1.0 / max(1, int(np.count_nonzero(counts.counts))) for counts in gathered]))
        if gathered
        else 0.0,
    )


def _on_reference(feature: FeatureReference, column: Column) -> IntArray:
    vector = np.zeros(len(feature.shares), dtype=np.int64)
    if feature.axis is not None and len(column.numbers):
        profile = profile_number(column.numbers, feature.axis)
        vector[np.searchsorted(feature.cells, profile.cells)] = profile.counts
    elif feature.axis is None and len(feature.known) and len(column.texts):
        index = pc.index_in(column.texts, value_set=feature.known).drop_null().to_numpy(zero_copy_only=False)
        vector += np.bincount(index, minlength=len(vector)).astype(np.int64)
    return vector


def _counts_of(feature: FeatureReference, column: Column) -> _Counts:
    if feature.axis is not None and len(column.numbers):
        profile = profile_number(column.numbers, feature.axis)
        at = np.searchsorted(feature.cells, profile.cells)
        near = np.minimum(at, len(feature.cells) - 1)
        seen = feature.cells[near] == profile.cells
        z = feature.axis.positions(profile.cells)
        low, high = feature.axis.positions(feature.cells[[0, -1]])
        # Beyond the reference's range ranks say no more how far: the logarithm of the distance goes on from there.
        beyond = np.log1p(np.clip(z - high, 0.0, 1e30)) - np.log1p(np.clip(low - z, 0.0, 1e30))
        return _Counts(
            profile.counts,
            np.where(seen, feature.scores[near], feature.edge_scores[at]) + beyond,
            feature.bins[near],
            np.where(seen, feature.shares[near], 0.0),
            int(profile.counts[~seen].sum()),
            float(np.abs(z[[0, -1]]).max()),
            column.missing,
            column.rows,
        )
    if feature.axis is None and len(feature.known) and len(column.texts):
        index = pc.index_in(column.texts, value_set=feature.known)
        counts = np.bincount(index.drop_null().to_numpy(zero_copy_only=False), minlength=len(feature.known))
        return _Counts(
            counts.astype(np.int64),
            feature.scores,
            feature.bins,
            feature.shares,
            index.null_count,
            0.0,
            column.missing,
            column.rows,
        )
    return _Counts(_INTS, _FLOATS, _INTS, _FLOATS, 0, 0.0, column.missing, column.rows)


def _statistics(feature: FeatureReference, block: _Counts) -> dict[str, float]:
    found = {"missing": block.missing / block.rows}
    on_cells = int(block.counts.sum())
    m = on_cells if feature.axis is not None else on_cells + block.unseen
    if m < ROWS_MIN:
        return found
    # The hottest day of a year has many values never seen before: the root keeps such days from looking impossible.
    found["unseen"] = block.unseen / m if feature.axis is None else float(np.sqrt(block.unseen / m))
    observed = np.bincount(block.bins, weights=block.counts, minlength=len(feature.bin_shares)) / m
    freedom = len(feature.bin_shares) - 1
    if freedom > 0:
        divergence = float(((observed - feature.bin_shares) ** 2 / feature.bin_shares).sum())
        found["shape"] = float(np.sqrt(max(0.0, divergence - freedom / m)))
    noise = np.sqrt(block.shares * (1.0 - block.shares) / m)
    found["spike"] = max(0.0, float((block.counts / m - block.shares - 2.0 * noise).max()))
    if feature.axis is not None:
        location = float(block.counts @ block.scores) / m
        second = float(block.counts @ block.scores**2) / m
        found["location"] = location
        found["scale"] = float(np.log(second + _SOFT))
        found["spread"] = float(np.log(max(0.0, second - location**2) ** 0.5 + _SOFT))
        found["extreme"] = float(np.log1p(min(block.reach, 1e30)))
    return found


def _judge(feature: FeatureReference, block: _Counts, statistics: Mapping[str, float]) -> WindowDrift:
    results: list[DriftResult] = []
    scores: dict[str, float] = {}
    for name, value in statistics.items():
        spread = feature.spreads.get(name)
        if spread is None:
            continue
        share = name == "missing" or (name == "unseen" and feature.axis is None)
        rate = (max(0.0, spread.centre) * spread.rows * spread.blocks + 0.5) / (spread.rows * spread.blocks + 1.0)
        p_value, scores[name] = judge_statistic(
            value,
            spread,
            rows=block.rows,
            row_variance=rate * (1.0 - rate) if share else _ROW_VARIANCE.get(name, 0.0),
            delta=_DELTA_UNSEEN_NUMBER if name == "unseen" and not share else DELTAS[name],
            two_sided=name in _TWO_SIDED,
            share=share,
        )
        rooted = name == "unseen" and not share
        results.append(DriftResult(name, p_value, value**2 - spread.centre**2 if rooted else value - spread.centre))
    if not results:
        results = [DriftResult("missing", 1.0, 0.0)]
    return WindowDrift(
        combine_tests(results, weights=WEIGHTS), tuple(results), _distance(feature, block), dict(statistics), scores
    )


def _distance(feature: FeatureReference, block: _Counts) -> float:
    """Total variation between window and reference over bins, unseen values and missing rows, 0 to 1."""
    if block.rows == 0 or feature.column.rows == 0:
        return 0.0
    expected = feature.bin_shares * (feature.column.present / feature.column.rows)
    seen = block.counts * (block.shares > 0)
    observed = np.bincount(block.bins, weights=seen, minlength=len(feature.bin_shares)) / block.rows
    absent = abs(block.missing / block.rows - feature.column.missing / feature.column.rows)
    return float(0.5 * (np.abs(observed - expected).sum() + block.unseen / block.rows + absent))
