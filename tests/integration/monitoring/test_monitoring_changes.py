"""Monitors change where their evidence stays about the same thing, are replaced where not, and leave their past."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec
import pytest

from everline.access.unit_of_work import UnitOfWork
from everline.errors import NotFoundError
from everline.governance import audit
from everline.monitoring import incidents, schedule, service, watch
from everline.monitoring.types import CreateMonitor, MonitorKind, Reference, Trigger
from tests_support.monitored import ENDPOINT, PROJECT, serve_day, start_of, world

Begin = Callable[..., AbstractContextManager[UnitOfWork]]
BODY = CreateMonitor(name="inputs", endpoint=ENDPOINT, kind=MonitorKind.DRIFT, reference=Reference(dataset="past"))


def test_a_monitor_changes_is_replaced_and_deleted(begin: Begin) -> None:
    with begin() as uow:
        world(uow)
        for number in range(5):
            serve_day(uow, number, change={"distance": lambda miles: miles * 1.609344})
        serve_day(uow, 5, rows=2)
        first = service.create_monitor(uow, BODY, project=PROJECT)
        (opened, *_) = watch.run_monitor(uow, "inputs", project=PROJECT, until=start_of(5)).opened

    with begin() as uow:
        assert service.change_monitor(uow, BODY, project=PROJECT).uid == first.uid  # the same is no change
        told = msgspec.structs.replace(BODY, on_incident=Trigger(pipeline="a:b"))
        changed = service.change_monitor(uow, told, project=PROJECT)
        assert (changed.uid, changed.on_incident) == (first.uid, Trigger(pipeline="a:b"))
        assert changed.next_start == start_of(5)  # its evidence goes on
        weekly = msgspec.structs.replace(told, window="7d")
        replaced = service.change_monitor(uow, weekly, project=PROJECT)
        assert replaced.uid != first.uid
        assert (replaced.window, replaced.reference.version, replaced.open_incidents) == ("7d", "1", 0)
        assert service.list_windows(uow, "inputs", project=PROJECT) == []
    with begin() as uow:
        assert incidents.get_incident(uow, opened, project=PROJECT).monitor == first.uid  # what it found stays
        incidents.resolve_incident(uow, opened, project=PROJECT)
        service.delete_monitor(uow, "inputs", project=PROJECT, reason="no longer of use")
        assert service.list_monitors(uow, project=PROJECT) == []
        assert schedule.schedule_due(uow) == 0
        with pytest.raises(NotFoundError):
            service.delete_monitor(uow, "inputs", project=PROJECT)
    with begin() as uow:
        actions = [event.action for event in audit.list_events(uow, project=PROJECT) if "monitor." in event.action]
        assert actions == [
            "monitor.delete", "monitor.create", "monitor.delete", "monitor.change", "monitor.run", "monitor.create"
        ]  # fmt: skip
