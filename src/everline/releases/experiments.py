"""A/B: two revisions of an endpoint beside each other, on units that chance divided between them.

The unit is the sticky key where callers send one, else the request: rows of one unit depend on each other, so that
each unit counts once, by its mean. Intervals are of 95 %: Newcombe's hybrid score interval (1998) where every unit has
one row and says yes or no, Welch's (1947) for anything else. Whether units were divided by the shares at all is asked
first, by the chi-squared test of Fabijan et al. (2019): a ratio that is off means that one side's units got lost, and
then no difference between the rest can be believed.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, InvalidInputError
from everline.loader import late
from everline.models.comparison import FloatArray
from everline.releases import guards
from everline.releases.intervals import Interval, newcombe, sample_ratio, welch
from everline.releases.types import Arm, Experiment
from everline.serving import predictions, service
from everline.serving.types import Revision, RevisionRole

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
else:
    np = late("numpy")
    pa = late("pyarrow")
    pc = late("pyarrow.compute")

UNITS_MIN = 30
RATIO_LEVEL = 0.001


@read
def compare_revisions(
    uow: UnitOfWork, endpoint: str, *, project: str, metric: str = "outcome", since: datetime | None = None
) -> Experiment:
    """Compare the canary of an endpoint with its primary, since their shares became what they are.

    Args:
        metric: `outcome` (the mean true outcome), `loss` (log loss, else squared error), or an output's name.
        since: a later moment than that.

    Raises:
        ConflictError: the endpoint has no canary.
        InvalidInputError: there is no such metric.
    """
    uow.require(Permission.PREDICTION_READ, project)
    found = service.get_endpoint(uow, endpoint, project=project)
    by_role = {one.role: one for one in found.revisions}
    if RevisionRole.CANARY not in by_role or RevisionRole.PRIMARY not in by_role:
        raise ConflictError(
            f"The endpoint {endpoint!r} has no canary to compare its primary with.",
            hint="`everline release canary` starts one; `--shadow` compares a shadow.",
            field="endpoint",
        )
    sides = [by_role[RevisionRole.PRIMARY], by_role[RevisionRole.CANARY]]
    began = max(side.since for side in sides)
    start = began if since is None else max(began, since)
    limit = min(uow.settings.experiment_rows_max, uow.settings.window_rows_max)
    table = predictions.newest(uow, endpoint, project=project, limit=limit, since=start)
    unit = "request" if table.num_rows == 0 or table["key"].null_count == table.num_rows else "key"
    parts = [guards.of_revision(table, side.revision) for side in sides]
    values = [_values(part, metric) for part in parts]
    arms, units = zip(*(_arm(*one, unit=unit) for one in zip(sides, parts, values, strict=True)), strict=True)
    return _judged(
        Experiment(endpoint=endpoint, metric=metric, unit=unit, since=start, primary=arms[0], canary=arms[1]),
        units[0], units[1], is_once=all(arm.rows == arm.units for arm in arms),
    )  # fmt: skip


def _arm(side: Revision, rows: pa.Table, values: pa.ChunkedArray, *, unit: str) -> tuple[Arm, FloatArray]:
    ids = pc.coalesce(rows[unit], rows["request"], rows["prediction"])
    known = pc.is_valid(values)
    means = _means(ids.filter(known), values.filter(known))
    arm = Arm(
        revision=side.revision, model=side.model, version=side.version, share=side.share, rows=rows.num_rows,
        units=pc.count_distinct(ids).as_py() if rows.num_rows else 0, n=means.size,
        mean=float(means.mean()) if means.size else None,
    )  # fmt: skip
    return arm, means


def _means(ids: pa.ChunkedArray, values: pa.ChunkedArray) -> FloatArray:
    """The mean of each unit's values."""
    if len(ids) == 0:
        return np.empty(0)
    grouped = pa.table({"id": ids, "value": values}).group_by("id").aggregate([("value", "mean")])
    means: FloatArray = grouped["value_mean"].to_numpy()
    return means


def _values(rows: pa.Table, metric: str) -> pa.ChunkedArray:
    """The metric of each row, float64, null where it is not known."""
    if metric == "outcome" or rows.num_rows == 0:
        return rows["outcome"].cast(pa.float64())
    if metric == "loss":
        return guards.loss_of_rows(rows)
    name = f"out.{metric}"
    if name not in rows.column_names:
        outputs = ", ".join(one.removeprefix("out.") for one in rows.column_names if one.startswith("out."))
        raise InvalidInputError(
            f"There is no metric {metric[:64]!r}.", hint=f"Use outcome, loss, or an output: {outputs}.", field="metric"
        )
    try:
        return rows[name].cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InvalidInputError(
            f"The output {metric!r} is no number.", hint="Use outcome, loss, or another output.", field="metric"
        ) from None


def _judged(found: Experiment, primary: FloatArray, canary: FloatArray, *, is_once: bool) -> Experiment:
    counts, shares = (found.primary.units, found.canary.units), (found.primary.share, found.canary.share)
    ratio = sample_ratio(counts, shares) if sum(counts) >= UNITS_MIN else None
    known: dict[str, object] = {"ratio_p_value": ratio}
    few = min(primary.size, canary.size)
    if few < UNITS_MIN:
        known["text"] = f"{few} {found.unit}s with a value on the smaller side, of at least {UNITS_MIN}."
    else:
        interval, method = _interval(primary, canary, is_once=is_once)
        verdict = "higher" if interval.low > 0 else "lower" if interval.high < 0 else "no difference shown"
        known |= {
            "difference": interval.value, "low": interval.low, "high": interval.high, "method": method,
            "verdict": verdict,
            "text": f"{found.metric} of the canary against the primary: {interval.value:+.4g}, "
            f"95 % {interval.low:+.4g} to {interval.high:+.4g} ({method}).",
        }  # fmt: skip
    if ratio is not None and ratio < RATIO_LEVEL:
        n = found.canary.units / sum(counts)
        known |= {
            "verdict": "divided otherwise",
            "text": f"{n:.2%} of the {found.unit}s reached the canary where its share is {found.canary.share:.2%} "
            f"(p = {ratio:.2g}): find out why before anything else is read.",
        }
    return Experiment(**({name: getattr(found, name) for name in Experiment.__struct_fields__} | known))


def _interval(primary: FloatArray, canary: FloatArray, *, is_once: bool) -> tuple[Interval, str]:
    if is_once and np.isin(primary, (0.0, 1.0)).all() and np.isin(canary, (0.0, 1.0)).all():
        return newcombe(int(canary.sum()), canary.size, int(primary.sum()), primary.size), "newcombe"
    return welch(canary, primary), "welch"
