"""Mergeable profiles of one feature: constant memory, exact merge, no raw row kept.

A number is laid on the axis of its reference, ``z = (x - median) / scale``, and the top 16 bits of
``float32(z)`` name one of 65,536 cells: about 0.8 % wide in relation to z, dense around the median,
reaching to 1e38 on both sides. A category is counted by value, with a bound on values never seen before.
Profiles with the same axis add exactly, so replicas and windows merge without loss.
"""

import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from everline.errors import InvalidInputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CELLS = 65_536
KNOWN_VALUES_MAX = 4_096
UNSEEN_VALUES_MAX = 4_096
_NEGATIVE_INFINITY_CELL = 0x007F
_POSITIVE_INFINITY_CELL = 0xFF80
_ZERO_CELL = 0x8000
_CHUNK_ROWS = 65_536  # the scratch of one chunk stays in the cache of a core
_HIGH_HALF = 1 if sys.byteorder == "little" else 0
_LARGEST = float(np.finfo(np.float32).max)
_NORMAL_IQR = 1.3489795003921634


@dataclass(frozen=True, slots=True)
class NumberAxis:
    """Where the cells of a number lie: the median and a robust scale of its reference, in the feature's unit."""

    median: float
    scale: float

    @classmethod
    def of(cls, values: FloatArray) -> "NumberAxis":
        """Return the axis of a reference: median and IQR / 1.349, or the standard deviation where half is tied.

        Args:
            values: float64, shape (n,); NaN and infinities are ignored; an empty reference gives (0, 1).

        Example:
            >>> NumberAxis.of(np.array([1.0, 2.0, 3.0, 4.0, 5.0])).median
            3.0
        """
        finite = values[np.isfinite(values)]
        if finite.size == 0:
            return cls(0.0, 1.0)
        low, median, high = (float(q) for q in np.quantile(finite, [0.25, 0.5, 0.75]))
        scale = (high - low) / _NORMAL_IQR
        if not scale > 0:
            with np.errstate(over="ignore", invalid="ignore"):
                scale = float(np.std(finite))
        if not (scale > 0 and np.isfinite(scale)):
            scale = max(abs(median), 1.0)
        return cls(median, scale)

    def cells(self, values: FloatArray) -> npt.NDArray[np.uint16]:
        """Return the cell of each value, ordered as the values are; NaN has no cell and must be left out.

        Args:
            values: float64, shape (n,), no NaN; infinities get the outermost cells.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            z = (values - self.median) / self.scale
        finite = np.isfinite(values)
        z = np.where(finite, np.clip(z, -_LARGEST, _LARGEST), values)
        bits = (z.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        ordered: npt.NDArray[np.uint16] = np.where(bits & 0x8000, ~bits, bits | np.uint16(0x8000))
        return np.where(ordered == _ZERO_CELL - 1, np.uint16(_ZERO_CELL), ordered)  # -0.0 is 0.0

    def positions(self, cells: IntArray) -> FloatArray:
        """Return z at the inner edge of each cell (float64, same shape); infinities stay infinite."""
        ordered = cells.astype(np.uint16)
        bits = np.where(ordered & 0x8000, ordered & np.uint16(0x7FFF), ~ordered).astype(np.uint32) << 16
        return bits.view(np.float32).astype(np.float64)

    def values(self, cells: IntArray) -> FloatArray:
        """Return the feature's value at each cell, in its own unit; right to about 0.4 % of z."""
        z = self.positions(cells)
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(z), self.median + self.scale * z * (1.0 + 2.0**-8), z)


@dataclass(frozen=True, slots=True)
class NumberProfile:
    """Counts of one number per cell of its reference's axis, with missing rows and rows of another type apart."""

    axis: NumberAxis
    cells: IntArray
    counts: IntArray
    missing: int = 0
    strays: int = 0

    @property
    def present(self) -> int:
        """Rows with a value, infinities included."""
        return int(self.counts.sum())

    @property
    def rows(self) -> int:
        """All rows: with a value, missing, and of another type."""
        return self.present + self.missing + self.strays

    @property
    def infinite(self) -> int:
        """Rows that are plus or minus infinity."""
        outer = (self.cells == _POSITIVE_INFINITY_CELL) | (self.cells == _NEGATIVE_INFINITY_CELL)
        return int(self.counts[outer].sum())

    def quantile(self, shares: FloatArray) -> FloatArray:
        """Return the values at the given shares (0 to 1), in the feature's unit; NaN when there are no values."""
        if self.present == 0:
            return np.full(len(shares), np.nan)
        cumulative = np.cumsum(self.counts)
        index = np.searchsorted(cumulative, np.asarray(shares) * cumulative[-1], side="left")
        return self.axis.values(self.cells[np.minimum(index, len(self.cells) - 1)])


