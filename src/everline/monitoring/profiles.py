"""Mergeable profiles of one feature: constant memory, exact merge, no raw row kept.

A number is laid on the axis of its reference, ``z = (x - median) / scale``, and the top 16 bits of
``float32(z)`` name one of 65,536 cells: about 0.8 % wide in relation to z, dense around the median,
reaching to 1e38 on both sides. A category is counted by value, with a bound on values never seen before.
Profiles with the same axis add exactly, so replicas and windows merge without loss.
"""

from dataclasses import dataclass, field

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
        bits = ((z + 0.0).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        ordered: npt.NDArray[np.uint16] = np.where(bits & 0x8000, ~bits, bits | np.uint16(0x8000))
        return ordered

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
    absent = np.isnan(values)
    lost = int(absent.sum())
    counts = np.bincount(axis.cells(values[~absent] if lost else values), minlength=CELLS)
    cells = np.flatnonzero(counts)
    return NumberProfile(axis, cells, counts[cells].astype(np.int64), missing + lost, strays)


def merge_numbers(first: NumberProfile, second: NumberProfile) -> NumberProfile:
    """Add two profiles of one axis, exactly; the order does not matter.

    Raises:
        InvalidInputError: the profiles lie on different axes.
    """
    if first.axis != second.axis:
        raise InvalidInputError(
            "Profiles with different references cannot be added.", hint="Profile both against the same reference."
        )
    cells, inverse = np.unique(np.concatenate([first.cells, second.cells]), return_inverse=True)
    counts = np.zeros(len(cells), dtype=np.int64)
    np.add.at(counts, inverse, np.concatenate([first.counts, second.counts]))
    return NumberProfile(first.axis, cells, counts, first.missing + second.missing, first.strays + second.strays)


@dataclass(frozen=True, slots=True)
class CategoryAxis:
    """The values of a category that its reference knows: its most frequent ones, at most `KNOWN_VALUES_MAX`."""

    known: tuple[str, ...]

    @classmethod
    def of(cls, values: pa.Array) -> "CategoryAxis":
        """Return the axis of a reference: the most frequent values first, ties in the order of the text."""
        counted = pc.value_counts(values.drop_null())
        pairs = sorted(
            zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True),
            key=lambda pair: (-pair[1], pair[0]),
        )
        return cls(tuple(value for value, _ in pairs[:KNOWN_VALUES_MAX]))


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
    present = values.drop_null() if values.null_count else values
    index = pc.index_in(present, value_set=pa.array(axis.known, type=values.type))
    counts = np.bincount(
        index.drop_null().to_numpy(zero_copy_only=False).astype(np.int64), minlength=len(axis.known)
    ).astype(np.int64)
    unseen: dict[str, int] = {}
    overflow = 0
    if index.null_count:
        counted = pc.value_counts(present.filter(index.is_null()))
        pairs = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
        unseen, overflow = _bounded(dict(pairs))
    return CategoryProfile(axis, counts, unseen, overflow, missing + values.null_count, strays)


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
