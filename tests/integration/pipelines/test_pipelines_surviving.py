"""A driver may die at any moment: what was done is not done again. A server elsewhere works like an embedded one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import everline as el
from everline.clock import FixedClock
from everline.errors import ConflictError, StaleError
from everline.pipelines import running, service
from everline.pipelines.types import RecordSteps, StartRun, StepFailedError
from everline.sdk.client import Client

MODULE = """
import os
import pathlib
import time
import everline as el

@el.step
def early(value: int) -> int:
    with pathlib.Path(os.environ["MARKS"]).open("a") as file:
        file.write("early\\n")
    return value + 1

@el.step
def late(value: int) -> int:
    with pathlib.Path(os.environ["MARKS"]).open("a") as file:
        file.write("late\\n")
    if "HANG" in os.environ:
        time.sleep(60)
    return value + 1

@el.pipeline
def two(value: int = 1) -> int:
    return late(early(value))
"""


def test_after_kill_9_the_next_run_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    (tmp_path / "two_steps.py").write_text(MODULE)
    (tmp_path / "everline.toml").touch()
    marks = tmp_path / "marks"
    command = [sys.executable, "-m", "everline", "run", "two_steps:two", "--home", str(tmp_path / "home"), "--json"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EVERLINE_")} | {"MARKS": str(marks)}
    started = subprocess.Popen(command, cwd=tmp_path, env=environment | {"HANG": "1"}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (marks.exists() and "late" in marks.read_text()):
        assert time.monotonic() < deadline and started.poll() is None
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait(10)
    with Client(home=tmp_path / "home") as client:
        dead = client.runs.list()[0]
        assert [(step.name, step.status) for step in client.pipelines.steps(dead.run)] == [
            ("early", "succeeded"), ("late", "running"),
        ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = marks.read_text().split()
    assert lines.count("late") == 2
    if "environment changed" not in done.stdout:  # nobody edited the installed source code in between
        assert lines.count("early") == 1


CHAIN = """
import os
import pathlib
import time
import everline as el

@el.step(cache=False)
def link(value: int) -> int:
    with pathlib.Path(os.environ["MARKS"]).open("a") as file:
        file.write(f"{value}\\n")
    if value == 5 and "HANG" in os.environ:
        time.sleep(60)
    return value + 1

@el.pipeline
def chain(n: int = 10) -> int:
    value = 0
    for _ in range(n):
        value = link(value)
    return value
"""


def test_a_killed_run_is_resumed_where_it_stopped_and_by_one_driver_alone(tmp_path: Path) -> None:
    (tmp_path / "chained.py").write_text(CHAIN)
    (tmp_path / "everline.toml").touch()
    marks = tmp_path / "marks"
    command = [sys.executable, "-m", "everline", "run", "--home", str(tmp_path / "home"), "--json"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EVERLINE_")} | {"MARKS": str(marks)}
    started = subprocess.Popen(
        [*command, "chained:chain"], cwd=tmp_path, env=environment | {"HANG": "1"}, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (marks.exists() and "5" in marks.read_text()):
        assert time.monotonic() < deadline and started.poll() is None
        time.sleep(0.02)
    with Client(home=tmp_path / "home") as client:
        (dead,) = client.runs.list()
    resume = [*command, "--resume", dead.run]
    refused = subprocess.run(resume, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert refused.returncode == 2 and "is at work" in refused.stderr
    started.send_signal(signal.SIGKILL)
    started.wait(10)
    done = subprocess.run(resume, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert marks.read_text().split() == ["0", "1", "2", "3", "4", "5", "5", "6", "7", "8", "9"]
    again = subprocess.run(resume, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 2 and "came to its end" in again.stderr
    with Client(home=tmp_path / "home") as client:
        assert [run.run for run in client.runs.list()] == [dead.run]
        assert [step.status for step in client.pipelines.steps(dead.run)] == ["succeeded"] * 10


def test_a_driver_that_was_taken_for_dead_learns_it_before_it_records_anything(begin: Any, client: Client) -> None:
    run = client.runs.create(experiment="e", pipeline="p:p").run
    first, second = (StartRun(pipeline="p:p", driver=name) for name in ("first", "second"))
    with begin() as uow:
        epoch = running.start(uow, "default", run, body=first).epoch
    with pytest.raises(ConflictError, match="is at work: first runs it"), begin() as uow:
        running.start(uow, "default", run, body=second)
    with begin() as uow:
        uow.clock = FixedClock(uow.clock.now() + timedelta(seconds=uow.settings.pipeline_lease_s + 1))
        running.start(uow, "default", run, body=second)
    with pytest.raises(StaleError, match="another driver now: second"), begin() as uow:
        service.record_steps(uow, "default", run, report=RecordSteps(pipeline="p:p", epoch=epoch))


def test_code_that_changed_is_no_way_to_go_on(tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "changing", raising=False)
    (tmp_path / "everline.toml").touch()
    module = tmp_path / "changing.py"
    module.write_text(FAILING)
    with pytest.raises(StepFailedError) as caught:
        client.pipelines.run("changing:fails", directory=tmp_path)
    made = caught.value.result.run
    module.write_text(FAILING.replace("too bad", "fine"))
    with pytest.raises(ConflictError, match="cannot go on: its code changed"):
        client.pipelines.run(resume=made, directory=tmp_path)
    module.write_text(FAILING)
    with pytest.raises(StepFailedError):
        client.pipelines.run(resume=made, directory=tmp_path)
    assert [step.status for step in client.pipelines.steps(made)] == ["failed"]


FAILING = """
import everline as el

@el.step
def bad() -> int:
    raise ValueError("too bad")

@el.pipeline
def fails() -> int:
    return bad()
"""


@el.step
def square(value: int) -> int:
    return value * value


@el.step
def rows(value: int) -> el.Table:
    import pyarrow as pa

    return pa.table({"x": list(range(value))})


@el.step
def add(table: el.Table) -> int:
    return sum(table["x"].to_pylist())


@el.pipeline
def remote(value: int = 3) -> int:
    return add(rows(square(value)))


def test_a_server_elsewhere_keeps_records_and_results(server: Any, tmp_path: Path) -> None:
    with Client(server.url, home=tmp_path / "client") as client:
        first = client.pipelines.run(remote)
        assert first.value == 36
        assert [step.status for step in client.pipelines.steps(first.run)] == ["succeeded"] * 3
    with Client(server.url, home=tmp_path / "other") as client:
        again = client.pipelines.run(remote)
        assert [step.cached for step in again.steps] == [True] * 3