def profile_number(values: FloatArray, axis: NumberAxis, *, missing: int = 0, strays: int = 0) -> NumberProfile:
    """Profile one number column.

    Args:
        values: float64, shape (n,); NaN counts as missing.
        axis: the reference's axis.
        missing: further missing rows, already taken out of `values`.
        strays: rows whose value is not a number, already taken out of `values`.

    Example:
        >>> a = profile_number(np.array([1.0, 2.0, np.nan]), NumberAxis(0.0, 1.0))
        >>> a.rows, a.missing
        (3, 1)
    """
    counting = NumberCounting(axis)
    counting.add(values)
    return counting.profile(missing=missing, strays=strays)


class NumberCounting:
    """Counts numbers that come piece by piece, in constant memory: 65,536 counts and the scratch of one chunk."""

    def __init__(self, axis: NumberAxis) -> None:
        self.axis = axis
        # By the raw upper half of float32(z): sorting 65,536 counts once is cheaper than reordering each row's bits.
        self._raw = np.zeros(CELLS, dtype=np.int64)
        self._scratch = np.empty(0, dtype=np.float64)

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count further values: any real dtype, shape (n,); NaN counts as missing."""
        if len(self._scratch) < min(len(values), _CHUNK_ROWS):
            self._scratch = np.empty(min(len(values), _CHUNK_ROWS), dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(values), _CHUNK_ROWS):
                self._add_chunk(values[start : start + _CHUNK_ROWS])

    def _add_chunk(self, chunk: npt.NDArray[Any]) -> None:
        z = self._scratch[: len(chunk)]
        np.subtract(chunk, self.axis.median, out=z, dtype=np.float64)
        np.divide(z, self.axis.scale, out=z)
        found = np.bincount(z.astype(np.float32).view(np.uint16)[_HIGH_HALF::2], minlength=CELLS)
        for infinity, value in ((0x7F80, np.inf), (0xFF80, -np.inf)):
            if found[infinity]:  # finite values whose z float32 cannot hold lie in the last cell before infinity
                true = int(np.count_nonzero(chunk == value))
                found[infinity - 1] += found[infinity] - true
                found[infinity] = true
        self._raw += found

    def profile(self, *, missing: int = 0, strays: int = 0) -> NumberProfile:
        """Return what was counted so far, beside missing rows and strays that were taken out before."""
        counts = np.concatenate([self._raw[:0x7FFF:-1], self._raw[:0x8000]])
        counts[_ZERO_CELL] += counts[_ZERO_CELL - 1]  # -0.0 is 0.0
        counts[_ZERO_CELL - 1] = 0
        lost = int(counts[:_NEGATIVE_INFINITY_CELL].sum() + counts[_POSITIVE_INFINITY_CELL + 1 :].sum())
        counts[:_NEGATIVE_INFINITY_CELL] = 0
        counts[_POSITIVE_INFINITY_CELL + 1 :] = 0
        cells = np.flatnonzero(counts)
        return NumberProfile(self.axis, cells, counts[cells], missing + lost, strays)


def merge_numbers(first: NumberProfile, second: NumberProfile) -> NumberProfile:
    """Add two profiles of one axis, exactly; the order does not matter.

    Raises:
        InvalidInputError: the profiles lie on different axes.
    """
    if first.axis != second.axis:
        raise InvalidInputError(
            "Profiles with different references cannot be added.", hint="Profile both against the same reference."
        )
    dense = np.zeros(CELLS, dtype=np.int64)
    dense[first.cells] = first.counts
    dense[second.cells] += second.counts
    cells = np.flatnonzero(dense)
    return NumberProfile(first.axis, cells, dense[cells], first.missing + second.missing, first.strays + second.strays)


@dataclass(frozen=True, slots=True)
class CategoryAxis:
    """The values of a category that its reference knows: its most frequent ones, at most `KNOWN_VALUES_MAX`."""

    known: tuple[str, ...]

    @classmethod
    def of(cls, values: pa.Array) -> "CategoryAxis":
        """Return the axis of a reference: the most frequent values first, ties in the order of the text."""
        counted = counted_values(values)
        return cls(tuple(_most_frequent(counted, KNOWN_VALUES_MAX).column("values").to_pylist()))


@dataclass(frozen=True, slots=True)
class CategoryProfile:
    """Counts of one category: per known value (int64, shape (len(known),)), and per value not known."""

    axis: CategoryAxis
    counts: IntArray
    unseen: dict[str, int] = field(default_factory=dict)
    overflow: int = 0
    missing: int = 0
    strays: int = 0

    @property
    def unseen_rows(self) -> int:
        """Rows whose value the reference's axis does not know."""
        return sum(self.unseen.values()) + self.overflow

    @property
    def present(self) -> int:
        """Rows with a value."""
        return int(self.counts.sum()) + self.unseen_rows

    @property
    def rows(self) -> int:
        """All rows: with a value, missing, and of another type."""
        return self.present + self.missing + self.strays


