"""Runs that the unmodified MLflow client made are done again from their Git commit, and say how far that carries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from mlflow import MlflowClient

from conftest import Server
from everline.cli.app import run as everline
from everline.governance.types import GateState
from everline.reproduction.types import Cause, Reproduction, Verdict
from everline.runs.capture import capture
from everline.sdk.client import Client
from everline.sdk.reproduction import Where

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

TRAIN = """
import sys
strength = float(sys.argv[1])

import tempfile
from pathlib import Path

import mlflow
import numpy as np
from mean import Mean
from mlflow.data import from_numpy

points = np.random.default_rng(3).random((60, 3))

with mlflow.start_run(), tempfile.TemporaryDirectory() as folder:
    mlflow.log_params({"C": strength, "seed": 3})
    mlflow.log_input(from_numpy(points, name="points"), context="training")
    for step in range(3):
        mlflow.log_metric("loss", 1 / (step + strength), step=step)
    mlflow.log_text("hello", "notes/said.txt")
    np.savez(f"{folder}/weights.npz", w=points.mean(axis=0) * strength)
    made = mlflow.pyfunc.log_model(
        name="mean", python_model=Mean(), artifacts={"weights": f"{folder}/weights.npz"},
        pip_requirements=[f"numpy=={np.__version__}"], registered_model_name="points",
    )
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("points", "champion", made.registered_model_version)
    client.get_model_version("points", made.registered_model_version)
"""

MEAN = """
import mlflow
import numpy as np


