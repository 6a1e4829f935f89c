"""The law of backtests: the server holds a candidate's answers against its own log, and signs what it worked out.

The client asks the candidate, because loading models is no work for a control plane; it sends ids and answers. What
was answered, when, by which version, and how it turned out, is read from the log here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_digest
from everline.clock import rfc3339
from everline.errors import InvalidInputError, TooLargeError
from everline.governance import evidence
from everline.loader import late
from everline.models import comparison
from everline.models import service as models
from everline.models.slices import compare_slices
from everline.models.types import Comparison, SliceComparison, TrackedVersion
from everline.reproduction import service as reproduction
from everline.reproduction.backtests import flips
from everline.reproduction.backtests.types import FLIPS_TOLD_MAX, Backtest, BacktestReport, Flip
from everline.reproduction.statements import test_result
from everline.serving import predictions

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
else:
    np, pa, pc = late("numpy"), late("pyarrow"), late("pyarrow.compute")

SLICES_MAX = 10
LABEL, PROBABILITY = "label", "probability"


@read
def judge(uow: UnitOfWork, project: str, given: Backtest) -> BacktestReport:
    """Hold a candidate's answers against the log.

    Raises:
        NotFoundError: there is no such endpoint or version.
        InvalidInputError: a prediction is not in the log, or an answer is missing.
        TooLargeError: more than `comparison_rows_max` predictions.
    """
    uow.require(Permission.PREDICTION_READ, project)
    if len(given.predictions) > uow.settings.comparison_rows_max:
        raise TooLargeError(
            f"{len(given.predictions)} predictions are more than {uow.settings.comparison_rows_max}.",
            hint="Take fewer with --limit, or a shorter span.",
            field="predictions",
        )
    if len(given.slices) > SLICES_MAX:
        raise InvalidInputError(f"At most {SLICES_MAX} columns can be sliced by.", field="slices")
    version = models.get_version(uow, project, given.model, given.version)
    if version.package is None:
        raise InvalidInputError(f"{version.model}/{version.version} has no package to be asked.", field="version")
    for name, values in given.outputs.items():
        if len(values) != len(given.predictions):
            raise InvalidInputError(
                f"{name} has {len(values)} answers for {len(given.predictions)} predictions.", field="outputs"
            )
    rows = _rows(uow, project, given)
    return _report(given, version, rows)


@act
def certify(uow: UnitOfWork, project: str, report: BacktestReport) -> BacktestReport:
    """Sign a backtest, and attach it as evidence to the candidate."""
    uow.require(Permission.EVIDENCE_WRITE, project)
    version = models.get_version(uow, project, report.model, report.version)
    facts = msgspec.to_builtins(report)
    facts.pop("certificate")
    statement = test_result(
        [{"name": version.subject, "digest": {"sha256": report.package.removeprefix("sha256:")}}],
        result="PASSED",
        configuration=[
            {
                "name": f"endpoint:{report.endpoint}",
                "digest": {"sha256": canonical_digest({"endpoint": report.endpoint}).removeprefix("sha256:")},
            }
        ],
        passed=["backtested"],
        failed=[],
        facts={**facts, "by": uow.actor.name, "at": rfc3339(uow.clock.now())},
    )
    verdict = report.comparison.verdict if report.comparison is not None else "no outcomes"
    uid, digest = reproduction.sign(uow, project, statement, kind="backtest", subject=version.subject, verdict=verdict)
    body: dict[str, Any] = {
        "endpoint": report.endpoint,
        "n": report.n,
        "flipped": report.flipped,
        "flipped_share": report.flipped / report.n if report.n else 0.0,
        "verdict": verdict,
        "certificate": uid,
        "digest": digest,
    }
    if report.comparison is not None:
        kept = ("metric", "difference", "low", "high")
        body |= {name: getattr(report.comparison, name) for name in kept}
        body["worse_slices"] = sum(one.verdict == "worse" for one in report.slices)
    evidence.attach(uow, subject=version.subject, kind="backtest", body=body, project=project)
    return msgspec.structs.replace(report, certificate=uid)


def _rows(uow: UnitOfWork, project: str, given: Backtest) -> pa.Table:
    """The logged predictions, in the order of the answers."""
    wanted = pa.array(given.predictions, pa.string())
    if len(given.predictions) != pc.count_distinct(wanted).as_py():
        raise InvalidInputError("A prediction is named twice.", field="predictions")
    logged = predictions.newest(
        uow,
        given.endpoint,
        project=project,
        limit=uow.settings.window_rows_max,
        since=given.since,
        until=given.until,
    )
    place = pc.index_in(wanted, value_set=logged["prediction"].combine_chunks())
    if place.null_count:
        missing = given.predictions[pc.index(pc.is_null(place), True).as_py()]
        raise InvalidInputError(
            f"The log of {given.endpoint!r} has no prediction {missing[:80]} in this span.", field="predictions"
        )
    return logged.take(place)


def _report(given: Backtest, version: TrackedVersion, rows: pa.Table) -> BacktestReport:
    outcome = [None if value is None else value for value in rows["outcome"].to_pylist()]
    days = _days(rows) if given.by_day else None
    facts: dict[str, Any] = {}
    if LABEL in given.outputs and f"out.{LABEL}" in rows.column_names:
        facts |= _labels(given, rows, outcome)
    shifts = []
    for name in sorted(given.outputs):
        if f"out.{name}" in rows.column_names and _is_number(rows.schema.field(f"out.{name}").type):
            old, new = _numbers(rows[f"out.{name}"].to_pylist()), _numbers(given.outputs[name])
            found = flips.shift(name, old, new, days)
            shifts += [found] if found is not None else []
    compared, why, slices = _compared(given, rows, outcome, days)
    return BacktestReport(
        endpoint=given.endpoint,
        model=version.model,
        version=version.version,
        package=version.package or "",
        n=rows.num_rows,
        refused=len(given.refused),
        why_refused=next(iter(given.refused.values()), None),
        since=pc.min(rows["at"]).as_py() if rows.num_rows else None,
        until=pc.max(rows["at"]).as_py() if rows.num_rows else None,
        answered_by=_answered_by(rows),
        shifts=tuple(shifts),
        known=sum(value is not None for value in outcome),
        comparison=compared,
        why_no_comparison=why,
        slices=slices,
        **facts,
    )


def _labels(given: Backtest, rows: pa.Table, outcome: Sequence[Any]) -> dict[str, Any]:
    before, after = rows[f"out.{LABEL}"].to_pylist(), given.outputs[LABEL]
    counted = flips.counts(before, after, outcome)
    flipped = sum(one.count for one in counted)
    low, high = flips.share_interval(flipped, len(before)) if before else (None, None)
    known = sum(one.known for one in counted)
    facts: dict[str, Any] = {
        "flipped": flipped,
        "flipped_low": low,
        "flipped_high": high,
        "counts": tuple(counted),
        "flips": _told(given, rows, before, after, outcome),
    }
    if known or any(value is not None for value in outcome):
        facts["mcnemar_p"] = flips.mcnemar(sum(one.wrong for one in counted), sum(one.right for one in counted))
    return facts


def _told(
    given: Backtest, rows: pa.Table, before: Sequence[Any], after: Sequence[Any], outcome: Sequence[Any]
) -> tuple[Flip, ...]:
    """The flips whose probability moved most."""
    old = rows[f"out.{PROBABILITY}"].to_pylist() if f"out.{PROBABILITY}" in rows.column_names else [None] * len(before)
    new = given.outputs.get(PROBABILITY) or [None] * len(before)
    changed = [at for at in range(len(before)) if not flips.same_label(before[at], after[at])]
    changed.sort(key=lambda at: -abs((new[at] or 0.0) - (old[at] or 0.0)))
    ids, moments = rows["prediction"], rows["at"]
    return tuple(
        Flip(
            prediction=ids[at].as_py(),
            at=moments[at].as_py(),
            before=before[at],
            after=after[at],
            probability_before=old[at],
            probability_after=new[at],
            outcome=outcome[at],
        )
        for at in changed[:FLIPS_TOLD_MAX]
    )


def _compared(
    given: Backtest, rows: pa.Table, outcome: Sequence[Any], days: Sequence[Any] | None
) -> tuple[Comparison | None, str | None, tuple[SliceComparison, ...]]:
    """What was answered against the candidate, where the outcome is known; or why that cannot be said."""
    if PROBABILITY not in given.outputs or f"out.{PROBABILITY}" not in rows.column_names:
        return None, "only probabilities of two classes are compared, and one of the two gives none", ()
    known = [at for at, value in enumerate(outcome) if value is not None]
    if not known:
        return None, "no outcome is known yet", ()
    truth = [float(outcome[at]) for at in known]
    if any(value not in (0.0, 1.0) for value in truth):
        return None, "an outcome is neither 0 nor 1", ()
    old = [rows[f"out.{PROBABILITY}"][at].as_py() for at in known]
    new = [given.outputs[PROBABILITY][at] for at in known]
    blocks = None if days is None else [days[at] for at in known]
    if blocks is not None and len(set(blocks)) < comparison.BLOCKS_MIN:
        blocks = None
    try:
        found = comparison.compare(truth, old, new, metric=given.metric, blocks=blocks)
        columns = {}
        for name in given.slices:
            if f"in.{name}" not in rows.column_names:
                raise InvalidInputError(f"The predictions have no input {name!r}.", field="slices")
            values = rows[f"in.{name}"].to_pylist()
            columns[name] = [values[at] for at in known]
        sliced = compare_slices(truth, old, new, slices=columns, metric=given.metric, blocks=blocks) if columns else []
    except InvalidInputError as error:
        if error.field == "slices":
            raise
        return None, error.message, ()
    return found, None, tuple(sliced)


def _answered_by(rows: pa.Table) -> dict[str, int]:
    pairs = zip(rows["model"].to_pylist(), rows["version"].to_pylist(), strict=True)
    return {f"{model}/{version}": count for (model, version), count in Counter(pairs).most_common()}


def _days(rows: pa.Table) -> list[int]:
    moments = pc.coalesce(rows["event_time"], rows["at"])
    days: list[int] = pc.floor_temporal(moments, unit="day").cast(pa.int64()).to_pylist()
    return days


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _numbers(values: Sequence[Any]) -> Any:
    return np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)
