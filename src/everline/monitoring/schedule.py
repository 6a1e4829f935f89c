"""Which monitors are due: light, since the worker asks on every tick; the mathematics loads when a window closes."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select

from everline.access.unit_of_work import UnitOfWork
from everline.jobs import queue
from everline.monitoring import tables
from everline.monitoring.service import monitor_of, window_length, window_start
from everline.monitoring.types import Monitor, MonitorKind
from everline.serving.predictions import event_span

JOB = "monitor.run"
_RETRY_SLOT_S = 3600


def is_watching(uow: UnitOfWork) -> bool:
    """Whether there is any monitor: a look that takes no lock."""
    found = select(tables.monitor.c.uid).where(tables.monitor.c.retired == "").limit(1)
    return uow.conn.execute(found).first() is not None


def schedule_due(uow: UnitOfWork) -> int:
    """Enqueue a job for every monitor with a complete window; the worker calls this on its clock.

    A key per window keeps several replicas from doing it twice, and the hour in it lets a window be tried anew
    whose job failed for good.

    Returns:
        How many jobs were enqueued.
    """
    made = 0
    slot = int(uow.clock.now().timestamp() // _RETRY_SLOT_S)
    spans: dict[tuple[str, str], tuple[datetime, datetime] | None] = {}
    column = tables.monitor.c
    for row in uow.conn.execute(select(tables.monitor).where(column.retired == "").order_by(column.uid)).all():
        monitor = monitor_of(row)
        place = (monitor.project, monitor.endpoint)
        if place not in spans:
            spans[place] = event_span(uow, monitor.endpoint, project=monitor.project)
        start, span = row.next_start or first_start(monitor, spans[place]), spans[place]
        if start is None or span is None:
            continue
        if start + window_length(monitor.window) + timedelta(seconds=monitor.delay_s) > span[1]:
            continue
        # Quality windows may still wait for outcomes, so a later look at the same window is another job.
        key = f"{JOB}:{monitor.uid}:{start.isoformat()}:{slot}"
        if monitor.kind is MonitorKind.QUALITY:
            key += f":{span[1].isoformat()}"
        payload = {"project": monitor.project, "monitor": monitor.name}
        made += queue.enqueue(uow, JOB, payload, project=monitor.project, key=key) is not None
    return made


def first_start(monitor: Monitor, span: tuple[datetime, datetime] | None) -> datetime | None:
    """The start of a monitor's first window; None while nothing was predicted and no start was given."""
    length = window_length(monitor.window)
    if monitor.start is not None:
        return window_start(monitor.start, length=length, offset_s=monitor.offset_s)
    return None if span is None else window_start(span[0], length=length, offset_s=monitor.offset_s)
