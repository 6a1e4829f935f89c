"""Packages, a simulated control plane, and data planes that are ended whatever the test did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from everline.models.package import Package
from everline.testing.control_plane_simulator import ControlPlaneSimulator
from tests_support.dataplane import DataPlane, Start, build


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Package]:
    root = tmp_path_factory.mktemp("packages")
    return [build(root / "one", rounds=10), build(root / "two", rounds=30)]


@pytest.fixture
def control() -> Iterator[ControlPlaneSimulator]:
    with ControlPlaneSimulator() as simulator:
        yield simulator


@pytest.fixture
def start(tmp_path: Path, control: ControlPlaneSimulator) -> Iterator[Start]:
    running: list[DataPlane] = []

    def begin(*options: str, home: Path | None = None, **settings: str) -> DataPlane:
        plane = DataPlane(home or tmp_path / "home", control.url, options=list(options), settings=settings)
        running.append(plane)
        return plane

    yield begin
    for plane in running:
        if plane.process.poll() is None:
            plane.process.kill()
            plane.process.wait()
        plane.client.close()
        plane.errors.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlPlaneSimulator, DataPlane]]:
    """One data plane for all tests that leave it alive: starting one costs seconds."""
    with ControlPlaneSimulator() as simulator:
        plane = DataPlane(tmp_path_factory.mktemp("shared") / "home", simulator.url, options=[], settings={})
        yield simulator, plane
        assert plane.end() == 0
        plane.errors.close()


@pytest.fixture
def running(shared: tuple[ControlPlaneSimulator, DataPlane]) -> tuple[ControlPlaneSimulator, DataPlane]:
    """The shared data plane, with nothing to serve."""
    control, plane = shared
    plane.follows(control.desire())
    return shared
