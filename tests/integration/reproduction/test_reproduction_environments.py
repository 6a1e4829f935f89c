"""Rebuilding in the recorded environment: taken from here file by file, or installed; and what stands in the way."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from everline.reproduction import environments
from everline.reproduction.environments import EnvironmentUnavailableError
from everline.reproduction.types import Cause, Verdict
from everline.runs.environment import Distribution, Environment, capture_environment, installed_distributions
from everline.sdk.client import Client
from everline.sdk.reproduction import Where

FLOW = """
import everline as el

@el.step
def double(numbers: el.Table) -> list:
    return [2 * row["x"] for row in numbers.to_pylist()]

@el.pipeline
def flow() -> list:
    return double(el.dataset("numbers"))
"""


def only(*names: str) -> Environment:
    """This environment with a few of its distributions."""
    here = capture_environment()
    kept = tuple(one for one in here.distributions if one.name in names)
    return msgspec.structs.replace(here, distributions=kept)


def inside(python: Path) -> list[Distribution]:
    """What is installed in a made environment."""
    variables = environments.variables_for(os.environ)
    return installed_distributions(environments.search_path(str(python), variables))


def test_an_environment_is_made_of_what_is_here_and_of_nothing_else(tmp_path: Path) -> None:
    recorded = only("msgspec", "click")
    python = environments.make(recorded, tmp_path / "venv", paths=sys.path)
    assert inside(python) == list(recorded.distributions)
    code = "import json, sys, click, msgspec; print(json.dumps([msgspec.__file__, click.__file__]))"
    found = json.loads(subprocess.run([python, "-c", code], capture_output=True, check=True, cwd=tmp_path).stdout)
    assert all(Path(path).is_relative_to(tmp_path) for path in found)


def test_a_version_that_is_not_here_is_installed_without_its_dependencies(tmp_path: Path) -> None:
    recorded = only("msgspec")
    other = Distribution(name="iniconfig", version="2.0.0")
    recorded = msgspec.structs.replace(recorded, distributions=(other, *recorded.distributions))
    python = environments.make(recorded, tmp_path / "venv", paths=sys.path)
    assert [(one.name, one.version) for one in inside(python)][0] == ("iniconfig", "2.0.0")
    assert len(inside(python)) == 2


def test_what_cannot_be_made_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "wheel_of_chance-1.0.dist-info"
    package.mkdir(parents=True)
    (package.parent / "chance.py").write_text("LUCK = 1\n")
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: wheel-of-chance\nVersion: 1.0\n")
    digest = environments._digest(package.parent / "chance.py", "sha256")
    with (package / "RECORD").open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ["chance.py", f"sha256={digest}", "9"],
                *([f"{package.name}/{name}", "", ""] for name in ("METADATA", "RECORD")),
            ]
        )
    paths = [str(package.parent)]
    recorded = msgspec.structs.replace(only(), distributions=tuple(installed_distributions(paths)))
    assert inside(environments.make(recorded, tmp_path / "good", paths=paths)) == list(recorded.distributions)

    (package.parent / "chance.py").write_text("LUCK = 2\n")
    with pytest.raises(EnvironmentUnavailableError, match=r"chance\.py was edited after it was installed"):
        environments.make(recorded, tmp_path / "edited", paths=paths)
    nowhere = msgspec.structs.replace(
        recorded, distributions=(Distribution(name="everline-was-never-published", version="9.9"),)
    )
    with pytest.raises(EnvironmentUnavailableError, match="everline-was-never-published"):
        environments.make(nowhere, tmp_path / "nowhere", paths=paths)
    folder = msgspec.structs.replace(recorded.distributions[0], digest="sha256:" + "0" * 64, editable=True)
    with pytest.raises(EnvironmentUnavailableError, match="Installed from a folder"):
        environments.make(msgspec.structs.replace(recorded, distributions=(folder,)), tmp_path / "f", paths=paths)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvironmentUnavailableError, match="uv, which would install it, is missing"):
        environments.make(nowhere, tmp_path / "without", paths=paths)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.drill
def test_a_run_is_rebuilt_in_its_own_environment_when_the_one_here_has_changed(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "everline.toml").write_text("")
    (root / "flow.py").write_text(FLOW)
    client.datasets.add("numbers", pa.table({"x": [1.0, 2.0, 4.0]}))
    monkeypatch.setenv("EVERLINE_HOME", str(client.settings.home.absolute()))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    done = subprocess.run(
        [sys.executable, "-m", "everline", "run", "flow:flow", "--json"], cwd=root, capture_output=True, check=True
    )
    made = str(msgspec.json.decode(done.stdout)["run"])
    # Somebody installs another package: what is here is no longer what was recorded.
    added = tmp_path / "added" / "wheel_of_chance-2.0.dist-info"
    added.mkdir(parents=True)
    (added / "RECORD").write_text("wheel.py,sha256=2.0,1\n")
    monkeypatch.setenv("PYTHONPATH", str(added.parent))
    said: list[str] = []
    report = client.reproduction.reproduce(made, watch=said.append)
    assert "making the recorded environment" in said
    assert report.first_difference is None, report.reason
    assert (report.level, report.verdict) == ("L5", Verdict.IDENTICAL)
    here = client.reproduction.reproduce(made, environment=Where.HERE)
    assert (here.level, here.verdict) == ("L0", Verdict.EQUIVALENT)
    assert here.first_difference is not None and here.first_difference.cause is Cause.ENVIRONMENT
    assert "wheel-of-chance: not installed recorded" in here.first_difference.detail
