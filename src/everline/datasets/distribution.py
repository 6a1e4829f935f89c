"""How far apart two samples of one column are, as one number and as the two distributions side by side.

Numbers and times: the two-sample Kolmogorov-Smirnov statistic, the largest gap between the two empirical
distribution functions. Other values: the total variation distance, half the sum of the differences of shares.
Missing values are left out of both; nested columns have no distance.

Source: Smirnov (1948); total variation as in Levin, Peres & Wilmer (2017), section 4.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from everline.datasets.profile import as_json, cell, counts, finite, is_moment, is_number
from everline.datasets.types import Distribution, Share

POINTS_MAX = 60
"""Different values up to which a distribution function is given at each of them; beyond, at quantiles of both."""
VALUES_MAX = 10
_QUANTILES = np.linspace(0, 1, 31)
_Numbers = np.ndarray[Any, Any]


def compare(before: pa.ChunkedArray, after: pa.ChunkedArray) -> Distribution | None:
    """Hold two samples of one column against each other; None for nested columns, and where one has no values.

    Args:
        before, after: of one type, not encoded as dictionaries; shapes (n,) and (m,).

    Example:
        >>> old, new = pa.chunked_array([["a", "a", "b", "b"]]), pa.chunked_array([["a", "b", "b", "b"]])
        >>> found = compare(old, new)
        >>> found.statistic, found.distance, [(one.value, one.before, one.after) for one in found.shares]
        ('tv', 0.25, [('b', 0.5, 0.75), ('a', 0.5, 0.25)])
    """
    kind = before.type
    if pa.types.is_nested(kind) or pa.types.is_null(kind):
        return None
    if is_moment(kind):
        return _ordered(np.sort(_integers(before)), np.sort(_integers(after)), kind)
    if is_number(kind) and not pa.types.is_boolean(kind):
        return _ordered(np.sort(finite(before)[0]), np.sort(finite(after)[0]), None)
    return _shares(before, after)


def _ordered(first: _Numbers, second: _Numbers, moment: pa.DataType | None) -> Distribution | None:
    """Compare sorted samples by their distribution functions; `moment` says as what to show the values."""
    if not len(first) or not len(second):
        return None
    points = np.concatenate([first, second])
    gaps = np.abs(_below(first, points) - _below(second, points))
    widest = points[int(gaps.argmax())]
    shown = np.unique(points)
    if len(shown) > POINTS_MAX:
        places = [np.quantile(side, _QUANTILES, method="nearest") for side in (first, second)]
        shown = np.unique(np.concatenate([*places, [widest]]))
    values = shown.tolist() if moment is None else [_moment(value, moment) for value in shown.tolist()]
    shares = zip(values, _below(first, shown).tolist(), _below(second, shown).tolist(), strict=True)
    return Distribution(
        statistic="ks",
        distance=float(gaps.max()),
        widest=values[int(np.searchsorted(shown, widest))],
        shares=tuple(Share(value=value, before=old, after=new) for value, old, new in shares),
        values=len(np.unique(points)),
    )


def _shares(before: pa.ChunkedArray, after: pa.ChunkedArray) -> Distribution | None:
    n, m = len(before) - before.null_count, len(after) - after.null_count
    if not n or not m:
        return None
    both = counts(before).join(counts(after), keys="values", join_type="full outer", right_suffix="_after")
    old = pc.divide(pc.fill_null(both.column("counts"), 0).cast(pa.float64()), n)
    new = pc.divide(pc.fill_null(both.column("counts_after"), 0).cast(pa.float64()), m)
    named = pa.table({"values": both.column("values"), "old": old, "new": new, "most": pc.max_element_wise(old, new)})
    order = pc.sort_indices(named, sort_keys=[("most", "descending"), ("values", "ascending")])
    rows = named.take(order.slice(0, VALUES_MAX))
    columns = zip(rows.column("values"), rows.column("old"), rows.column("new"), strict=True)
    return Distribution(
        statistic="tv",
        distance=float(pc.sum(pc.abs(pc.subtract(old, new))).as_py()) / 2,
        shares=tuple(Share(value=as_json(cell(v)), before=a.as_py(), after=b.as_py()) for v, a, b in columns),
        values=both.num_rows,
    )


def _below(ordered: _Numbers, points: _Numbers) -> _Numbers:
    """The share of a sorted sample that is not above each point."""
    return np.searchsorted(ordered, points, side="right") / len(ordered)


def _integers(values: pa.ChunkedArray) -> _Numbers:
    values = values.drop_null()
    if values.type.bit_width == 32:
        values = values.cast(pa.int32())
    numbers: _Numbers = values.cast(pa.int64()).to_numpy()
    return numbers


def _moment(value: int, kind: pa.DataType) -> Any:
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    return as_json(cell(pa.scalar(value, width).cast(kind)))
