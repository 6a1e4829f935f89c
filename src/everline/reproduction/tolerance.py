"""How far apart two results are whose bits differ: tables, arrays and plain values, number by number."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from everline.loader import late

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
else:
    np = late("numpy")
    pa = late("pyarrow")
    pc = late("pyarrow.compute")

RELATIVE_MAX = 1e-9
"""Results whose numbers differ by no more than this part of the larger one are equal at level L4."""

COMPARABLE = frozenset({"table", "array", "json"})


def largest_difference(kind: str, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> float | None:
    """The largest relative difference between the numbers of two results of one kind.

    Args:
        kind: `table`, `array` or `json`, as pipelines record it.
        before, after: the result's files by path.

    Returns:
        0 or more; `|a - b| / max(|a|, |b|)` for the worst pair of numbers. None if they differ in anything but
        numbers (shape, type, text, missing values), or if the kind cannot be compared.
    """
    if kind == "json":
        return _values(msgspec.json.decode(before["value.json"]), msgspec.json.decode(after["value.json"]))
    if kind == "array":
        first, second = (np.load(io.BytesIO(parts["array.npy"]), allow_pickle=False) for parts in (before, after))
        if first.shape != second.shape or first.dtype != second.dtype or first.dtype.kind not in "fiub":
            return None
        return relative(first.astype(np.float64), second.astype(np.float64))
    if kind == "table":
        return _tables(*(pa.ipc.open_file(pa.py_buffer(parts["table.arrow"])).read_all() for parts in (before, after)))
    return None


def relative(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> float | None:
    """The largest relative difference of two arrays of one shape; None if one has a NaN or infinity elsewhere.

    Example:
        >>> relative(np.array([1.0, 2.0]), np.array([1.0, 2.5]))
        0.2
    """
    finite = np.isfinite(before) & np.isfinite(after)
    rest_equal = (before == after) | (np.isnan(before) & np.isnan(after))
    if not (finite | rest_equal).all():
        return None
    a, b = before[finite], after[finite]
    if not a.size:
        return 0.0
    scale = np.maximum(np.abs(a), np.abs(b))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return float(np.where(a == b, 0.0, np.abs(a - b) / scale).max())


def _tables(before: pa.Table, after: pa.Table) -> float | None:
    if before.schema != after.schema or before.num_rows != after.num_rows:
        return None
    worst = 0.0
    for first, second in zip(before.columns, after.columns, strict=True):
        if pa.types.is_floating(first.type):
            if not first.is_null().equals(second.is_null()):
                return None
            found = relative(*(pc.fill_null(c, 0.0).to_numpy().astype(np.float64) for c in (first, second)))
        else:
            found = 0.0 if first.equals(second) else None
        if found is None:
            return None
        worst = max(worst, found)
    return worst


def _values(before: Any, after: Any) -> float | None:
    if isinstance(before, bool) or isinstance(after, bool) or before is None or isinstance(before, str):
        return 0.0 if before == after and type(before) is type(after) else None
    if isinstance(before, int | float):
        if not isinstance(after, int | float):
            return None
        if before == after:
            return 0.0
        if not (math.isfinite(before) and math.isfinite(after)):
            return None
        return abs(before - after) / max(abs(before), abs(after))
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return _worst(_values(a, b) for a, b in zip(before, after, strict=True))
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        return _worst(_values(before[name], after[name]) for name in before)
    return None


def _worst(differences: Any) -> float | None:
    worst = 0.0
    for difference in differences:
        if difference is None:
            return None
        worst = max(worst, difference)
    return worst
