"""The example pipelines, run from their own folder as their reader would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples" / "pipelines"
FLIGHTS = "carrier,arr_delay\nUA,10\nAA,20\nDL,500\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(EXAMPLES, folder)
    (folder / "pyproject.toml").touch()  # the root of a project
    return folder


def everline(project: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "everline", *arguments, "--json"]
    environment = {**os.environ, "EVERLINE_HOME": str(project.parent / "home")}
    environment.pop("EVERLINE_URL", None)
    done = subprocess.run(command, env=environment, cwd=project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_delays_are_measured_on_a_month_of_flights(project: Path) -> None:
    (project.parent / "june.csv").write_text(FLIGHTS)
    everline(project, "data", "add", "flights", str(project.parent / "june.csv"), "--version", "2013-06")
    assert everline(project, "run", "delays:delays")["value"] == 15.0


def test_one_more_store_computes_only_what_is_new(project: Path) -> None:
    first = everline(project, "run", "stores:forecast", "--param", "stores=3")
    second = everline(project, "run", "stores:forecast", "--param", "stores=4")
    assert (first["value"]["stores"], second["value"]["stores"]) == (3, 4)
    assert sum(step["cached"] for step in second["steps"]) == 6
