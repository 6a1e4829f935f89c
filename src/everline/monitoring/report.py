"""`drift_report`: did anything drift between two tables of independent rows, and which feature first?"""

from dataclasses import dataclass
from typing import Any

from everline.errors import InvalidInputError
from everline.monitoring.drift.columns import Column, as_kind, blocks_of, columns_of
from everline.monitoring.drift.combination import (
    ROWS_MIN,
    Q,
    benjamini_hochberg,
    category_distance,
    combine_tests,
    compare_categories,
    compare_numbers,
    number_distance,
)
from everline.monitoring.drift.missing import missing_change
from everline.monitoring.drift.result import P_SMALLEST, DriftResult
from everline.monitoring.profiles import CategoryProfile, NumberProfile
from everline.monitoring.table_profiles import ColumnProfile, TableProfile, profile
from everline.monitoring.windows.blocks import BlockReference, judge_window, prepare_blocks

NOT_ENOUGH = "not enough data to say"


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """The verdict on one feature.

    Attributes:
        test: the test that spoke loudest; "type" or "schema" when types or columns differ; "not enough data to say".
        p_value: corrected for the number of tests on this feature.
        effect: signed, in the unit of the test (docs/monitoring.md lists them).
        distance: 0 to 1, total variation between the two sides: comparable between features.
        results: every test's answer.
    """

    name: str
    drifted: bool
    test: str
    p_value: float
    effect: float
    distance: float = 0.0
    results: tuple[DriftResult, ...] = ()


@dataclass(frozen=True, slots=True)
class DriftReport:
    """Every feature's verdict, the most drifted first; false alarms are held at `q` for the whole report."""

    drifted: bool
    features: tuple[FeatureDrift, ...]
    q: float
    reference_rows: int
    current_rows: int
    added: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, features in the order of the report."""
        return {
            "drifted": self.drifted,
            "features": {
                one.name: {"drifted": one.drifted, "test": one.test, "p_value": one.p_value, "effect": one.effect}
                for one in self.features
            },
        }

    def __str__(self) -> str:
        """One line per feature."""
        head = "drifted" if self.drifted else "no drift"
        lines = [f"{head}: {self.reference_rows:,} reference rows, {self.current_rows:,} current rows"]
        for one in self.features:
            mark = "*" if one.drifted else " "
            lines.append(f"{mark} {one.name}: {one.test}, p = {one.p_value:.2g}, effect {one.effect:+.3g}")
        return "\n".join(lines)


def drift_report(reference: Any, current: Any, *, blocks: str | None = None, q: float = Q) -> DriftReport:
    """Compare two tables feature by feature, with a stated rate of false alarms.

    Types come first: a column that is gone or holds another type is named as such, and no column can abort the
    report. Then each feature is judged by tests of a minimum effect on counts (see `everline.monitoring.drift`),
    and Benjamini-Hochberg holds the false alarms of the whole report at `q`.

    Args:
        reference: pandas or polars DataFrame or pyarrow Table: what is normal; or its profile (`everline.profile`),
            which is kept where many tables are compared with one reference.
        current: the same kinds: what is to be judged. Columns that only it has are listed in `added`.
        blocks: a column of the reference by which its rows belong together, such as the day. Rows of a day share
            their weather, so they are not independent: with `blocks`, the current table is taken as one such block
            and judged against the natural movement of the reference's blocks (at least 8). The column itself is
            not judged.
        q: how often a report may alarm when nothing drifts, above 0 and below 1; at most 1 % by default.

    Raises:
        InvalidInputError: an argument is no table, or `blocks` names no column or too few blocks.

    Example:
        >>> import numpy as np, pyarrow as pa
        >>> rng = np.random.default_rng(7)
        >>> table = lambda n, shift: pa.table({"a": rng.normal(size=n), "b": rng.normal(shift, size=n)})
        >>> report = drift_report(table(20000, 0.0), table(2000, 1.0)).to_dict()
        >>> report["drifted"], next(iter(report["features"]))
        (True, 'b')
    """
    verdicts: list[FeatureDrift]
    if blocks is None:
        before = _profiled(reference, side="reference")
        now = _profiled(current, side="current", like=before)
        verdicts = [compare_profiles(name, column, now.columns.get(name)) for name, column in before.columns.items()]
        rows, added = (before.rows, now.rows), [name for name in now.columns if name not in before.columns]
    else:
        old, new = _rows_of(reference, side="reference"), _rows_of(current, side="current")
        rows = tuple(max((column.rows for column in side.values()), default=0) for side in (old, new))  # type: ignore[assignment]
        old.pop(blocks, None)
        prepared = prepare_blocks(blocks_of(reference, by=blocks, side="reference"))
        verdicts = [_in_blocks(prepared, name, column, new.get(name)) for name, column in old.items()]
        added = [name for name in new if name not in old and name != blocks]
    fallen = benjamini_hochberg([verdict.p_value for verdict in verdicts], q=q)
    judged = [
        FeatureDrift(one.name, fell, one.test, one.p_value, one.effect, one.distance, one.results)
        for one, fell in zip(verdicts, fallen, strict=True)
    ]
    judged.sort(key=lambda one: (not one.drifted, one.p_value, -one.distance, -abs(one.effect)))
    return DriftReport(
        drifted=any(fallen),
        features=tuple(judged),
        q=q,
        reference_rows=rows[0],
        current_rows=rows[1],
        added=tuple(added),
    )


def _profiled(table: Any, *, side: str, like: TableProfile | None = None) -> TableProfile:
    """The table as counts; one that was profiled before must lie on the reference's axes."""
    if not isinstance(table, TableProfile):
        return profile(table, reference=like, side=side)
    for name, column in (like.columns if like is not None else {}).items():
        other = table.columns.get(name)
        if column.counts is None or other is None or other.counts is None or other.kind != column.kind:
            continue
        if column.counts.axis != other.counts.axis:
            raise InvalidInputError(
                f"The column {name!r} was not profiled against this reference, so the two cannot be compared.",
                hint="Profile the current table with `reference=` the reference's profile.",
                field=name,
            )
    return table


