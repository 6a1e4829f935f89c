"""The demo's training pipeline as a user runs it: in processes of its own, on the real flights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from everline.demo import flight_delay, flights
from everline.sdk.client import Client

STEPS = ["validate", "join", "split", "train", "evaluate", "package", "register"]


class Place:
    """A home with flights and weather, and a project folder with the pipeline."""

    def __init__(self, folder: Path) -> None:
        self.home, self.project = folder / "home", folder / "project"
        self.project.mkdir(parents=True)
        (self.project / "everline.toml").touch()
        (self.project / "flight_delay.py").write_bytes(Path(flight_delay.__file__).read_bytes())
        with Client(home=self.home) as client:
            client.datasets.add_table("weather", flights.weather())
            for month in flights.MONTHS[:4]:
                client.datasets.add_table("flights", flights.flights_of(month), label=month)

    def run(self, *options: str) -> dict[str, Any]:
        command = [
            sys.executable,
            "-m",
            "everline",
            "run",
            "flight_delay:flight_delay",
            "--json",
            "--home",
            str(self.home),
        ]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("EVERLINE_")}
        done = subprocess.run([*command, *options], cwd=self.project, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, dict[str, Any]]:
    place = Place(tmp_path_factory.mktemp("first"))
    return place, place.run()


def test_the_pipeline_trains_a_model_that_beats_chance_honestly(first: tuple[Place, dict[str, Any]]) -> None:
    place, answer = first
    assert [step["name"] for step in answer["steps"]] == STEPS
    assert [step["cached"] for step in answer["steps"]] == [False] * 7
    metrics = answer["value"]["metrics"]
    assert 0.64 < metrics["auc"] < 0.8  # far above 0.8 would mean that something from after departure leaked in
    assert metrics["log_loss"] < 0.6
    assert 0.2 < metrics["base_rate"] < 0.35


def test_version_package_reference_and_evidence_belong_together(first: tuple[Place, dict[str, Any]]) -> None:
    place, answer = first
    with Client(home=place.home) as client:
        version = client.models.get("flight-delay", 1)
        assert (version.package, version.run) == (answer["value"]["package"], answer["run"])
        manifest = json.loads(client.blobs.get_bytes(version.package))
        reference = client.datasets.version("flight-delay-reference")
        assert manifest["metadata"]["reference"] == {"dataset": "flight-delay-reference", "digest": reference.digest}
        assert manifest["created_from"]["run"] == answer["run"]
        assert len(manifest["created_from"]["data"]) == 5  # four months and the weather
        columns = client.datasets.table("flight-delay-reference").column_names
        assert {"day", "late", *flight_delay.FEATURES} <= set(columns)
        query = {"subject": f"model-version:{version.uid}"}
        found = {
            item["kind"]: item["body"] for item in client.call("GET", "/evidence", query=query, returns=Any)["items"]
        }
    assert found["evaluation"]["metrics"] == answer["value"]["metrics"]
    assert found["evaluation"]["n"] > 25_000
    assert {part["by"] for part in found["evaluation"]["slices"]} == {"carrier", "origin"}
    assert found["lineage"]["run"] == answer["run"]
    assert found["card"]["complete"], found["card"]["missing"]
    assert all(
        found["lineage"][name] for name in ("code_recorded", "environment_recorded", "data_recorded", "seed_recorded")
    )


def test_a_second_run_takes_all_from_the_cache_and_registers_no_second_version(
    first: tuple[Place, dict[str, Any]],
) -> None:
    place, answer = first
    again = place.run()
    if any(step["reason"].startswith("the environment changed") for step in again["steps"]):
        pytest.skip("the installed source code was edited between the two runs")
    assert [step["cached"] for step in again["steps"]] == [True] * 6 + [False]
    assert again["value"]["version"] == 1
    assert again["value"]["package"] == answer["value"]["package"]


@pytest.mark.drill
def test_a_rebuild_in_another_home_and_process_gives_the_same_bytes(
    first: tuple[Place, dict[str, Any]], tmp_path: Path
) -> None:
    place, answer = first
    other = Place(tmp_path)
    rebuilt = other.run("--no-cache", "--reproduces", answer["run"])
    if _environment(place, answer) != _environment(other, rebuilt):
        pytest.skip("the installed source code was edited between the two runs")
    before = {step["name"]: step["outputs"] for step in answer["steps"]}
    after = {step["name"]: step["outputs"] for step in rebuilt["steps"]}
    assert list(after) == STEPS[:-1]
    assert after == {name: before[name] for name in after}


def _environment(place: Place, answer: dict[str, Any]) -> str:
    with Client(home=place.home) as client:
        digest: str = client.pipelines.record(answer["run"])["environment"]["digest"]
    return digest
