"""Schedules through REST, the client and the command line, down to a pipeline that a worker runs."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from everline.access.types import LOCAL, SYSTEM, Role
from everline.cli.app import run
from everline.cli.worker import run_one
from everline.clock import FixedClock
from everline.errors import ConflictError, InvalidInputError, NotFoundError
from everline.jobs import queue
from everline.pipelines.schedules import firing, service
from everline.pipelines.schedules.types import Cron, OnDemand, RunStatus, ScheduleSpec
from everline.server.app import create_app

MODULE = """
import everline as el

@el.step
def say(day: str, times: int) -> str:
    if times > 9:
        raise ValueError("too often")
    return day * times

@el.pipeline
def report(day: str, times: int = 1) -> str:
    return say(day, times)
"""


def tick(app) -> None:
    with app.begin(SYSTEM) as uow:
        firing.tick(uow)


def test_the_client_and_a_worker_from_the_schedule_to_the_result(app, client, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "reporting.py").write_text(MODULE.replace("day * times", "'other'"))
    (tmp_path / "reporting.py").write_text(MODULE)
    client.schedules.create("other", "reporting:report", directory=elsewhere, params={"day": "x"})
    client.schedules.run("other")
    assert run_one(client, worker="w")["candidate"] == "other"
    made = client.schedules.create(
        "report", "reporting:report", trigger=Cron(expression="@daily", zone="Europe/Berlin"), directory=tmp_path,
        params={"day": "{slot:%Y-%m-%d}", "times": 2},
    )  # fmt: skip
    assert client.schedules.put(made.spec()) == made
    assert client.schedules.update("report", runs_max=2).runs_max == 2
    done = client.schedules.backfill("report", start=date(2026, 3, 28), end="2026-03-29")
    assert (done.slots, done.made) == (2, 2)
    asked = client.schedules.run("report", params={"day": "x", "times": 10}, key="k")
    assert asked.status is RunStatus.WAITING  # two go on already
    results = [run_one(client, worker="w"), run_one(client, worker="w")]
    tick(app)
    results.append(run_one(client, worker="w"))
    tick(app)
    assert [one["status"] for one in results] == ["succeeded", "succeeded", "failed"]
    assert results[0]["candidate"] == "2026-03-28" * 2  # its own module, not that of the other project
    shown = client.schedules.show("report")
    assert len(shown.coming) == 5
    assert [(one.status.value, one.kind.value) for one in shown.runs] == [
        ("failed", "manual"), ("succeeded", "backfill"), ("succeeded", "backfill"),
    ]  # fmt: skip
    assert "too often" in shown.runs[0].error
    oldest = shown.runs[-1]
    assert client.runs.get(oldest.run).tags["everline.reason"] == f"schedule report: {oldest.reason}"
    assert client.runs.get(oldest.run).params["day"] == "2026-03-28"
    assert client.schedules.runs("report") == tuple(shown.runs)
    with pytest.raises(ConflictError, match="exists already"):
        client.schedules.create("report", "a:b")
    with pytest.raises(InvalidInputError, match="names {incident}"):
        client.schedules.update("report", params={"a": "{incident}"})
    client.schedules.delete("report", reason="enough")
    with pytest.raises(NotFoundError):
        client.schedules.pause("report")


def test_the_command_line_does_the_same(settings, capsys, monkeypatch):
    monkeypatch.setenv("EVERLINE_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("EVERLINE_HOME", str(settings.home))
    monkeypatch.setenv("EVERLINE_WORKER", "false")

    def everline(*arguments: str) -> str:
        assert run(["schedules", *arguments]) == 0
        return capsys.readouterr().out

    everline("create", "nightly", "train:flights", "--cron", "30 2 * * *", "--zone", "Europe/Berlin", "--param",
             "day={slot:%Y-%m-%d}", "--param", "depth=6")  # fmt: skip
    everline("create", "fresh", "train:flights", "--on-dataset", "flights")
    everline("create", "hook", "train:flights", "--webhook", "--paused")
    assert [one["name"] for one in json.loads(everline("list", "--json"))] == ["fresh", "hook", "nightly"]
    assert "cron 30 2 * * * Europe/Berlin" in everline("list")
    assert "30 of 30 slots are run" in everline("backfill", "nightly", "--from", "2026-03-01", "--to", "2026-03-30")
    assert "0 of 30 slots are run" in everline("backfill", "nightly", "--from", "2026-03-01", "--to", "2026-03-30")
    assert json.loads(everline("run", "nightly", "--param", "day=now", "--json"))["parameters"] == {
        "day": "now", "depth": 6,
    }  # fmt: skip
    assert "paused" in everline("pause", "nightly")
    assert "runs next at" in everline("resume", "nightly")
    shown = everline("show", "nightly")
    assert "backfill, slot 2026-03-29 03:00:00 Europe/Berlin" in everline("show", "nightly", "--limit", "40")
    assert "coming (UTC)" in shown
    assert json.loads(everline("secret", "hook", "--json"))["secret"].startswith("whsec_")
    everline("delete", "nightly")
    assert run(["schedules", "create", "two", "a:b", "--cron", "@daily", "--every", "1h"]) == 2
    assert "not --cron and --every" in capsys.readouterr().err
    assert run(["schedules", "create", "bad", "a:b", "--cron", "61 * * * *"]) == 2
    assert "cannot be minute" in capsys.readouterr().err


def test_other_programs_reach_only_what_they_have_the_secret_of(app, client, tokens):
    client.schedules.create("hook", "train:flights", trigger={"kind": "webhook"}, params={"ref": "{body.ref}"})
    secret = client.schedules.secret("hook")
    viewer = {"Authorization": f"Bearer {tokens('vera', Role.VIEWER)}"}
    with TestClient(create_app(app), base_url="http://127.0.0.1") as http:
        taken = http.post(secret.path, json={"ref": "main"}, headers={"Authorization": f"Bearer {secret.secret}"})
        assert (taken.status_code, taken.json()["status"]) == (202, "queued")
        assert http.post(secret.path, json={"ref": "main"}).status_code == 403
        assert http.post(secret.path.replace("-", "0"), headers={"X-Gitlab-Token": secret.secret}).status_code == 403
        assert http.post("/api/v1/schedules/hook/secret", headers=viewer).status_code == 403
        assert http.get("/api/v1/schedules/hook", headers=viewer).json()["schedule"]["has_secret"] is True
    assert client.audit.list(action="schedule.fire")[0].actor_name == "webhook"


def test_the_console_shows_what_became_of_each_day_and_acts(app, browser, tokens):
    app.clock = clock = FixedClock(datetime(2026, 3, 27, 12, tzinfo=UTC))
    with app.begin(LOCAL) as uow:
        for name, trigger in (("nightly", Cron(expression="0 0 * * *")), ("on-call", OnDemand())):
            service.put_schedule(uow, "default", ScheduleSpec(name=name, pipeline="a:b", trigger=trigger))
    for status in ("succeeded", "failed"):
        clock.advance(86_400)
        tick(app)
        with app.begin(LOCAL) as uow:
            job = queue.claim(uow, queue="pipelines", worker="w", project="default")
            queue.complete(uow, job.uid, worker="w", result={"status": status, "run": "a" * 32, "error": "<no rows>"})
        tick(app)
    page = browser.get("/schedules").text
    assert 'class="day good" title="2026-03-28: 1 succeeded"' in page
    assert 'class="day bad" title="2026-03-29: 1 failed"' in page
    assert 'class="day coming" title="2026-03-30: to come"' in page
    assert 'class="day " title="2026-03-26: nothing"' in page
    assert 'href="/schedules/nightly"' in page

    one = browser.get("/schedules/nightly").text
    assert "&lt;no rows&gt;" in one
    assert 'href="/runs/' + "a" * 32 in one
    token = re.search('name="form_token" value="([^"]+)"', one)[1]

    def post(**fields: str):
        return browser.post("/schedules/nightly", data={"form_token": token} | fields, follow_redirects=False)

    assert post(move="pause").status_code == 303
    assert post(move="run").status_code == 303
    assert post(move="backfill", start="2026-03-01", end="2026-03-03").status_code == 303
    refused = post(move="backfill", start="2027-03-01", end="2027-03-03")
    assert (refused.status_code, "no slot that has come" in refused.text) == (400, True)
    with app.begin(LOCAL, read_only=True) as uow:
        shown = service.show_schedule(uow, "default", "nightly")
    assert shown.schedule.enabled is False
    assert [one.kind.value for one in shown.runs] == ["backfill"] * 3 + ["manual", "slot", "slot"]
    viewer = {"Authorization": f"Bearer {tokens('vera', Role.VIEWER)}"}
    assert "Run now" not in browser.get("/schedules/nightly", headers=viewer).text
    assert browser.get("/schedules/gone").status_code == 404