def _rows_of(table: Any, *, side: str) -> dict[str, Column]:
    if isinstance(table, TableProfile):
        raise InvalidInputError(
            f"The {side} is a profile, which has no rows to cut into blocks.",
            hint="Pass the tables themselves, or leave `blocks` out.",
            field=side,
        )
    return columns_of(table, side=side)


def compare_profiles(name: str, reference: ColumnProfile, current: ColumnProfile | None) -> FeatureDrift:
    """Judge one feature of independent rows; `drifted` is left False until the whole report is known."""
    early = _schema(name, reference, current)
    if early is not None or current is None:
        return early or _silent(name)
    results, apart = _tests(reference, current)
    if not results:
        return _silent(name)
    loudest = combine_tests(results)
    return FeatureDrift(name, False, loudest.test, loudest.p_value, loudest.effect, apart, tuple(results))


def _schema(
    name: str, reference: Column | ColumnProfile, current: Column | ColumnProfile | None
) -> FeatureDrift | None:
    """Types first: return a verdict where types alone decide."""
    if current is None:
        return FeatureDrift(name, False, "schema", P_SMALLEST, 1.0, 1.0)
    if current.rows == 0 or reference.rows == 0:
        return _silent(name)
    both_typed = reference.kind != "none" and current.kind != "none"
    if both_typed and reference.kind != current.kind:
        return FeatureDrift(name, False, "type", P_SMALLEST, current.present / current.rows, 1.0)
    if current.strays and not reference.strays:
        share = current.strays / current.rows
        return FeatureDrift(name, False, "type", P_SMALLEST, share, share)
    return None


def _tests(reference: ColumnProfile, current: ColumnProfile) -> tuple[list[DriftResult], float]:
    old, new = reference.counts, current.counts
    if isinstance(old, NumberProfile) and isinstance(new, NumberProfile):
        return compare_numbers(old, new), number_distance(old, new)
    if isinstance(old, CategoryProfile) and isinstance(new, CategoryProfile):
        return compare_categories(old, new), category_distance(old, new)
    # Times always move on, and lists have no order: only whether rows are missing can be compared.
    if min(reference.rows, current.rows) < ROWS_MIN:
        return [], 0.0
    result = missing_change((reference.missing, reference.rows), (current.missing, current.rows))
    return [result], abs(result.effect)


def _in_blocks(prepared: BlockReference, name: str, reference: Column, current: Column | None) -> FeatureDrift:
    current = None if current is None else as_kind(current, reference.kind)
    early = _schema(name, reference, current)
    if early is not None or current is None:
        return early or _silent(name)
    judged = judge_window(prepared, {name: current}).get(name)
    if judged is None:
        return _silent(name)
    return FeatureDrift(
        name, False, judged.loudest.test, judged.loudest.p_value, judged.loudest.effect, judged.distance, judged.results
    )


def _silent(name: str) -> FeatureDrift:
    return FeatureDrift(name, False, NOT_ENOUGH, 1.0, 0.0)