class Mean(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.weights = np.load(context.artifacts["weights"])["w"]

    def predict(self, context, model_input):
        return model_input @ self.weights
"""

LIGHT = """
import mlflow

with mlflow.start_run():
    mlflow.log_param("depth", 6)
    for step, value in enumerate([0.5, 0.25, 0.125]):
        mlflow.log_metric("loss", value, step=step)
"""
LOSSES = (0.5, 0.25, 0.125)

# Logs the same and starts four times as fast: what a script logs with has nothing to do with where its code is found.
QUICK = """
import everline as el

with el.run(params={"depth": 6}, record=False) as run:
    for step, value in enumerate([0.5, 0.25, 0.125]):
        run.log_metric("loss", value, step=step)
"""

POLICY = """
name = "rebuilt"
title = "Rebuilt"
reason = "What cannot be rebuilt cannot be examined"
[[rules]]
name = "reproduced"
reason = "Somebody did the work again, and it was the same"
expression = 'reproduction.level in [LEVELS]'
[[cases]]
name = "nothing rebuilt"
expect = "fail"
facts.reproduction.level = "L0"
facts.reproduction.verdict = "diverged"
"""

OWN = """
import os, sys, pathlib
import everline as el

with el.run(params={"depth": sys.argv[1]}) as run:
    run.log_metrics({"words": len(pathlib.Path("words.txt").read_text().split())})
    run.log_metrics({"depth": float(sys.argv[1])})
    if os.environ.get("READS"):
        run.log_metrics({"read": len(open(os.environ["READS"]).read())})
    if sys.argv[1] == "7":
        run.log_metrics({"luck": int.from_bytes(os.urandom(6))})
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's Git repository, the current folder."""
    root = tmp_path / "repository"
    (root / "jobs").mkdir(parents=True)
    git(root, "init", "--quiet", "--initial-branch", "main")
    (root / "jobs" / "train.py").write_text(TRAIN)
    (root / "jobs" / "mean.py").write_text(MEAN)
    (root / "light.py").write_text(LIGHT)
    (root / "quick.py").write_text(QUICK)
    (root / "jobs" / "own.py").write_text(OWN)
    (root / "jobs" / "words.txt").write_text("one two three")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "Scripts")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def start(server: Server, client: Client, repository: Path) -> Callable[..., str]:
    """Run a script as people do, against a server; gives the run's uid."""

    def script(*command: str) -> str:
        told = {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_DISABLE_TELEMETRY": "true"}
        done = subprocess.run([sys.executable, *command], cwd=repository, env=os.environ | told, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return client.runs.list()[0].run

    return script


@pytest.fixture
def elsewhere(server: Server, client: Client, repository: Path) -> Callable[..., str]:
    """What the MLflow client records of quick.py somewhere else: the same calls, with the tags given."""
    mlflow = MlflowClient(server.url)

    def record(*, losses: tuple[float, ...] = LOSSES, depth: str = "6", **tags: str) -> str:
        commit = git(repository, "rev-parse", "HEAD")
        said = {"source.name": "quick.py", "source.type": "LOCAL", "source.git.commit": commit} | tags
        said = {f"mlflow.{name}": value for name, value in said.items() if value}
        made = str(mlflow.create_run("0", tags=said).info.run_id)
        mlflow.log_param(made, "depth", depth)
        for step, value in enumerate(losses):
            mlflow.log_metric(made, "loss", value, step=step)
        mlflow.set_terminated(made)
        return made

    return record


def why(report: Reproduction) -> dict[str, tuple[bool, str]]:
    return {check.level: (check.earned, check.reason) for check in report.checks}


@only_sqlite
def test_a_run_of_the_mlflow_client_is_done_again_from_its_commit(
    client: Client, start: Callable[..., str], repository: Path
) -> None:
    made = start("light.py")
    # Later edits do not matter: the commit is what is run.
    (repository / "light.py").write_text("raise RuntimeError('edited')\n")
    # Gone from every branch, it is still found.
    git(repository, "commit", "--quiet", "--all", "--amend", "-m", "Rewritten")
    report = client.reproduction.reproduce(made)
    assert report.first_difference is None, report.reason
    assert (report.level, report.verdict) == ("L0", Verdict.IDENTICAL)
    assert [(step.name, step.equal) for step in report.steps] == [("metric loss", "bits")]
    levels = why(report)
    assert levels["L0"][0] and "the arguments of the script" in levels["L0"][1]
    assert levels["L1"] == (False, "the record names no package: the MLflow client writes them down only with a model")
    assert levels["L2"] == (True, "it finished again from the commit alone")
    assert levels["L5"][0] and levels["L6"] == (False, "the MLflow client does not record the machine")
    assert "whether there were uncommitted changes" in report.not_recorded
    statement = client.reproduction.certificate(report.certificate or "").statement
    assert statement["predicate"]["everline"]["notRecorded"] == list(report.not_recorded)
    assert f"run:{made}/metric loss" in {subject["name"] for subject in statement["subject"]}
    # What the client could not record, the rebuild has: its own rebuild can earn every level.
    again = client.reproduction.reproduce(report.rebuilds[0])
    assert (again.level, again.verdict) == ("L5", Verdict.IDENTICAL), again.reason


@pytest.mark.drill
@only_sqlite
def test_models_count_by_content_and_nothing_but_the_rebuilds_own_run_changes(
    client: Client, start: Callable[..., str], repository: Path
) -> None:
    made = start("jobs/train.py", "0.5")
    bare = client.reproduction.reproduce(made)
    assert (bare.verdict, bare.first_difference.cause) == (Verdict.DIVERGED, Cause.PARAMETERS)
    assert "give them after `--`" in bare.first_difference.detail

    report = client.reproduction.reproduce(made, arguments=["0.5"])
    assert (report.level, report.verdict) == ("L0", Verdict.IDENTICAL), report.reason
    compared = {step.name: step.equal for step in report.steps}
    assert {
        "artifact notes/said.txt",
        "model mean/artifacts/weights.npz",
        "model mean/MLmodel",
        "metric loss",
    } <= compared.keys()
    assert set(compared.values()) == {"bits"}
    levels = why(report)
    assert not levels["L1"][0] and "requirements of model mean" in levels["L1"][1]
    assert levels["L2"] == (False, "its arguments were given by hand")

    # The model was not registered again, nor its alias moved.
    assert [version.version for version in client.models.versions("points")] == [1]
    assert client.models.get("points", "@champion").version == 1
    rebuilt = client.runs.get(report.rebuilds[0])
    assert rebuilt.tags["everline.reproduces"] == made
    assert rebuilt.tags["mlflow.source.git.commit"] == git(repository, "rev-parse", "HEAD")


def test_what_differs_is_named_with_its_metric_and_step(client: Client, elsewhere: Callable[..., str]) -> None:
    report = client.reproduction.reproduce(elsewhere(losses=(0.5, 0.25, 0.1875)))
    assert (report.level, report.verdict) == ("L0", Verdict.DIVERGED)
    assert (report.first_difference.step, report.first_difference.cause) == ("metric loss", Cause.HIDDEN_INPUT)
    assert "at step 2: 0.1875 recorded, 0.125 rebuilt" in report.first_difference.detail
    assert "or it depends on the arguments of the script" in report.first_difference.detail
    assert not why(report)["L5"][0] and len(report.rebuilds) == 2

    report = client.reproduction.reproduce(elsewhere(depth="8"))
    assert (report.verdict, report.first_difference.cause) == (Verdict.EQUIVALENT, Cause.PARAMETERS)
    assert "depth = '6', recorded '8'" in report.reason and not why(report)["L2"][0]


@only_sqlite
def test_what_stands_in_the_way_of_a_rebuild_is_named_and_never_claimed(
    client: Client, elsewhere: Callable[..., str], repository: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    home = ["--home", str(client.settings.home)]
    report = client.reproduction.reproduce(elsewhere(**{"source.name": "never.py"}))
    assert (report.level, report.verdict, report.first_difference.cause) == (None, Verdict.DIVERGED, Cause.CODE)
    assert "has no never.py" in report.reason and not why(report)["L0"][0]
    report = client.reproduction.reproduce(elsewhere(**{"source.git.commit": ""}))
    assert (report.level, report.verdict) == (None, Verdict.UNVERIFIABLE)
    assert "without a Git commit" in report.reason
    report = client.reproduction.reproduce(elsewhere(losses=()))
    assert (report.level, report.verdict) == (None, Verdict.UNVERIFIABLE)
    assert "logged no metric, file or model" in report.reason

    made = elsewhere(**{"source.git.repoURL": "https://example.org/not-asked.git"})
    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path / "plain")
    report = client.reproduction.reproduce(made)
    assert (report.level, report.first_difference.cause) == (None, Cause.CODE)
    assert "there is no Git repository in" in report.reason and "example.org/not-asked" in report.reason
    git(tmp_path / "plain", "init", "--quiet")
    report = client.reproduction.reproduce(made)
    assert "has no commit" in report.reason and report.level is None
    capfd.readouterr()
    assert everline(["reproduce", made, *home, "--repository", str(tmp_path / "nowhere"), "--json"]) == 1
    assert json.loads(capfd.readouterr().out)["first_difference"]["class"] == "code"
    assert everline(["reproduce", made, *home, "--param", "depth=7"]) == 2
    # From an address that is given, the commit is fetched.
    assert everline(["reproduce", made, *home, "--repository", f"file://{repository}"]) == 0
    said = capfd.readouterr()
    assert "not recorded" in said.out and "Traceback" not in said.err


@only_sqlite
def test_uncommitted_changes_cap_the_claim_unless_they_were_recorded(
    client: Client, elsewhere: Callable[..., str], repository: Path
) -> None:
    (repository / "quick.py").write_text(QUICK.replace("0.25", "0.375"))
    dirty = {"source.git.dirty": "true"}
    report = client.reproduction.reproduce(elsewhere(losses=(0.5, 0.375, 0.125), **dirty))
    assert (report.level, report.verdict, report.first_difference.cause) == (None, Verdict.DIVERGED, Cause.CODE)
    assert "uncommitted changes, which nobody recorded" in report.reason and "0.375 recorded" in report.reason
    dirty["source.git.diff"] = git(repository, "diff")
    report = client.reproduction.reproduce(elsewhere(losses=(0.5, 0.375, 0.125), **dirty))
    assert (report.level, report.verdict) == ("L0", Verdict.IDENTICAL), report.reason
    assert "with its uncommitted changes" in why(report)["L0"][1]
    dirty["source.git.diff"] = "not a diff"
    report = client.reproduction.reproduce(elsewhere(**dirty))
    assert (report.level, report.first_difference.cause) == (None, Cause.CODE) and "do not fit" in report.reason


@only_sqlite
def test_a_requirement_that_no_longer_resolves_ends_in_a_verdict(
    client: Client, server: Server, elsewhere: Callable[..., str], tmp_path: Path
) -> None:
    made = elsewhere()
    mlflow = MlflowClient(server.url)
    model = mlflow.create_logged_model("0", name="echo", source_run_id=made).model_id
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "requirements.txt").write_text("never-published-here==9.9\n")
    mlflow.log_model_artifacts(model, str(tmp_path / "model"))
    report = client.reproduction.reproduce(made, environment=Where.FRESH)
    assert (report.verdict, report.first_difference.cause) == (Verdict.DIVERGED, Cause.ENVIRONMENT)
    assert "never-published-here" in report.reason
    report = client.reproduction.reproduce(made, environment=Where.HERE)
    assert "never-published-here: 9.9 required by model echo, not installed here" in why(report)["L1"][1]
    assert report.verdict is Verdict.DIVERGED and report.first_difference.step == "model echo/requirements.txt"


@only_sqlite
def test_a_script_of_our_own_reproduces_at_l5_with_its_arguments_and_folder(
    client: Client, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLINE_HOME", str(client.settings.home.absolute()))

    monkeypatch.setenv("EVERLINE_MAIL_PASSWORD", "hush-variable")
    monkeypatch.setenv("MLFLOW_EXTRA_TOKEN", "hush-variable")

    def own(*arguments: str) -> str:
        subprocess.run([sys.executable, "own.py", *arguments], cwd=repository / "jobs", check=True, capture_output=True)
        return str(client.runs.list()[0].run)

    made = own("6", "--api-key", "hush-argument")

    def lies(word: str) -> bool:
        """Whether a word is anywhere in the home; asked by another program, which leaves the database's locks alone."""
        found = subprocess.run(["grep", "-rqa", word, client.settings.home], check=False)
        return found.returncode == 0

    assert lies("words.txt") and not lies("hush-")
    record = client.runs.record(made)
    assert (record["entry"], record["folder"], record["argv"]) == (
        "jobs/own.py", "jobs", ["6", "--api-key", "[redacted]"],
    )  # fmt: skip
    report = client.reproduction.reproduce(made)
    assert "looks like a secret" in report.reason and report.verdict is Verdict.DIVERGED
    made = own("6")
    report = client.reproduction.reproduce(made)
    assert (report.level, report.verdict) == ("L5", Verdict.IDENTICAL), report.reason
    assert [step.name for step in report.steps] == ["metric depth", "metric words"]
    assert client.reproduction.certificate(report.certificate or "").statement["predicate"]["result"] == "PASSED"
    report = client.reproduction.reproduce(made, arguments=["5"])
    assert (report.verdict, report.certificate, report.first_difference.cause) == (
        Verdict.DIVERGED, None, Cause.PARAMETERS,
    )  # fmt: skip
    report = client.reproduction.reproduce(own("7"))
    assert (report.first_difference.step, report.first_difference.cause) == ("metric luck", Cause.NON_DETERMINISM)
    (tmp_path / "prices.csv").write_text("1")
    monkeypatch.setenv("READS", str(tmp_path / "prices.csv"))
    made = own("6")
    (tmp_path / "prices.csv").unlink()
    assert json.loads(client.runs.get(made).tags["everline.undeclared"])[0]["name"] == str(tmp_path / "prices.csv")
    monkeypatch.setenv("SOME_API_KEY", str(tmp_path / "prices.csv"))
    report = client.reproduction.reproduce(made)
    assert (report.level, report.verdict, report.first_difference.cause) == (
        "L1", Verdict.DIVERGED, Cause.HIDDEN_INPUT,
    )  # fmt: skip
    failure, before = report.reason.split("; when it was recorded, ")
    assert failure.endswith("FileNotFoundError: [Errno 2] No such file or directory: '[redacted]'"), (
        "a variable's value"
    )
    assert "it read" in before and "prices.csv" in before


@only_sqlite
def test_a_policy_can_require_a_level(client: Client, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLINE_HOME", str(client.settings.home.absolute()))
    subprocess.run([sys.executable, "own.py", "6"], cwd=repository / "jobs", check=True, capture_output=True)
    made = client.runs.list()[0].run

    def mlflow(call: str, **fields: str) -> Any:
        headers = {"Content-Type": "application/json"}
        content = json.dumps(fields).encode()
        return client.send("POST", f"/api/2.0/mlflow/{call}", content=content, headers=headers).json()

    mlflow("registered-models/create", name="words")
    mlflow("model-versions/create", name="words", source=f"runs:/{made}/model", run_id=made)
    version = client.models.get("words", "1").subject

    def gate(level: str) -> GateState:
        client.policies.save(POLICY.replace("LEVELS", level))
        client.policies.activate("rebuilt")
        return client.policies.explain(version).gate

    client.policies.deactivate("baseline", reason="only the level counts here")
    assert gate('"L5", "L6"') is GateState.BLOCKED, "nobody has rebuilt it"
    assert client.reproduction.reproduce("words/1").level == "L5"
    assert gate('"L5", "L6"') is GateState.OPEN
    assert gate('"L6"') is GateState.BLOCKED


@only_sqlite
def test_a_script_that_trained_on_a_gpu_elsewhere_names_the_hardware(client: Client, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise RuntimeError('Found no NVIDIA driver on your system')\n")
    captured = capture(tmp_path, "train.py")
    machine = msgspec.structs.replace(captured.record.environment.machine, cpu="Other", accelerators=("NVIDIA H100",))
    environment = msgspec.structs.replace(captured.record.environment, machine=machine)
    for content in captured.blobs.values():
        client.blobs.put_bytes(content)
    made = client.runs.create(experiment="elsewhere").run
    client.runs.set_record(made, msgspec.to_builtins(msgspec.structs.replace(captured.record, environment=environment)))
    client.runs.log_batch(made, metrics={"loss": 0.5})
    client.runs.finish(made)
    report = client.reproduction.reproduce(made)
    assert (report.level, report.verdict, report.first_difference.cause) == (
        "L0", Verdict.DIVERGED, Cause.HARDWARE,
    )  # fmt: skip
    assert "Found no NVIDIA driver" in report.reason


@only_sqlite
def test_a_rebuild_cannot_change_anything_but_its_own_run(client: Client) -> None:
    from everline.sdk.door import Door

    other = client.runs.create(experiment="mine").run
    with Door(client, reproduces=other) as door:
        headers = {"Authorization": f"Bearer {door.token}"}

        def ask(method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
            return httpx.request(method, door.url + path, json=body, **({"headers": headers} | options))

        assert ask("GET", "/api/v1/runs", headers={}).status_code == 403
        assert ask("GET", f"/api/v1/runs/{other}").status_code == 200
        refused = [
            ask("POST", "/api/2.0/mlflow/runs/log-metric", {"run_id": other, "key": "a", "value": 1, "timestamp": 1}),
            ask("POST", "/api/2.0/mlflow/runs/delete", {"run_id": other}),
            ask("POST", "/ajax-api/2.0/mlflow/experiments/delete", {"experiment_id": "1"}),
            ask("PUT", f"/api/2.0/mlflow-artifacts/artifacts/1/{other}/artifacts/a.txt"),
            ask("POST", f"/api/v1/runs/{other}/finish", {"status": "failed"}),
            ask("DELETE", f"/api/v1/runs/{other}"),
            ask("POST", "/api/v1/releases", {}),
            ask("POST", "/api/2.0/mlflow/webhooks", {}),
        ]
        assert [answer.status_code for answer in refused] == [403] * len(refused)
        assert "changes nothing but its own run" in refused[0].json()["message"]
        assert "changes nothing but its own run" in refused[4].json()["detail"]
        created = ask("POST", "/api/2.0/mlflow/registered-models/create", {"name": "held"})
        assert created.json()["registered_model"]["name"] == "held"
        made = ask("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"}).json()["run"]["info"]["run_id"]
        assert ask("POST", "/api/2.0/mlflow/runs/set-tag", {"run_id": made, "key": "a", "value": "b"}).is_success
        place = f"{door.url}/api/2.0/mlflow-artifacts/artifacts/0/{made}/artifacts"
        large = os.urandom(1 << 20) * 5
        httpx.put(f"{place}/large.bin", content=large, headers=headers).raise_for_status()
        httpx.put(f"{place}/pieces.bin", content=iter([b"one ", b"two"]), headers=headers).raise_for_status()
        assert httpx.get(f"{place}/pieces.bin", headers=headers).content == b"one two"
        assert httpx.get(f"{place}/large.bin", headers=headers).content == large
    assert client.runs.get(made).tags["everline.reproduces"] == other
    assert client.models.list() == []
    assert client.runs.get(other).metrics == {}
