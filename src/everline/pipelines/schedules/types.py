"""Values of schedules: what sets a pipeline going, the schedule itself, and the runs that it asked for.

Light on purpose: no database and no cron library, so that clients load fast.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Any

import msgspec


class Cron(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="cron"):
    """At the minutes that a cron expression names, on the clocks of a time zone.

    Attributes:
        expression: five fields (minute, hour, day of month, month, day of week), or @hourly, @daily, @weekly,
            @monthly or @yearly.
        zone: IANA name, such as Europe/Berlin.
    """

    expression: str
    zone: str = "UTC"


class Interval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="interval"):
    """Again and again after the same time, whatever clocks do.

    Attributes:
        every: whole seconds, minutes, hours, days or weeks, such as 90s, 15m, 6h, 1d, 1w; at least 10 seconds.
        start: a moment that is a slot, from which all others are counted; None: the start of 1970 in UTC.
    """

    every: str
    start: datetime | None = None


class OnDemand(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="on_demand"
):
    """Only when somebody asks."""


class NewVersion(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="dataset"
):
    """A dataset got a new version."""

    dataset: str


class IncidentOpened(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="incident"
):
    """An incident was opened on an endpoint, a model or by a monitor; what is left out may be any.

    Attributes:
        unless: proposed actions that set nothing going: retraining on broken data would teach the model the fault.
    """

    endpoint: str | None = None
    model: str | None = None
    monitor: str | None = None
    unless: tuple[str, ...] = ("fix_upstream",)


class Promoted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="release"):
    """A release was promoted, of a model or to an endpoint; what is left out may be any."""

    endpoint: str | None = None
    model: str | None = None


class WebhookCall(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="webhook"
):
    """Another program posted to the schedule's own address, and knew its secret."""


Trigger = Cron | Interval | OnDemand | NewVersion | IncidentOpened | Promoted | WebhookCall
TIMED = (Cron, Interval)


class Beyond(StrEnum):
    """What becomes of a run beyond the limit of runs at once."""

    SKIP = "skip"
    QUEUE = "queue"


class CatchUp(StrEnum):
    """Which of the slots that passed while no control plane was up are run afterwards."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


class ScheduleSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule as it is declared.

    Attributes:
        pipeline: `module:pipeline`.
        directory: folder in which the worker finds the module; None leaves it to the worker.
        params: JSON values by name. Texts may hold facts of what set the run going, such as `{slot:%Y-%m-%d}`;
            a text that is nothing but one fact becomes the fact itself. Two braces are one that is meant.
        enabled: False: paused; only people and backfills set it going.
        runs_max: most runs of this schedule at once, 1 to 100.
        beyond: what becomes of a run beyond that.
        catch_up: slots that passed while no control plane was up.
        catch_up_max: most of those that are run, the newest ones, 1 to 1,000.
        start_within_s: a run that has not started this long after it was due counts as missed, 10 s to 30 days.
    """

    name: str
    pipeline: str
    trigger: Trigger = OnDemand()
    directory: str | None = None
    params: dict[str, Any] = {}
    description: str = ""
    enabled: bool = True
    runs_max: int = 1
    beyond: Beyond = Beyond.QUEUE
    catch_up: CatchUp = CatchUp.LAST
    catch_up_max: int = 100
    start_within_s: int = 600


class Schedule(ScheduleSpec, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A schedule as it stands.

    Attributes:
        next_at: the coming slot; None without a clock, and while it is paused.
        has_secret: whether its webhook has a secret, without which it answers nobody.
        missed_slot, failed_slot: since when runs were missed or fail; None when all is well.
    """

    uid: str
    project: str
    next_at: datetime | None
    has_secret: bool
    missed_slot: datetime | None
    failed_slot: datetime | None
    created_at: datetime
    created_by: str
    updated_at: datetime

    def spec(self) -> ScheduleSpec:
        """What was declared, without what came of it."""
        return ScheduleSpec(**{name: getattr(self, name) for name in ScheduleSpec.__struct_fields__})


class Kind(StrEnum):
    """What asked for a run."""

    SLOT = "slot"
    EVENT = "event"
    WEBHOOK = "webhook"
    MANUAL = "manual"
    BACKFILL = "backfill"


class RunStatus(StrEnum):
    """Where a scheduled run stands."""

    WAITING = "waiting"
    """Beyond the limit of runs at once."""
    QUEUED = "queued"
    """A job, until a worker takes it."""
    RUNNING = "running"
    ASKING = "asking"
    """It waits for the answer of a person."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Not run, as the schedule says."""
    MISSED = "missed"
    """Not run, since no control plane was up in time."""


PENDING = (RunStatus.WAITING, RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.ASKING)


class ScheduledRun(msgspec.Struct, frozen=True, kw_only=True):
    """One slot, event or request, and what became of it.

    Attributes:
        slot: the moment that it stands for: of the clock, the event or the request.
        attempt: 1, and more where a backfill did a failed slot again.
        job: in the queue of the workers; None if it never got there.
        run: the run of the pipeline; None until it ended.
        late: it had not started when its time was over.
        reason: why it was asked for, or why it was not run.
        facts: what its parameters could name.
    """

    uid: str
    schedule: str
    schedule_name: str
    kind: Kind
    slot: datetime
    attempt: int
    status: RunStatus
    job: str | None
    run: str | None
    late: bool
    reason: str
    error: str | None
    facts: dict[str, Any]
    parameters: dict[str, Any]
    created_at: datetime
    ended_at: datetime | None


class ScheduleDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule with its coming slots and its newest runs, the newest first."""

    schedule: Schedule
    coming: list[datetime] = []
    runs: list[ScheduledRun] = []


class CalendarDay(msgspec.Struct, frozen=True, kw_only=True):
    """One day of a schedule, in UTC.

    Attributes:
        counts: runs by status.
        coming: whether a slot is still to come on it.
    """

    day: date
    counts: dict[str, int] = {}
    coming: bool = False


class Backfill(msgspec.Struct, frozen=True, kw_only=True):
    """What a backfill asked for.

    Attributes:
        slots: in the range; `first` and `last` are None without one.
        made: slots that are run because of this call.
        already: slots that had a run before.
    """

    schedule: str
    slots: int
    made: int
    already: int
    first: datetime | None = None
    last: datetime | None = None


class WebhookSecret(msgspec.Struct, frozen=True, kw_only=True):
    """What a program needs to set a schedule going; the secret is shown this once.

    Attributes:
        path: of the address, below the server's.
    """

    path: str
    secret: str


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a schedule, as monitoring asks for it.

    Attributes:
        cause: missed or failed.
        slot: of the newest run in trouble.
    """

    project: str
    schedule: str
    name: str
    cause: str
    slot: datetime
    sentence: str
