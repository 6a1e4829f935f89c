"""From alarms to incidents: which alarms share a cause, and whether that cause has an incident already.

a feature that broke (nulls, frozen, unit, type, sentinel), a new category, or an abrupt change   its own incident
features that break in the same way within two windows of each other                              one together
inputs that drift gradually, as seasons do                                                         one for all
a metric, an output                                                                                one per monitor
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import pyarrow as pa
from sqlalchemy import select

from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError
from everline.monitoring import tables
from everline.monitoring.diagnosis.diagnosing import (
    Scene,
    candidates_of,
    change_of,
    diagnose_input,
    diagnose_outputs,
    diagnose_population,
)
from everline.monitoring.drift.columns import Column
from everline.monitoring.incidents import join_incident, open_incident, open_incidents
from everline.monitoring.references import feature_reference, predictor_of
from everline.monitoring.service import signal_of
from everline.monitoring.types import Incident, Monitor, MonitorKind, Signal
from everline.monitoring.windows.blocks import BlockReference
from everline.monitoring.windows.readings import read_features

POPULATION = "inputs"
LOUDER_BY = 0.01


def raise_alarms(
    uow: UnitOfWork,
    monitor: Monitor,
    *,
    table: pa.Table,
    inputs: Mapping[str, Column],
    signals: Mapping[str, Signal],
    start: datetime,
    end: datetime,
    package: str | None,
    changed_package: bool,
) -> tuple[list[str], list[str]]:
    """Open or join the incidents of a window's alarms; return the uids (opened, joined)."""
    alarmed = sorted((name for name in signals if signals[name].alarm), key=lambda name: _loudness(signals[name]))
    known: dict[str, Incident] = {}
    for incident in sorted(open_incidents(uow, monitor), key=lambda one: one.cause != POPULATION):
        known |= dict.fromkeys(incident.features, incident)  # what broke a feature counts before its season
    joined = {known[name].uid: known[name] for name in alarmed if name in known}
    for incident in joined.values():
        join_incident(uow, incident, features=[], start=start)
    new = [name for name in alarmed if name not in known]
    louder = [
        name
        for name in alarmed
        if name in known and known[name].cause == POPULATION and _louder_than_ever(uow, monitor, signals[name])
    ]
    if not new and not louder:
        return [], list(joined)
    reference = _reference(uow, monitor, inputs)
    scene = Scene(
        monitor=monitor,
        start=start,
        until=end,
        window=table,
        signals=signals,
        history=_history(uow, monitor, [*new, *louder], until=start),
        references=reference.features,
        inputs=inputs,
        strengths=_strengths(monitor, reference, inputs, signals),
        predictor=predictor_of(uow, package),
        candidates_max=uow.settings.diagnosis_candidates_max,
        changed_package=changed_package,
        fresh=frozenset(louder),
    )
    if monitor.kind is MonitorKind.DRIFT:
        broken = [name for name in louder if _cause(scene, name) != POPULATION]
        opened, more = _raise_inputs(uow, scene, [*new, *broken])
    else:
        opened, more = _raise_outputs(uow, scene, new)
    return opened, [*joined, *(uid for uid in more if uid not in joined)]


def _raise_inputs(uow: UnitOfWork, scene: Scene, new: Sequence[str]) -> tuple[list[str], list[str]]:
    groups: dict[str, list[str]] = {}
    for name in new:
        groups.setdefault(_cause(scene, name), []).append(name)
    opened: list[str] = []
    joined: list[str] = []
    for cause, names in groups.items():
        current = _same_cause(open_incidents(uow, scene.monitor), cause, scene)
        if current is not None:
            join_incident(uow, current, features=names, start=scene.start)
            joined.append(current.uid)
        else:
            opened.append(_open_for_inputs(uow, scene, cause, names))
    return opened, joined


