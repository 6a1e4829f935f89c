"""Running a monitor: close every complete window since the last one, exactly once, and raise what it shows.

Rules that hold here:
1. The monitor's row is locked, and windows, signals, evidence, incidents and the next start are one transaction:
   whoever dies, a window is closed once or not at all.
2. Windows close in order. One closes when event time has moved past its end by the delay; one that needs outcomes
   also waits until most have come, or the wait is over.
3. Only accumulated evidence raises an incident, so that the promise of false alarms holds for the whole monitor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import insert, select, update

from everline.access.declare import act
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError, NotFoundError
from everline.governance import audit
from everline.monitoring import tables
from everline.monitoring.diagnosis.raising import raise_alarms
from everline.monitoring.drift.columns import Column, column_of
from everline.monitoring.drift.combination import benjamini_hochberg
from everline.monitoring.profiles import FloatArray
from everline.monitoring.references import feature_reference, output_reference, quality_baseline
from everline.monitoring.schedule import first_start
from everline.monitoring.service import monitor_of, require_monitor, window_length
from everline.monitoring.types import Monitor, MonitorKind, MonitorRun, Signal, Window
from everline.monitoring.windows.blocks import BLOCKS_MIN, BlockReference
from everline.monitoring.windows.quality import ROWS_MIN as QUALITY_ROWS_MIN
from everline.monitoring.windows.quality import baseline_from_json, baseline_to_json, prepare_quality
from everline.monitoring.windows.readings import Reading, read_features, read_quality
from everline.monitoring.windows.sequence import Evidence, accumulate, e_value, threshold
from everline.serving.predictions import event_span, read_window
from everline.storage.db import upsert

OUTCOMES_SHARE_MIN = 0.5
EVIDENCE_OVER_LEVEL_MAX = 10.0


@dataclass
class _Tally:
    windows: list[Window] = field(default_factory=list)
    alarms: int = 0
    opened: list[str] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)


@act
def run_monitor(uow: UnitOfWork, name: str, *, project: str, until: datetime | None = None) -> MonitorRun:
    """Close the complete windows of a monitor, at most `monitor_windows_max`; nothing to close changes nothing.

    Args:
        until: how far event time has come; None asks the prediction log.

    Raises:
        NotFoundError: no such monitor.
        InvalidInputError: its reference can no longer be used.
    """
    uow.require(Permission.MONITOR_WRITE, project)
    row = require_monitor(uow, name, project=project, lock=True)
    monitor, pinned = monitor_of(row), dict(row.pinned or {})
    tally, more = _Tally(), False
    span = event_span(uow, monitor.endpoint, project=project)
    start = row.next_start or first_start(monitor, span)
    reached = until or (span[1] if span else None)
    length = window_length(monitor.window)
    while start is not None and reached is not None:
        table = _complete_window(uow, monitor, start, start + length, reached)
        if table is None:
            break
        if len(tally.windows) >= uow.settings.monitor_windows_max:
            more = True
            break
        _close(uow, monitor, pinned, tally, table, start=start, end=start + length)
        start += length
    if not tally.windows:
        uow.unchanged()
        return MonitorRun(monitor=name)
    uow.conn.execute(
        update(tables.monitor).where(tables.monitor.c.uid == monitor.uid).values(next_start=start, pinned=pinned)
    )
    audit.record(
        uow, "monitor.run", subject=f"monitor:{monitor.uid}", project=project, name=name,
        windows=len(tally.windows), first=tally.windows[0].start.isoformat(),
        last=tally.windows[-1].start.isoformat(), alarms=tally.alarms, opened=tally.opened,
    )  # fmt: skip
    return MonitorRun(
        monitor=name, windows=tally.windows, alarms=tally.alarms, opened=tally.opened, joined=tally.joined, more=more
    )


def run_job(uow: UnitOfWork, payload: dict[str, Any]) -> dict[str, Any]:
    """The durable job `monitor.run`: payload `{"project", "monitor"}`; the next job goes on where this one ends."""
    try:
        done = run_monitor(uow, payload["monitor"], project=payload["project"])
    except NotFoundError as error:
        return {"skipped": error.message}
    return {"windows": len(done.windows), "alarms": done.alarms, "opened": done.opened, "more": done.more}


def _complete_window(
    uow: UnitOfWork, monitor: Monitor, start: datetime, end: datetime, reached: datetime
) -> pa.Table | None:
    """The window's rows if it can be closed, else None."""
    due = end + timedelta(seconds=monitor.delay_s)
    if reached < due:
        return None
    table = read_window(uow, monitor.endpoint, project=monitor.project, start=start, end=end)
    if monitor.kind is not MonitorKind.QUALITY or reached >= due + timedelta(seconds=monitor.outcome_wait_s):
        return table
    known = table.num_rows - table["outcome"].null_count
    return table if known >= OUTCOMES_SHARE_MIN * table.num_rows else None


