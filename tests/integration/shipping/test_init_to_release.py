"""`everline init`, `git push`, CI, release, endpoint: with a bare repository and a simulator of what CI does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from conftest import Server
from everline.access.types import Role
from everline.cli.app import run as everline
from everline.sdk.client import Client

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
SOURCES = Path(__file__).parents[3] / "src"
PERSON = {"GIT_AUTHOR_NAME": "maya", "GIT_AUTHOR_EMAIL": "maya@example.org"}
GIT = PERSON | {
    "GIT_COMMITTER_NAME": "maya", "GIT_COMMITTER_EMAIL": "maya@example.org", "GIT_CONFIG_GLOBAL": os.devnull,
}  # fmt: skip


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, env=os.environ | GIT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class CiSimulator:
    """What a hosted CI does with a push: clones it into a clean folder, and calls the project's script there."""

    def __init__(self, bare: Path, folder: Path, variables: dict[str, str]) -> None:
        self.bare, self.folder, self.variables = bare, folder, variables
        self.runs = 0

    def pushed(self, commit: str) -> tuple[int, Path, str]:
        """Run CI; return the script's exit code, the clone and what it printed."""
        self.runs += 1
        clone = self.folder / f"ci-{self.runs}"
        git(self.folder, "clone", "-q", str(self.bare), str(clone))
        git(clone, "checkout", "-q", commit)
        summary = clone / "summary.md"
        variables = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_SHA": commit, "PYTHON": sys.executable}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EVERLINE_")}
        done = subprocess.run(
            ["sh", "ci/check.sh"], cwd=clone, capture_output=True, text=True,
            env=kept | {"PYTHONPATH": str(SOURCES)} | variables | self.variables,
        )  # fmt: skip
        return done.returncode, clone, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "churn"
    assert everline(["init", str(folder), "--json"]) == 0
    capsys.readouterr()
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin.git")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "remote", "add", "origin", str(tmp_path / "origin.git"))
    return folder


def push(folder: Path, message: str) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", message)
    git(folder, "push", "-q", "origin", "main")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def data_plane(server: Server, tmp_path: Path) -> Iterator[Callable[[], str]]:
    started: list[subprocess.Popen[str]] = []

    def start() -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", "everline", "serve", "--port", "0", "--home", str(tmp_path / "serve"),
             "--control-plane", server.url],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=os.environ | {"EVERLINE_HEALTH_REPORT_S": "0.2"},
        )  # fmt: skip
        started.append(process)
        found = re.search(r"http://\S+", process.stdout.readline() if process.stdout else "")
        assert found is not None
        return found.group()

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=30)


def wait_ready(address: str) -> None:
    for _ in range(1_200):
        answer = httpx.get(f"{address}/v2/models/churn/ready")
        if answer.status_code == 200:
            return
        time.sleep(0.05)
    raise AssertionError(answer.text)


def released(server: Server, tokens: Any, version: int, *, ravi: str, maya: str) -> str:
    """Opened by one person, approved by another, promoted."""
    release = Client(server.url, token=maya).releases.create("churn", "churn", version, canary_share=0)
    assert release.state.value == "awaiting_approval", release.check
    Client(server.url, token=ravi).releases.approve(release.uid, reason="The report of CI was read.")
    return str(Client(server.url, token=ravi).releases.promote(release.uid).state.value)


COLUMNS = {"contract": ["monthly"], "tenure_months": [3], "monthly_fee": [79.9], "support_calls": [4]}