def _open_for_inputs(uow: UnitOfWork, scene: Scene, cause: str, names: Sequence[str]) -> str:
    drifted = [name for name, signal in scene.signals.items() if signal.drifted and name not in names]
    candidates = candidates_of(scene, [*names, *sorted(drifted, key=lambda name: _loudness(scene.signals[name]))])
    population = cause == POPULATION
    if population:
        diagnosis = diagnose_population(scene, names, candidates)
        severity = "low"
    else:
        diagnosis = diagnose_input(scene, names[0], candidates)
        severity = "high" if diagnosis.change and diagnosis.change.broken else "medium"
    return open_incident(
        uow,
        scene.monitor,
        cause=cause if population else f"{cause}:{names[0]}",
        severity=severity,
        features=names,
        diagnosis=diagnosis,
        start=scene.start,
        until=scene.until,
    )


def _raise_outputs(uow: UnitOfWork, scene: Scene, new: Sequence[str]) -> tuple[list[str], list[str]]:
    cause = scene.monitor.kind.value
    current = _same_cause(open_incidents(uow, scene.monitor), cause, scene)
    if current is not None:
        join_incident(uow, current, features=new, start=scene.start)
        return [], [current.uid]
    candidates = candidates_of(scene, sorted(scene.strengths, key=lambda name: scene.strengths[name]))
    diagnosis = diagnose_outputs(scene, new[0], candidates)
    severity = "high" if scene.monitor.kind is MonitorKind.QUALITY else "medium"
    uid = open_incident(
        uow, scene.monitor, cause=cause, severity=severity, features=new, diagnosis=diagnosis,
        start=scene.start, until=scene.until,
    )  # fmt: skip
    return [uid], []


def _cause(scene: Scene, name: str) -> str:
    change = change_of(scene, name)
    if change is None:
        return scene.signals[name].test if scene.signals[name].test in ("schema", "type") else POPULATION
    return change.kind if change.broken or change.kind == "new_category" else POPULATION


def _same_cause(incidents: Sequence[Incident], cause: str, scene: Scene) -> Incident | None:
    """The open incident that this cause belongs to: the same one, or the same break within two windows."""
    for incident in incidents:
        if incident.cause == cause:
            return incident
        recent = scene.start - incident.window_start <= 2 * (scene.until - scene.start)
        if cause != POPULATION and incident.cause.partition(":")[0] == cause and recent:
            return incident
    return None


def _reference(uow: UnitOfWork, monitor: Monitor, inputs: Mapping[str, Column]) -> BlockReference:
    """The reference's inputs; without them an incident is still opened, only with less to say."""
    try:
        return feature_reference(uow, monitor, sorted(inputs))
    except EverlineError:
        return BlockReference({}, 0)


def _strengths(
    monitor: Monitor, reference: BlockReference, inputs: Mapping[str, Column], signals: Mapping[str, Signal]
) -> dict[str, tuple[float, float]]:
    if monitor.kind is MonitorKind.DRIFT:
        return {name: (signal.p_value, signal.distance) for name, signal in signals.items()}
    return {name: (one.p_value, one.distance) for name, one in read_features(reference, inputs).items()}


def _history(uow: UnitOfWork, monitor: Monitor, names: Sequence[str], *, until: datetime) -> dict[str, list[Signal]]:
    column = tables.signal.c
    history: dict[str, list[Signal]] = {}
    for name in names:
        query = (
            select(tables.signal)
            .where(column.monitor == monitor.uid, column.feature == name, column.start <= until)
            .order_by(column.start.desc())
            .limit(uow.settings.monitor_history_windows_max)
        )
        history[name] = [signal_of(row) for row in reversed(uow.conn.execute(query).all())]
    return history


def _louder_than_ever(uow: UnitOfWork, monitor: Monitor, signal: Signal) -> bool:
    """Whether a feature that drifts with its season says something new: a fault on top of it is far less likely."""
    if not signal.drifted:
        return False
    column = tables.signal.c
    query = (
        select(column.p_value)
        .where(column.monitor == monitor.uid, column.feature == signal.feature, column.start < signal.start)
        .order_by(column.start.desc())
        .limit(uow.settings.monitor_history_windows_max)
    )
    before = [row.p_value for row in uow.conn.execute(query)]
    return signal.p_value <= LOUDER_BY * min(before, default=1.0)


def _loudness(signal: Signal) -> tuple[float, float, str]:
    return (signal.p_value, -signal.distance, signal.feature)
