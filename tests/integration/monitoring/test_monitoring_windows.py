"""Monitors on both databases: windows close once and in order, evidence opens one diagnosed incident per cause."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest

from everline.access.types import Role
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from everline.governance import audit
from everline.ids import new_uid
from everline.jobs import queue
from everline.monitoring import incidents, schedule, service, watch
from everline.monitoring.types import CreateMonitor, IncidentStatus, MonitorKind, MonitorRun, Reference, Trigger
from everline.pipelines.schedules import firing
from everline.pipelines.schedules import service as schedules
from everline.pipelines.schedules.types import IncidentOpened, ScheduleSpec
from everline.serving import service as serving
from everline.serving.types import RevisionRole
from tests_support.monitored import ENDPOINT, PROJECT, add_dataset, serve_day, start_of, world

Begin = Callable[..., AbstractContextManager[UnitOfWork]]
KILOMETRES = {"distance": lambda miles: miles * 1.609344}


def drift_monitor(**changed: object) -> CreateMonitor:
    values = {"name": "inputs", "endpoint": ENDPOINT, "kind": MonitorKind.DRIFT, "reference": Reference(dataset="past")}
    return CreateMonitor(**(values | changed))


def close_all(begin: Begin, name: str = "inputs") -> MonitorRun:
    """Run a monitor until nothing more is complete; return what all runs did together."""
    runs = [close_some(begin, name)]
    while runs[-1].more:
        runs.append(close_some(begin, name))
    windows = [window for run in runs for window in run.windows]
    return MonitorRun(monitor=name, windows=windows, opened=[uid for run in runs for uid in run.opened])


def close_some(begin: Begin, name: str = "inputs") -> MonitorRun:
    """One run of a monitor."""
    with begin() as uow:
        return watch.run_monitor(uow, name, project=PROJECT)


def test_a_unit_fault_opens_one_incident_that_names_feature_moment_factor_and_effect(begin: Begin) -> None:
    with begin() as uow:
        world(uow)
        service.create_monitor(uow, drift_monitor(), project=PROJECT)
        for number in range(6):
            serve_day(uow, number)
        for number in range(6, 10):
            serve_day(uow, number, change=KILOMETRES)
        serve_day(uow, 10, rows=2)
    run = close_all(begin)
    assert [window.start for window in run.windows] == [start_of(number) for number in range(10)]
    with begin(role=Role.VIEWER) as uow:
        (incident,) = incidents.list_incidents(uow, project=PROJECT)
        (alert,) = incidents.list_alerts(uow, project=PROJECT)
    diagnosis = incident.diagnosis
    assert (incident.cause, incident.features, incident.severity) == ("unit:distance", ["distance"], "high")
    assert (incident.since, incident.windows, incident.window_start) == (start_of(6), 4, start_of(6))
    assert diagnosis.change is not None
    assert diagnosis.change.looks_like == "miles → kilometres"
    assert diagnosis.effect is not None
    assert diagnosis.effect.change > 0.05
    assert diagnosis.effect.loss > diagnosis.effect.loss_restored
    assert diagnosis.action is not None
    assert diagnosis.action.verb == "fix_upstream"
    assert diagnosis.candidates[0].feature == "distance"
    assert "distance" in incident.sentence
    assert "since 2013-04-07" in incident.sentence
    assert alert.incident == incident.uid


def test_quiet_days_open_nothing_and_a_second_run_finds_nothing_to_do(begin: Begin) -> None:
    with begin() as uow:
        world(uow)
        service.create_monitor(uow, drift_monitor(), project=PROJECT)
        for number in range(9):
            serve_day(uow, number)
    run = close_all(begin)
    assert [window.status for window in run.windows] == ["quiet"] * 8
    assert close_all(begin).windows == []
    with begin() as uow:
        assert incidents.list_incidents(uow, project=PROJECT) == []
        assert service.get_monitor(uow, "inputs", project=PROJECT).next_start == start_of(8)
        signals = service.list_signals(uow, "inputs", project=PROJECT)
        assert len(signals) == 8 * 3
        assert {signal.feature for signal in signals} == {"distance", "wind", "gust"}
        assert not any(signal.alarm for signal in signals)


def test_two_runs_at_once_close_each_window_once(begin: Begin) -> None:
    with begin() as uow:
        world(uow)
        service.create_monitor(uow, drift_monitor(), project=PROJECT)
        for number in range(6):
            serve_day(uow, number)
    runs: list[MonitorRun] = []
    threads = [threading.Thread(target=lambda: runs.append(close_all(begin))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(len(run.windows) for run in runs) == [0, 0, 5]
    with begin() as uow:
        assert len(service.list_windows(uow, "inputs", project=PROJECT)) == 5


def test_catching_up_takes_pieces_and_empty_days_are_closed_as_silent(begin: Begin) -> None:
    with begin() as uow:
        world(uow)
        service.create_monitor(uow, drift_monitor(), project=PROJECT)
        serve_day(uow, 0)
        serve_day(uow, 20)
        serve_day(uow, 21, rows=5)
    runs = [close_some(begin) for _ in range(3)]
    assert [(len(run.windows), run.more) for run in runs] == [(8, True), (8, True), (5, False)]
    statuses = [window.status for run in runs for window in run.windows]
    assert statuses == ["quiet", *["silent"] * 19, "quiet"]


def test_a_window_of_hardly_any_rows_is_not_judged(begin: Begin) -> None:
    with begin() as uow:
        world(uow)
        service.create_monitor(uow, drift_monitor(), project=PROJECT)
        serve_day(uow, 0, rows=1)
        serve_day(uow, 1, rows=7, change=KILOMETRES)
        serve_day(uow, 2, rows=1)
    assert [window.status for window in close_all(begin).windows] == ["silent", "silent"]


def test_the_job_runs_what_the_clock_made_due_exactly_once(begin: Begin) -> None:
    with begin() as uow:
        world(uow)
        service.create_monitor(uow, drift_monitor(), project=PROJECT)
        for number in range(4):
            serve_day(uow, number)
        assert schedule.schedule_due(uow) == 1
        assert schedule.schedule_due(uow) == 0
    with begin() as uow:
        job = queue.take(uow, queue="server", worker="test")
        assert job is not None
        assert job.kind == schedule.JOB
        assert watch.run_job(uow, job.payload)["windows"] == 3
    with begin() as uow:
        assert schedule.schedule_due(uow) == 0
        assert watch.run_job(uow, {"monitor": "gone", "project": PROJECT})["skipped"]


def test_a_season_is_one_incident_and_a_fault_on_top_of_it_is_its_own(begin: Begin) -> None:
    def stormy(more: float) -> dict[str, object]:
        return {"wind": lambda wind: wind + more, "gust": lambda gust: gust + more}

    with begin() as uow:
        world(uow)
        service.create_monitor(uow, drift_monitor(), project=PROJECT)
        for number in range(12):
            serve_day(uow, number, change=stormy(2.0 * number))
        for number in range(12, 15):
            frozen = {"wind": lambda wind: np.full(len(wind), 77.0)}
            serve_day(uow, number, change=stormy(24.0) | frozen)
        serve_day(uow, 15, rows=2)
    close_all(begin)
    with begin() as uow:
        found = {one.cause: one for one in incidents.list_incidents(uow, project=PROJECT)}
    assert set(found) == {"inputs", "frozen:wind"}
    season = found["inputs"]
    assert set(season.features) == {"wind", "gust"}
    assert (season.severity, season.diagnosis.kind) == ("low", "population")
    assert found["frozen:wind"].since == start_of(12)
    assert "frozen at 77" in found["frozen:wind"].sentence


def test_quality_waits_for_outcomes_falls_and_sets_the_pipeline_going_once(begin: Begin) -> None:
    trigger = Trigger(pipeline="flight_delay:flight_delay", params={"train_to": "{window_end}", "depth": 6})
    monitor = CreateMonitor(
        name="quality", endpoint=ENDPOINT, kind=MonitorKind.QUALITY, reference=Reference(dataset="past"),
        target="late", delay_s=0, on_incident=trigger,
    )  # fmt: skip
    with begin() as uow:
        world(uow)
        service.create_monitor(uow, monitor, project=PROJECT)
        for name, trigger in (
            ("same", IncidentOpened(model="flight-delay")),
            ("elsewhere", IncidentOpened(endpoint="other")),
            ("unless", IncidentOpened(endpoint=ENDPOINT, unless=("retrain",))),
        ):
            params = {"train_to": "{window_end}", "why": "{cause} of {model}: {incident}"}
            schedules.put_schedule(
                uow, PROJECT, ScheduleSpec(name=name, pipeline="a:b", trigger=trigger, params=params)
            )
        revision = serving.add_revision(
            uow, project=PROJECT, endpoint=ENDPOINT, release=new_uid(), model="flight-delay", version=1,
            model_version=new_uid(), package="sha256:" + "1" * 64, signature="sha256:" + "a" * 64, statement={},
        )  # fmt: skip
        serving.set_traffic(uow, {revision: (RevisionRole.PRIMARY, 1.0)}, project=PROJECT, endpoint=ENDPOINT)
        for number in range(4):
            serve_day(uow, number)
        serve_day(uow, 4, outcomes=False)
        serve_day(uow, 5, outcomes=False)
    assert len(close_all(begin, "quality").windows) == 4  # day 4 waits
    with begin() as uow:
        for number in range(6, 12):
            serve_day(uow, number, late=lambda late: 1 - late)
    run = close_all(begin, "quality")
    assert len(run.windows) == 7
    assert len(run.opened) == 1
    with begin() as uow:
        (incident,) = incidents.list_incidents(uow, project=PROJECT)
        jobs = queue.list_jobs(uow, project=PROJECT, queue="pipelines")
        signals = service.list_signals(uow, "quality", project=PROJECT)
    assert incident.cause == "quality"
    assert incident.since == start_of(6)
    assert incident.diagnosis.action is not None
    assert incident.diagnosis.action.verb == "retrain"
    assert [job.uid for job in jobs] == [incident.job]
    assert jobs[0].kind == "pipeline.run"
    assert jobs[0].payload["pipeline"] == "flight_delay:flight_delay"
    assert jobs[0].payload["parameters"]["depth"] == 6
    assert jobs[0].payload["parameters"]["train_to"] in ("2013-04-08", "2013-04-09")
    for _ in range(2):
        with begin() as uow:
            firing.tick(uow)
    with begin() as uow:
        (asked,) = schedules.list_runs(uow, PROJECT, "same")
        assert schedules.list_runs(uow, PROJECT, "elsewhere") == schedules.list_runs(uow, PROJECT, "unless") == []
    assert asked.parameters == {
        "train_to": jobs[0].payload["parameters"]["train_to"], "why": f"quality of flight-delay: {incident.uid}",
    }  # fmt: skip
    assert {signal.feature for signal in signals} == {"log_loss", "error_rate", "auc", "calibration"}


def test_quality_can_be_learnt_from_the_first_windows_in_service(begin: Begin) -> None:
    monitor = CreateMonitor(
        name="quality", endpoint=ENDPOINT, kind=MonitorKind.QUALITY, reference=Reference(dataset="past"),
        baseline_windows=8, delay_s=0,
    )  # fmt: skip
    with begin() as uow:
        world(uow)
        service.create_monitor(uow, monitor, project=PROJECT)
        for number in range(10):
            serve_day(uow, number)
        for number in range(10, 13):
            serve_day(uow, number, late=lambda late: 1 - late)
        serve_day(uow, 13, rows=2)
    run = close_all(begin, "quality")
    assert [window.status for window in run.windows[:8]] == ["baseline"] * 8
    assert {window.status for window in run.windows[8:10]} == {"quiet"}
    assert run.windows[-1].status == "alarm"
    assert len(run.opened) == 1


def test_the_predictions_themselves_are_watched(begin: Begin) -> None:
    monitor = CreateMonitor(
        name="outputs", endpoint=ENDPOINT, kind=MonitorKind.PREDICTION_DRIFT, reference=Reference(dataset="past")
    )
    with begin() as uow:
        world(uow)
        service.create_monitor(uow, monitor, project=PROJECT)
        for number in range(4):
            serve_day(uow, number)
        for number in range(4, 8):
            serve_day(uow, number, change={"distance": lambda miles: miles * 1000})
        serve_day(uow, 8, rows=2)
    close_all(begin, "outputs")
    with begin() as uow:
        (incident,) = incidents.list_incidents(uow, project=PROJECT)
    assert incident.cause == "prediction_drift"
    assert incident.diagnosis.feature == "distance"
    assert incident.since == start_of(4)


def test_incidents_are_acknowledged_and_resolved_by_people_and_open_anew_if_the_fault_goes_on(begin: Begin) -> None:
    with begin() as uow:
        world(uow)
        service.create_monitor(uow, drift_monitor(), project=PROJECT)
        for number in range(3):
            serve_day(uow, number, change=KILOMETRES)
    close_all(begin)
    with begin() as uow:
        (incident,) = incidents.list_incidents(uow, project=PROJECT, status=IncidentStatus.OPEN)
        seen = incidents.acknowledge_incident(uow, incident.uid, project=PROJECT, note="looking")
        assert (seen.status, seen.acknowledged_by, seen.note) == (IncidentStatus.ACKNOWLEDGED, "local", "looking")
        assert incidents.acknowledge_incident(uow, incident.uid, project=PROJECT) == seen
        serve_day(uow, 3)
    assert close_all(begin).opened == []  # it goes on under the same incident
    with begin() as uow:
        incidents.resolve_incident(uow, incident.uid, project=PROJECT, note="mended")
        with pytest.raises(ConflictError, match="resolved already"):
            incidents.resolve_incident(uow, incident.uid, project=PROJECT)
        with pytest.raises(ConflictError, match="resolved already"):
            incidents.acknowledge_incident(uow, incident.uid, project=PROJECT)
        for number in range(4, 6):
            serve_day(uow, number, change=KILOMETRES)
        serve_day(uow, 6, rows=1)
    assert len(close_all(begin).opened) == 1
    with begin() as uow:
        actions = {event.action for event in audit.list_events(uow, project=PROJECT, action="incident.")}
    assert actions >= {"incident.open", "incident.acknowledge", "incident.resolve"}


def test_bad_monitors_are_refused_with_the_field_and_what_to_do(begin: Begin) -> None:
    with begin() as uow:
        world(uow)
        add_dataset(uow, "short", days=3)
    cases = {
        "window": {"window": "fortnight"},
        "windows_between_false_alarms": {"windows_between_false_alarms": 0},
        "reference.block": {"reference": Reference(dataset="past", block="week")},
        "target": {"kind": MonitorKind.QUALITY},
        "offset_s": {"offset_s": 90_000},
        "baseline_windows": {"kind": MonitorKind.QUALITY, "baseline_windows": 2},
    }
    for field, changed in cases.items():
        with begin() as uow, pytest.raises(InvalidInputError) as raised:
            service.create_monitor(uow, drift_monitor(**changed), project=PROJECT)
        assert raised.value.field == field
    with begin() as uow:
        with pytest.raises(NotFoundError):
            service.create_monitor(uow, drift_monitor(endpoint="none"), project=PROJECT)
        with pytest.raises(NotFoundError):
            service.create_monitor(uow, drift_monitor(reference=Reference(dataset="none")), project=PROJECT)
        service.create_monitor(uow, drift_monitor(), project=PROJECT)
        with pytest.raises(ConflictError, match="exists already"):
            service.create_monitor(uow, drift_monitor(), project=PROJECT)
        service.create_monitor(uow, drift_monitor(name="short", reference=Reference(dataset="short")), project=PROJECT)
        serve_day(uow, 0)
        serve_day(uow, 1)
    with begin() as uow, pytest.raises(InvalidInputError, match="3 blocks"):
        watch.run_monitor(uow, "short", project=PROJECT)
    with begin(role=Role.VIEWER) as uow, pytest.raises(ForbiddenError):
        watch.run_monitor(uow, "inputs", project=PROJECT)
