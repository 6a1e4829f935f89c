"""`everline demo --exit`, whole: the product's main job, as a newcomer starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from everline.cli.app import run


def everline(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVERLINE_")}
    environment["EVERLINE_HOME"] = str(home)
    command = [sys.executable, "-m", "everline", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "home"


@pytest.fixture(scope="module")
def told(home: Path) -> dict:
    done = everline(home, "demo", "--exit", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def fact(told: dict, words: str) -> dict:
    return next(fact for fact in told["facts"] if words in fact["what"])


def test_every_goal_has_its_fact(told):
    assert {fact["goal"] for fact in told["facts"]} == {
        "automation",
        "collaboration",
        "deployment",
        "governance",
        "monitoring",
        "reproducibility",
    }


def test_real_shifts_and_the_injected_fault_are_found_and_named(told):
    assert "Log loss" in fact(told, "really shifted")["evidence"]
    injected = fact(told, "injected fault")["evidence"]
    assert injected.startswith("distance")
    assert "1.609" in injected
    assert "2013-09-1" in injected


def test_the_proofs_hold(told):
    assert "P3; of the newest 1,000: 1000 of 1000" in fact(told, "replayed bit for bit")["evidence"]
    assert "P4" in fact(told, "by a stranger, from one file")["evidence"]
    assert fact(told, "rebuilt from its record")["what"].endswith("identical")
    assert "L5" in fact(told, "rebuilt from its record")["evidence"]
    assert "ravi" in fact(told, "what was live then")["evidence"]


def test_each_command_of_the_summary_shows_it_again(told, home, monkeypatch, capsys):
    for name in [name for name in os.environ if name.startswith("EVERLINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EVERLINE_HOME", str(home))
    for shown in told["facts"]:
        words = shown["command"].removeprefix("everline ").split()
        if words[0] == "reproduce":
            continue  # runs the training again; the story just did
        # In this process: the demo itself has shown that commands start as processes.
        code, printed = run(words), capsys.readouterr()
        assert code == 0, f"{shown['command']}: {printed.err}"
        assert printed.out.strip()


def test_a_second_demo_on_the_same_home_continues_cleanly(told, home):
    again = everline(home, "demo", "--exit", "--json")
    assert again.returncode == 0, again.stderr[-3000:]
    assert json.loads(again.stdout)["facts"] == told["facts"]


def test_a_home_that_is_not_the_demos_is_left_alone(tmp_path):
    assert everline(tmp_path / "mine", "users", "create", "somebody").returncode == 0
    before = (tmp_path / "mine" / "everline.db").stat().st_size
    for options in (["--exit"], ["--exit", "--fresh"]):
        refused = everline(tmp_path / "mine", "demo", *options)
        assert refused.returncode == 2
        assert "another --home" in refused.stderr
    assert (tmp_path / "mine" / "everline.db").stat().st_size == before