def _close(
    uow: UnitOfWork,
    monitor: Monitor,
    pinned: dict[str, Any],
    tally: _Tally,
    table: pa.Table,
    *,
    start: datetime,
    end: datetime,
) -> None:
    inputs = {name[3:]: column_of(table[name]) for name in table.column_names if name.startswith("in.")}
    package = _main_package(table)
    before = pinned.get("last_package")
    learning = _learning(uow, monitor, pinned, table, start=start, end=end)
    readings = _readings(uow, monitor, pinned, table, inputs, package) if table.num_rows and not learning else {}
    signals = _signals(uow, monitor, readings, start=start, streams=len(pinned.get("streams", ())) or len(readings))
    alarmed = [name for name, signal in signals.items() if signal.alarm]
    status = "baseline" if learning else "silent" if not signals else "alarm" if alarmed else "quiet"
    window = Window(
        start=start, until=end, rows=table.num_rows, outcomes=table.num_rows - table["outcome"].null_count,
        status=status, package=package, closed_at=uow.clock.now(),
    )  # fmt: skip
    values = {name: getattr(window, name) for name in Window.__struct_fields__}
    uow.conn.execute(insert(tables.window).values(monitor=monitor.uid, **values))
    tally.windows.append(window)
    tally.alarms += len(alarmed)
    if package is not None:
        pinned["last_package"] = package
    if alarmed:
        opened, joined = raise_alarms(
            uow, monitor, table=table, inputs=inputs, signals=signals, start=start, end=end, package=package,
            changed_package=before is not None and before != package,
        )  # fmt: skip
        tally.opened += opened
        tally.joined += joined


def _readings(
    uow: UnitOfWork,
    monitor: Monitor,
    pinned: dict[str, Any],
    table: pa.Table,
    inputs: Mapping[str, Column],
    package: str | None,
) -> dict[str, Reading]:
    if monitor.kind is MonitorKind.DRIFT:
        if "streams" not in pinned:
            pinned["streams"] = _streams(uow, monitor, inputs)
        reference: BlockReference = feature_reference(uow, monitor, pinned["streams"])
        return read_features(reference, inputs)
    if package is None:
        return {}
    pinned.setdefault("package", package)
    if monitor.kind is MonitorKind.PREDICTION_DRIFT:
        reference = output_reference(uow, monitor, pinned["package"])
        outputs = {
            name: column_of(table[f"out.{name}"]) for name in reference.features if f"out.{name}" in table.column_names
        }
        pinned.setdefault("streams", sorted(outputs))
        return read_features(reference, outputs)
    baseline = (
        quality_baseline(uow, monitor, pinned["package"])
        if monitor.baseline_windows is None
        else baseline_from_json(pinned["baseline"])
    )
    pinned.setdefault("streams", sorted(baseline.spreads))
    return read_quality(baseline, *_answers(monitor, table))


