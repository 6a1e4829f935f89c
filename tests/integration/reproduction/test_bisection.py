"""A planted commit and a planted dataset version are found, in logarithmically many trials."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from everline.cli.app import run as everline
from everline.errors import InvalidInputError
from everline.sdk.client import Client

FLOW = """
import everline as el

FACTOR = 1.0


@el.step
def measure(numbers: el.Table) -> dict:
    return {"metrics": {"loss": float(sum(numbers["x"].to_pylist())) * FACTOR}}


@el.pipeline
def flow() -> dict:
    return measure(el.dataset("numbers"))
"""

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def project(tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a folder of a Git repository."""
    root = tmp_path / "repository" / "project"
    root.mkdir(parents=True)
    (root / "everline.toml").write_text("")
    (root / "flow.py").write_text(FLOW)
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERLINE_HOME", str(client.settings.home.absolute()))
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "maya")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "maya@example.com")
    git("init", "-q", "..")
    commit("first")
    return root


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)


def commit(title: str) -> None:
    git("add", "-A")
    git("commit", "-q", "-m", title)


def run(*options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "everline", "run", "flow:flow", "--json", *options], capture_output=True, check=True
    )
    return str(msgspec.json.decode(done.stdout)["run"])


@pytest.mark.drill
def test_the_commit_that_moved_a_metric_is_found_past_one_that_does_not_run(
    client: Client, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client.datasets.add("numbers", pa.table({"x": [1.0, 2.0]}))
    before = run()
    file = project / "flow.py"
    for number in range(1, 13):
        text = file.read_text()
        if number == 9:
            text = text.replace("FACTOR = 1.0", "FACTOR = 2.0")
        broken = number == 6
        file.write_text(text + ("this is no Python\n" if broken else f"# {number}\n"))
        commit(f"change {number}")
        if broken:
            file.write_text(text)
    client.datasets.add("numbers", pa.table({"x": [1.0, 2.0, 0.0]}))  # newer data are not the code's doing
    after = run()
    with pytest.raises(InvalidInputError, match="more than one line to search: data numbers, code"):
        client.explanations.bisect("loss", before, after)
    found = client.explanations.bisect("loss", before, after, over="code")
    assert found.first is not None and found.first.title == "change 9", found.reason
    assert (found.candidates, len(found.probes)) == (12, 6)
    assert [probe.title for probe in found.probes if probe.moved is None] == ["change 6"]
    assert everline(["bisect", "loss", "--from", before, "--to", after, "--over", "numbers"]) == 1
    told = capsys.readouterr().out
    assert "with all else as in the earlier run loss ends at 3: data numbers did not move it" in told

    with pytest.raises(InvalidInputError, match="is no ancestor of"):
        client.explanations.bisect("loss", after, before, over="code")


@pytest.mark.drill
def test_the_dataset_version_that_moved_a_metric_is_found(client: Client, project: Path) -> None:
    for number in range(1, 10):
        client.datasets.add("numbers", pa.table({"x": [1.0, 2.0 if number < 5 else 7.0, 0.01 * number]}))
    before, after = run("--data", "numbers=1"), run("--data", "numbers=9")
    found = client.explanations.bisect("loss", before, after)
    assert found.first is not None and found.first.name == "numbers@5", found.reason
    assert (found.candidates, len(found.probes)) == (8, 4)
    assert found.reason == "loss moved from 3.01 to 8.05 at numbers@5"
    with pytest.raises(InvalidInputError, match="numbers@9 is not older than numbers@1"):
        client.explanations.bisect("loss", after, before)
    with pytest.raises(InvalidInputError, match="not made in a Git repository|differ in 'code'"):
        client.explanations.bisect("loss", before, after, over="code")
