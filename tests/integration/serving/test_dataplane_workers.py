"""Several workers on one port are one data plane: they answer alike, count together, and one that dies is replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from everline.models.package import Package
from everline.testing.control_plane_simulator import ControlPlaneSimulator
from tests_support.dataplane import DataPlane, Start, eventually, flights, logged


def workers(plane: DataPlane) -> list[int]:
    """The process ids of the workers, the longest-lived first."""
    children = psutil.Process(plane.process.pid).children()
    found = []
    for one in children:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may be dying
            if any("dataplane.worker" in part for part in one.cmdline()):
                found.append((one.create_time(), one.pid))
    return [pid for _, pid in sorted(found)]


def counted(plane: DataPlane, name: str = "everline_predictions_total") -> set[float]:
    """What the workers say, asked over several connections: they agree once each has read the others' newest words."""
    said = set()
    for _ in range(8):
        lines = [
            line
            for line in httpx.get(plane.client.base_url.join("/metrics")).text.splitlines()
            if line.startswith(name + "{")
        ]
        said.add(sum(float(line.rpartition(" ")[2]) for line in lines))
    return said


def asking(plane: DataPlane, times: int) -> set[str]:
    """Ask over new connections, so that the kernel spreads them; the ids of the predictions."""
    answered: set[str] = set()
    for _ in range(times):
        with httpx.Client(base_url=plane.client.base_url, timeout=20) as client:
            said = client.post("/v2/models/flight-delay/infer", json=flights(1))
            assert said.status_code == 200, said.text
            answered.update(said.json()["parameters"]["predictions"])
    return answered


def test_two_workers_answer_count_together_lose_nothing_and_are_replaced(
    control: ControlPlaneSimulator, start: Start, packages: list[Package]
) -> None:
    revision = control.release(packages[0])
    generation = control.serve(revision)
    plane = start("--workers", "2")
    plane.follows(generation)
    before = workers(plane)
    assert len(before) == 2
    asked = asking(plane, 20)
    eventually(lambda: counted(plane) == {20})
    health = control.reports[-1]
    assert {one.ready for one in health.revisions} == {True}
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(workers(plane)) == 2 and workers(plane)[0] == before[1])
    plane.ready()
    asked |= asking(plane, 20)
    eventually(lambda: counted(plane) == {40})
    eventually(lambda: asked <= {row["prediction"] for row in logged(control, revision)})
    two = control.release(packages[1], version=2)
    plane.follows(control.serve(two))
    with httpx.Client(base_url=plane.client.base_url, timeout=20) as client:
        versions = {client.post("/v2/models/flight-delay/infer", json=flights(1)).json()["model_version"]}
    assert versions == {"2"}
    assert plane.end() == 0
    assert workers_gone(before[1])


def workers_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


@pytest.mark.parametrize("workers_asked", ["0", "many"])
def test_a_number_of_workers_that_is_none_is_refused(workers_asked: str, tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "everline", "serve", "--workers", workers_asked, "--home", str(tmp_path)]
    ran = subprocess.run(asked, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 2
    assert "--workers" in ran.stderr