def _learning(
    uow: UnitOfWork, monitor: Monitor, pinned: dict[str, Any], table: pa.Table, *, start: datetime, end: datetime
) -> bool:
    """Whether the window is one of those that a quality monitor learns its baseline from; the last one ends it."""
    if monitor.kind is not MonitorKind.QUALITY or monitor.baseline_windows is None or "baseline" in pinned:
        return False
    pinned["learning"] = int(pinned.get("learning", 0)) + 1
    if pinned["learning"] < monitor.baseline_windows:
        return True
    length = end - start
    starts = [end - back * length for back in range(pinned["learning"], 0, -1)]
    before = [
        read_window(uow, monitor.endpoint, project=monitor.project, start=one, end=one + length) for one in starts[:-1]
    ]
    blocks = [_answers(monitor, one) for one in (*before, table) if one.num_rows]
    usable = [block for block in blocks if len(block[1]) >= QUALITY_ROWS_MIN]
    if len(usable) >= BLOCKS_MIN:
        pinned["baseline"] = baseline_to_json(prepare_quality(usable))
    return True


def _answers(monitor: Monitor, table: pa.Table) -> tuple[FloatArray, FloatArray]:
    """What was predicted and what came, where both are known."""
    name = f"out.{monitor.output}"
    if name not in table.column_names:
        name = next(name for name in table.column_names if name.startswith("out."))
    predicted = np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    outcome = np.asarray(table["outcome"].to_numpy(zero_copy_only=False), dtype=np.float64)
    known = np.isfinite(predicted) & np.isfinite(outcome)
    return predicted[known], outcome[known]


def _streams(uow: UnitOfWork, monitor: Monitor, inputs: Mapping[str, Column]) -> list[str]:
    wanted = monitor.features if monitor.features is not None else sorted(inputs)
    if len(wanted) > uow.settings.monitor_features_max:
        raise InvalidInputError(
            f"The endpoint has {len(wanted)} inputs; a monitor watches at most {uow.settings.monitor_features_max}.",
            hint="Name those that matter as `features`.",
            field="features",
        )
    return list(feature_reference(uow, monitor, wanted).features)


def _signals(
    uow: UnitOfWork, monitor: Monitor, readings: Mapping[str, Reading], *, start: datetime, streams: int
) -> dict[str, Signal]:
    if not readings:
        return {}
    column = tables.evidence.c
    rows = uow.conn.execute(select(tables.evidence).where(column.monitor == monitor.uid))
    before = {row.feature: Evidence(row.value, row.windows) for row in rows}
    level = threshold(monitor.windows_between_false_alarms, streams=streams)
    drifted = benjamini_hochberg([reading.p_value for reading in readings.values()])
    signals: dict[str, Signal] = {}
    for (name, reading), stands_out in zip(readings.items(), drifted, strict=True):
        e = e_value(reading.p_value)
        now = accumulate(before.get(name, Evidence()), e)
        value = min(now.value, EVIDENCE_OVER_LEVEL_MAX * level)
        signals[name] = Signal(
            start=start, feature=name, test=reading.test, p_value=reading.p_value, effect=reading.effect,
            value=reading.value, reference_value=reading.reference_value, unit=reading.unit,
            distance=reading.distance, e_value=e, evidence=value, evidence_windows=now.windows, level=level,
            drifted=stands_out, alarm=value >= level,
        )  # fmt: skip
    fields = Signal.__struct_fields__
    values = [{"monitor": monitor.uid} | {one: getattr(signal, one) for one in fields} for signal in signals.values()]
    uow.conn.execute(insert(tables.signal), values)
    states: Sequence[dict[str, Any]] = [
        {"monitor": monitor.uid, "feature": name, "value": one.evidence, "windows": one.evidence_windows}
        for name, one in signals.items()
    ]
    upsert(uow.conn, tables.evidence, states, keys=["monitor", "feature"], update=["value", "windows"])
    return signals


def _main_package(table: pa.Table) -> str | None:
    """The package that answered most of the window."""
    if table.num_rows == 0:
        return None
    counted = pc.value_counts(table["package"].combine_chunks())
    best = int(np.argmax(counted.field("counts").to_numpy()))
    package: str = counted.field("values")[best].as_py()
    return package
