"""A canary beside its champion, from what the data planes logged and reported since it began."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError
from everline.loader import late
from everline.models.comparison import FloatArray, errors, log_losses
from everline.releases.rows import require_row, to_champion, transitions
from everline.releases.states import State
from everline.releases.types import Side, Watch
from everline.serving import health, predictions, service
from everline.serving.types import Revision, RevisionHealth

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
else:
    np = late("numpy")
    pa = late("pyarrow")
    pc = late("pyarrow.compute")

_OUTCOMES_MIN = 30
_Z_95 = 1.959963984540054
_PROBABILITY = "out.probability"


@read
def watch(uow: UnitOfWork, uid: str) -> Watch:
    """Compare a canary's errors, latency and outcomes with its champion's, so far.

    The two answer different rows that chance divided: the difference of their log losses has Welch's interval
    for independent samples, wider than that of a paired comparison on the same rows.

    Raises:
        ConflictError: the release has had no canary.

    Source: Welch (1947), with the normal quantile, which 30 outcomes a side allow.
    """
    row = require_row(uow, uid)
    uow.require(Permission.PREDICTION_READ, row.project)
    started, ended = _span(uow, row)
    champion = to_champion(row.champion)
    if champion is None or row.revision is None:
        raise ConflictError(f"Release {uid} has no champion to be watched beside.")
    table = predictions.read_window(
        uow, row.endpoint, project=row.project, start=started, end=ended or uow.clock.now(), by="at"
    )
    reports = [one for replica in health.list_replicas(uow, project=row.project) for one in replica.revisions]
    sides, losses = [], []
    for uid_of_side in (row.revision, champion.revision):
        revision = service.get_revision(uow, uid_of_side, project=row.project)
        rows = table.filter(pc.equal(table["revision"], uid_of_side))
        loss, wrong = _quality(rows)
        sides.append(_side(revision, rows, reports, loss, wrong))
        losses.append(loss)
    difference, low, high = _difference(*losses)
    return Watch(
        release=row.uid,
        endpoint=row.endpoint,
        since=started,
        canary=sides[0],
        champion=sides[1],
        log_loss_difference=difference,
        low=low,
        high=high,
        text=_text(sides[0], sides[1], low, high),
    )


def _span(uow: UnitOfWork, row: Row[Any]) -> tuple[datetime, datetime | None]:
    moves = transitions(uow, row.uid)
    started = next((step.at for step in moves if step.after is State.CANARY), None)
    if started is None:
        raise ConflictError(
            f"Release {row.uid} has had no canary to watch.",
            hint=f"`everline release canary {row.uid}` starts one.",
            field="state",
        )
    ended = (step.at for step in moves if step.before is State.CANARY and step.after is not State.CANARY)
    return started, next(ended, None)


def _quality(rows: pa.Table) -> tuple[FloatArray, FloatArray]:
    """Log loss and error of each row with a known outcome of 0 or 1; empty where the model gives no probability."""
    empty = np.empty(0)
    if rows.num_rows == 0 or _PROBABILITY not in rows.column_names:
        return empty, empty
    known = rows.filter(pc.and_(pc.is_valid(rows["outcome"]), pc.is_valid(rows[_PROBABILITY])))
    y = known["outcome"].to_numpy()
    p = known[_PROBABILITY].cast(pa.float64()).to_numpy()
    sound = np.isin(y, (0.0, 1.0)) & (p >= 0.0) & (p <= 1.0)
    return log_losses(y[sound], p[sound]), errors(y[sound], p[sound])


def _side(
    revision: Revision, rows: pa.Table, reports: list[RevisionHealth], loss: FloatArray, wrong: FloatArray
) -> Side:
    own = [one for one in reports if one.revision == revision.revision]
    latency = rows["latency_us"].to_numpy() / 1000 if rows.num_rows else np.empty(0)
    answered = rows[_PROBABILITY].drop_null() if rows.num_rows and _PROBABILITY in rows.column_names else []
    return Side(
        revision=revision.revision,
        model=revision.model,
        version=revision.version,
        share=revision.share,
        n=rows.num_rows,
        requests=sum(one.requests for one in own),
        errors=sum(one.errors for one in own),
        p50_ms=float(np.percentile(latency, 50)) if latency.size else None,
        p95_ms=float(np.percentile(latency, 95)) if latency.size else None,
        mean_probability=float(pc.mean(answered).as_py()) if len(answered) else None,
        n_outcomes=loss.size,
        error_rate=float(wrong.mean()) if wrong.size else None,
        log_loss=float(loss.mean()) if loss.size else None,
    )


def _difference(canary: FloatArray, champion: FloatArray) -> tuple[float, float, float] | tuple[None, None, None]:
    if min(canary.size, champion.size) < _OUTCOMES_MIN:
        return None, None, None
    difference = float(canary.mean() - champion.mean())
    variance = canary.var(ddof=1) / canary.size + champion.var(ddof=1) / champion.size
    margin = _Z_95 * float(np.sqrt(variance))
    return difference, difference - margin, difference + margin


def _text(canary: Side, champion: Side, low: float | None, high: float | None) -> str:
    if canary.n == 0:
        return "The canary has answered nothing yet."
    if low is None or high is None:
        known = min(canary.n_outcomes, champion.n_outcomes)
        return f"Too few outcomes to compare quality: {known} of {_OUTCOMES_MIN} on the smaller side."
    if high < 0:
        return "The canary's log loss is lower than the champion's."
    if low > 0:
        return "The canary's log loss is higher than the champion's: consider a rollback."
    return "No difference in log loss is shown."
