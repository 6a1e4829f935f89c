"""Monitors and incidents through REST, the client and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from everline.access.unit_of_work import UnitOfWork
from everline.cli.app import run
from everline.config import Settings
from everline.errors import InvalidInputError, NotFoundError
from everline.monitoring.types import IncidentStatus, Trigger
from everline.sdk.client import Client
from tests_support.monitored import ENDPOINT, serve_day, start_of, world

Begin = Callable[..., AbstractContextManager[UnitOfWork]]


@pytest.fixture
def faulty(begin: Begin) -> None:
    """An endpoint whose distances come in kilometres from the fourth day on."""
    with begin() as uow:
        world(uow)
        for number in range(3):
            serve_day(uow, number)
        for number in range(3, 5):
            serve_day(uow, number, change={"distance": lambda miles: miles * 1.609344})
        serve_day(uow, 5, rows=2)


@pytest.mark.usefixtures("faulty")
def test_the_client_creates_runs_reads_and_resolves(client: Client) -> None:
    made = client.monitors.create(
        "inputs", endpoint=ENDPOINT, kind="drift", reference="past", on_incident=Trigger(pipeline="a:b")
    )
    assert made.reference.version == "1"
    done = client.monitors.run("inputs", until=start_of(5))
    assert [window.status for window in done.windows] == ["quiet", "quiet", "quiet", "alarm", "alarm"]
    assert client.monitors.get("inputs").open_incidents == 1
    assert [monitor.name for monitor in client.monitors.list(endpoint=ENDPOINT)] == ["inputs"]
    assert client.monitors.windows("inputs", limit=2)[0].start == start_of(4)
    signals = client.monitors.signals("inputs", feature="distance", since=start_of(3))
    assert [signal.alarm for signal in signals] == [True, True]
    (incident,) = client.incidents.list(status="open", monitor="inputs")
    assert incident.job is None  # retraining on broken data would teach the model the fault
    assert client.incidents.get(incident.uid) == incident
    assert client.incidents.acknowledge(incident.uid, note="on it").status is IncidentStatus.ACKNOWLEDGED
    assert client.incidents.resolve(incident.uid).status is IncidentStatus.RESOLVED
    assert client.incidents.list(status="open") == []
    assert client.incidents.alerts()[0].incident == incident.uid


@pytest.mark.usefixtures("faulty")
def test_the_command_line_does_the_same(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVERLINE_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("EVERLINE_HOME", str(settings.home))
    monkeypatch.setenv("EVERLINE_WORKER", "false")
    assert run(["monitors", "create", "inputs", "--endpoint", ENDPOINT, "--reference", "past@1"]) == 0
    assert run(["monitors", "run", "inputs"]) == 0
    assert run(["monitors", "list"]) == 0
    assert run(["monitors", "show", "inputs"]) == 0
    printed = capsys.readouterr().out
    assert "incidents opened  1" in printed
    assert "location" in printed or "distance" in printed
    assert run(["incidents", "list", "--json"]) == 0
    (incident,) = json.loads(capsys.readouterr().out)
    assert run(["incidents", "show", incident["uid"]]) == 0
    assert "miles → kilometres" in capsys.readouterr().out
    assert run(["incidents", "ack", incident["uid"], "--note", "seen"]) == 0
    assert run(["incidents", "resolve", incident["uid"]]) == 0
    assert run(["incidents", "resolve", incident["uid"]]) == 2
    assert run(["monitors", "show", "none"]) == 2
    assert "everline monitors list" in capsys.readouterr().err


def test_bad_input_names_the_field(client: Client) -> None:
    with pytest.raises(NotFoundError):
        client.monitors.get("nothing")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        client.call("GET", "/incidents", query={"status": "closed"}, returns=dict)
    for uid in ("../../etc", "not-a-uid", "0"):
        with pytest.raises((InvalidInputError, NotFoundError)):
            client.incidents.get(uid)
    with pytest.raises(InvalidInputError) as raised:
        client.call(
            "POST", "/monitors", body={"name": "x", "endpoint": "e", "kind": "moon", "reference": {}}, returns=dict
        )
    assert raised.value.field is not None