@only_sqlite
def test_a_pushed_project_is_checked_reported_released_and_answers(
    project: Path, server: Server, tokens: Callable[[str, Role], str], data_plane: Callable[[], str], tmp_path: Path
) -> None:
    maya, ravi = tokens("maya", Role.CONTRIBUTOR), tokens("ravi", Role.APPROVER)
    variables = {"EVERLINE_URL": server.url, "EVERLINE_TOKEN": maya}
    ci = CiSimulator(tmp_path / "origin.git", tmp_path, variables)
    commit = push(project, "A new project")
    code, clone, said = ci.pushed(commit)
    assert code == 0, said
    report = (clone / "report/report.md").read_text()
    assert (clone / "summary.md").read_text() == report
    assert "## ✅ `churn:1` may be released to `churn` once approved" in report
    assert f"from commit `{commit[:12]}`" in report
    assert "### What `everline apply` would change" in report and "+ endpoints.churn" in report
    assert released(server, tokens, 1, ravi=ravi, maya=maya) == "promoted"
    address = data_plane()
    wait_ready(address)
    answer = httpx.post(f"{address}/endpoints/churn/invocations", json={"inputs": COLUMNS}).json()
    assert 0.5 < answer["predictions"][0]["probability"] < 1


@pytest.mark.drill
@only_sqlite
def test_the_next_change_is_held_against_the_champion_and_a_worse_one_fails_the_check(
    project: Path, server: Server, tokens: Callable[[str, Role], str], tmp_path: Path
) -> None:
    maya, ravi = tokens("maya", Role.CONTRIBUTOR), tokens("ravi", Role.APPROVER)
    ci = CiSimulator(tmp_path / "origin.git", tmp_path, {"EVERLINE_URL": server.url, "EVERLINE_TOKEN": maya})
    assert ci.pushed(push(project, "A new project"))[0] == 0
    assert released(server, tokens, 1, ravi=ravi, maya=maya) == "promoted"

    pipeline = project / "churn.py"
    pipeline.write_text(pipeline.read_text().replace("max_iter: int = 60", "max_iter: int = 80"))
    code, clone, said = ci.pushed(push(project, "More trees"))
    assert code == 0, said
    report = (clone / "report/report.md").read_text()
    assert "against the champion `churn:1`" in report and re.search(r"\| log_loss ↓ \| .* to .* \|", report)
    assert released(server, tokens, 2, ravi=ravi, maya=maya) == "promoted"

    pipeline.write_text(pipeline.read_text().replace("max_iter: int = 80", "max_iter: int = 2"))
    code, clone, said = ci.pushed(push(project, "Two trees"))
    assert code == 1, said
    assert "## ❌ `churn:3` may not be released" in (clone / "summary.md").read_text()


def test_a_scaffold_is_whole_says_the_same_everywhere_and_is_written_over_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    for folder in (first, second):
        assert everline(["init", str(folder), "--name", "late-flights", "--json"]) == 0
        files = json.loads(capsys.readouterr().out)["files"]
    assert [(first / path).read_bytes() for path in files] == [(second / path).read_bytes() for path in files]
    assert not any("@NAME@" in (first / path).read_text() or "@MODULE@" in (first / path).read_text() for path in files)
    workflow = yaml.safe_load((first / ".github/workflows/everline.yml").read_text())
    jobs = yaml.safe_load((first / ".gitlab-ci.yml").read_text())
    steps = [step.get("run") for step in workflow["jobs"]["check"]["steps"]]
    assert "sh ci/check.sh" in steps and "sh ci/check.sh" in jobs["check"]["script"]
    assert tomllib.loads((first / "everline.toml").read_text())["pipelines"]["late-flights"]["pipeline"] == (
        "late_flights:late_flights"
    )
    compile((first / "late_flights.py").read_text(), "late_flights.py", "exec")

    (tmp_path / "three").mkdir()
    (tmp_path / "three/README.md").write_text("mine")
    assert everline(["init", str(tmp_path / "three")]) == 2
    assert "README.md is there already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "three").iterdir()] == ["README.md"]
    for name in ("json", "class", "everline", "1st"):
        assert everline(["init", str(tmp_path / "four"), "--name", name]) == 2
        assert "no name for one" in capsys.readouterr().err
    assert not (tmp_path / "four").exists()
