"""A driver may die at any moment: what was done is not done again. A server elsewhere works like an embedded one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import everline as el
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
