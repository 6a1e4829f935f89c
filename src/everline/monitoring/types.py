"""Values of monitors, signals, incidents and alerts."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class MonitorKind(StrEnum):
    """What a monitor watches."""

    DRIFT = "drift"
    """The inputs of the endpoint, feature by feature."""
    PREDICTION_DRIFT = "prediction_drift"
    """The outputs of the endpoint."""
    QUALITY = "quality"
    """The outputs against the outcomes that came back."""


class IncidentStatus(StrEnum):
    """Where an incident stands; only one about a schedule is closed by itself."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Reference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is normal: a dataset version, cut into blocks of a window's length.

    Attributes:
        version: number, label or digest; None takes the newest when the monitor is created.
        block: the column that says which rows belong to one block, such as the day.
    """

    dataset: str
    version: str | None = None
    block: str = "day"


class Trigger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an incident sets going: one run of a pipeline.

    Attributes:
        pipeline: `module:pipeline`.
        params: its parameters; texts may hold the facts of an incident, as those of schedules do, such as "{since}",
            "{window_start}" and "{window_end}", which are days.
        directory: the folder that holds the module; None leaves it to the worker.
        unless: proposed actions that set nothing going: retraining on broken data would teach the model the fault.
    """

    pipeline: str
    params: dict[str, Any] = {}
    directory: str | None = None
    unless: tuple[str, ...] = ("fix_upstream",)


