"""kill -9 of a driver before and after each of its records: what was recorded is not done again, and all is done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from everline.sdk.client import Client

STEPS = """
import os
import pathlib

import everline as el


@el.step(cache=False)
def count(value: int) -> list[int]:
    with pathlib.Path(os.environ["MARKS"]).open("a") as file:
        file.write("count\\n")
    return list(range(value))


@el.step(cache=False)
def square(value: int) -> int:
    with pathlib.Path(os.environ["MARKS"]).open("a") as file:
        file.write(f"square {value}\\n")
    return value * value


@el.step(cache=False)
def add_up(values: list[int]) -> int:
    return sum(values)


@el.pipeline
def squares(n: int = 3) -> int:
    return add_up(el.map(square, count(n)))
"""
DRIVER = """
import os
import signal
import sys

from everline.cli.app import main
from everline.sdk import driving

WHEN, AT = sys.argv.pop(1).split(":")
record, calls = driving._Journal.record, 0


def dies(self, updates, output):
    global calls
    calls += 1
    if calls == int(AT) and WHEN == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    orders = record(self, updates, output)
    if calls == int(AT) and WHEN == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return orders


driving._Journal.record = dies
main()
"""


@pytest.mark.drill
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_driver_that_dies_at_any_record_is_followed_by_one_that_ends_the_run(tmp_path: Path, when: str) -> None:
    (tmp_path / "everline.toml").touch()
    (tmp_path / "squaring.py").write_text(STEPS)
    (tmp_path / "driver.py").write_text(DRIVER)
    died = 0
    for at in range(1, 20):
        marks, home = tmp_path / f"marks-{at}", tmp_path / f"home-{at}"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("EVERLINE_")} | {"MARKS": str(marks)}
        command = [
            sys.executable,
            "driver.py",
            f"{when}:{at}",
            "run",
            "squaring:squares",
            "--home",
            str(home),
            "--json",
        ]
        first = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
        if first.returncode == 0:
            break
        died += 1
        with Client(home=home) as client:
            (run,) = client.runs.list()
            done = {step.name for step in client.pipelines.steps(run.run) if step.status == "succeeded"}
        resume = [sys.executable, "-m", "everline", "run", "--resume", run.run, "--home", str(home), "--json"]
        second = subprocess.run(resume, cwd=tmp_path, env=environment, capture_output=True)
        assert second.returncode == 0, second.stderr.decode()
        answer = msgspec.json.decode(second.stdout)
        assert (answer["value"], answer["run"], answer["status"]) == (5, run.run, "finished")
        lines = marks.read_text().split("\n")
        assert lines.count("count") == 1 or "count" not in done  # what was recorded as done was done once
        for value in range(3):
            assert lines.count(f"square {value}") == 1 or f"square[{value}]" not in done
    assert died >= 4