def profile_category(values: pa.Array, axis: CategoryAxis, *, missing: int = 0, strays: int = 0) -> CategoryProfile:
    """Profile one category column.

    Args:
        values: text, shape (n,); nulls count as missing.
        axis: the reference's axis.
        missing: further missing rows, already taken out of `values`.
        strays: rows of another type, already taken out of `values`.

    Example:
        >>> profile_category(pa.array(["a", "b", "c", None]), CategoryAxis(("a", "b"))).unseen
        {'c': 1}
    """
    counting = CategoryCounting(axis)
    counting.add(values)
    return counting.profile(missing=missing, strays=strays)


class CategoryCounting:
    """Counts categories that come piece by piece, in constant memory: the known values and a bounded list of others."""

    def __init__(self, axis: CategoryAxis) -> None:
        self.axis = axis
        self._known = pa.array(axis.known, type=pa.string()) if axis.known else pa.nulls(0, pa.string())
        self._counts = np.zeros(len(axis.known), dtype=np.int64)
        self._unseen: dict[str, int] = {}
        self._overflow = self._missing = 0

    def add(self, values: pa.Array) -> None:
        """Count further values: text, dictionary of text or boolean, shape (n,); nulls count as missing."""
        counted = counted_values(values)
        counts = counted.column("counts").to_numpy()
        self._missing += len(values) - int(counts.sum())
        index = pc.index_in(counted.column("values"), value_set=self._known)
        known = index.is_valid().to_numpy(zero_copy_only=False)
        np.add.at(self._counts, index.drop_null().to_numpy(), counts[known])
        if index.null_count:
            others = counted.filter(index.is_null())
            total = int(counts[~known].sum())
            kept = _most_frequent(others, UNSEEN_VALUES_MAX)
            pairs = zip(kept.column("values").to_pylist(), kept.column("counts").to_pylist(), strict=True)
            for value, count in pairs:
                self._unseen[value] = self._unseen.get(value, 0) + count
                total -= count
            self._unseen, more = _bounded(self._unseen)
            self._overflow += total + more

    def profile(self, *, missing: int = 0, strays: int = 0) -> CategoryProfile:
        """Return what was counted so far, beside missing rows and strays that were taken out before."""
        return CategoryProfile(
            self.axis, self._counts.copy(), dict(self._unseen), self._overflow, missing + self._missing, strays
        )


_COUNTED = pa.schema([("values", pa.string()), ("counts", pa.int64())])


def counted_values(values: pa.Array) -> pa.RecordBatch:
    """Return each value that is not null with its rows: columns `values` (text) and `counts` (int64).

    Args:
        values: text, a dictionary of text, or boolean, shape (n,); a dictionary may hold a value twice.
    """
    if pa.types.is_boolean(values.type):
        both = {"false": values.false_count, "true": values.true_count}
        met = {value: count for value, count in both.items() if count}
        return pa.RecordBatch.from_arrays([list(met), list(met.values())], schema=_COUNTED)
    if pa.types.is_dictionary(values.type):
        codes = values.indices.drop_null().to_numpy()
        rows = np.bincount(codes, minlength=len(values.dictionary)).astype(np.int64)
        used = np.flatnonzero(rows)
        texts, counts = values.dictionary.take(pa.array(used)), pa.array(rows[used])
        present = texts.is_valid()
        texts, counts = texts.filter(present), counts.filter(present)
    else:
        counted = pc.value_counts(values)
        texts, counts = counted.field("values"), counted.field("counts")
        if values.null_count:
            present = texts.is_valid()
            texts, counts = texts.filter(present), counts.filter(present)
    return pa.RecordBatch.from_arrays([texts.cast(pa.string()), counts], schema=_COUNTED)


def _most_frequent(counted: pa.RecordBatch, most: int) -> pa.RecordBatch:
    """The rows of the most frequent values, ties in the order of the text."""
    order = [("counts", "descending"), ("values", "ascending")]
    return counted.take(pc.select_k_unstable(counted, k=min(most, counted.num_rows), sort_keys=order))


def merge_categories(first: CategoryProfile, second: CategoryProfile) -> CategoryProfile:
    """Add two profiles of one axis; exact while fewer than `UNSEEN_VALUES_MAX` unknown values were met.

    Raises:
        InvalidInputError: the profiles lie on different axes.
    """
    if first.axis != second.axis:
        raise InvalidInputError(
            "Profiles with different references cannot be added.", hint="Profile both against the same reference."
        )
    together = dict(first.unseen)
    for value, count in second.unseen.items():
        together[value] = together.get(value, 0) + count
    unseen, overflow = _bounded(together)
    return CategoryProfile(
        first.axis,
        first.counts + second.counts,
        unseen,
        overflow + first.overflow + second.overflow,
        first.missing + second.missing,
        first.strays + second.strays,
    )


def _bounded(counts: dict[str, int]) -> tuple[dict[str, int], int]:
    if len(counts) <= UNSEEN_VALUES_MAX:
        return counts, 0
    kept = dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:UNSEEN_VALUES_MAX])
    return kept, sum(counts.values()) - sum(kept.values())