class CreateMonitor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that creates a monitor.

    Attributes:
        window: length of a window on event time: whole days ("1d", "7d") or hours ("6h").
        offset_s: windows start this long after midnight UTC (5 hours for days in New York's standard time).
        start: no window before it; None begins with the endpoint's first prediction.
        delay_s: a window closes when event time has moved past its end by this; None: 0, or 25 hours for quality.
        outcome_wait_s: a quality window with too few outcomes is waited for by this much longer.
        windows_between_false_alarms: the promised mean number of windows to a false alarm of the whole monitor.
        features: what to watch; None takes every column that reference and endpoint share.
        target: the reference's column with the true outcome (quality only).
        output: the output that is a probability or a number (quality: what is compared with the outcome).
        baseline_windows: learn what quality is normal from this many first windows in service, at least 8, instead
            of from the reference (which then needs no target and still says what the inputs were).
    """

    name: str
    endpoint: str
    kind: MonitorKind
    reference: Reference
    window: str = "1d"
    offset_s: int = 0
    start: datetime | None = None
    delay_s: int | None = None
    outcome_wait_s: int = 3 * 86_400
    windows_between_false_alarms: int = 91
    features: list[str] | None = None
    target: str | None = None
    output: str = "probability"
    baseline_windows: int | None = None
    on_incident: Trigger | None = None


class Monitor(msgspec.Struct, frozen=True, kw_only=True):
    """A monitor as it stands; `next_start` is the first window that is not closed yet."""

    uid: str
    project: str
    name: str
    endpoint: str
    kind: MonitorKind
    reference: Reference
    window: str
    offset_s: int
    start: datetime | None
    delay_s: int
    outcome_wait_s: int
    windows_between_false_alarms: int
    features: list[str] | None
    target: str | None
    output: str
    baseline_windows: int | None = None
    on_incident: Trigger | None = None
    next_start: datetime | None = None
    created_at: datetime
    created_by: str
    open_incidents: int = 0


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One closed window; `status` is quiet, alarm, baseline (learnt from), or silent: not enough data to say."""

    start: datetime
    until: datetime
    rows: int
    outcomes: int
    status: str
    package: str | None
    closed_at: datetime


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """One feature (or output, or metric) in one window.

    Attributes:
        p_value: of this window alone, corrected for the tests on this feature.
        effect: the change in `unit`; `value` and `reference_value` are the two sides of it.
        e_value: the window's bet; `evidence` is what has accumulated over `evidence_windows` windows.
        drifted: this window alone stands out among its features (false discoveries held at 1 %).
        alarm: the evidence has reached `level`, which keeps the monitor's promise of false alarms.
    """

    start: datetime
    feature: str
    test: str
    p_value: float
    effect: float
    value: float | None
    reference_value: float | None
    unit: str
    distance: float
    e_value: float
    evidence: float
    evidence_windows: int
    level: float
    drifted: bool
    alarm: bool


class MonitorRun(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a monitor did; `more` says that further windows are complete already."""

    monitor: str
    windows: list[Window] = []
    alarms: int = 0
    opened: list[str] = []
    joined: list[str] = []
    more: bool = False


class RunMonitor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that runs a monitor; `until` is how far event time has come, None asks the prediction log."""

    until: datetime | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one feature.

    Attributes:
        kind: type, missing, frozen, unit, new_category, sentinel, shift, scale or shape.
        text: the same in words, to stand after the feature's name.
        broken: whether data do this by themselves (a shift) or something upstream broke.
        factor, offset: for a unit change, current = factor * reference + offset.
        value: the frozen or sentinel value, or the new category.
    """

    kind: str
    text: str
    broken: bool
    factor: float | None = None
    offset: float | None = None
    looks_like: str | None = None
    value: str | None = None
    share: float | None = None
    before: float | None = None
    after: float | None = None


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What a feature's change did: the window predicted as it came, and with the feature restored to its reference.

    Attributes:
        change: mean prediction as it came less the mean with the feature restored.
        mean_absolute_change: mean over rows of the size of that difference; candidates are ranked by it.
        loss, loss_restored: log loss (or mean absolute error) on the rows with outcomes; None without.
    """

    rows: int
    mean: float
    mean_restored: float
    change: float
    mean_absolute_change: float
    outcomes: int = 0
    loss: float | None = None
    loss_restored: float | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A feature that may be the cause."""

    feature: str
    change: Change
    p_value: float
    distance: float
    effect: Effect | None = None


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: fix_upstream, retrain, roll_back or accept; and why."""

    verb: str
    why: str


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Shares per bin or category, then and now; `labels` has one text per pair of shares."""

    feature: str
    labels: list[str]
    reference: list[float]
    current: list[float]


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """From the alarm to the cause, as far as evidence goes.

    Attributes:
        since: start of the first window after the estimated change.
        gradual: a slow movement fits the windows better than a jump.
        p_value: of the window that raised the alarm; `evidence` against `level` is what raised it.
        promise: the false-alarm rate that the level keeps, in words.
        candidates: the most likely cause first, by what restoring it does to the predictions.
        distributions: then and now of the leading feature and the candidates after it, at most four.
    """

    sentence: str
    kind: str
    feature: str | None
    since: datetime
    gradual: bool
    p_value: float
    evidence: float
    level: float
    promise: str
    change: Change | None = None
    effect: Effect | None = None
    candidates: list[Candidate] = []
    distributions: list[Distribution] = []
    action: Action | None = None
    value: float | None = None
    reference_value: float | None = None


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """An open problem: one per cause, joined by every later signal of the same cause.

    Attributes:
        monitor, monitor_name, endpoint, diagnosis: of one that a monitor found; None for one about a schedule.
        schedule, schedule_name: of one whose runs were missed or fail; its windows are slots.
    """

    uid: str
    project: str
    monitor: str | None
    monitor_name: str | None
    endpoint: str | None
    schedule: str | None = None
    schedule_name: str | None = None
    cause: str
    status: IncidentStatus
    severity: str
    sentence: str
    features: list[str]
    diagnosis: Diagnosis | None
    since: datetime
    window_start: datetime
    last_window: datetime
    windows: int
    opened_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resolved_at: datetime | None
    resolved_by: str | None
    note: str
    job: str | None


class CloseIncident(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that acknowledges or resolves an incident."""

    note: str = ""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """The notification of an incident."""

    uid: str
    project: str
    incident: str
    channel: str
    sentence: str
    at: datetime
