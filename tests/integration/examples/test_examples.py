"""The examples, run as their reader would: a server, a data plane and a script, each a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient

from conftest import Server, free_port, wait_ready
from everline.sdk.client import Client

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`everline server`, as it is without settings."""
    home = tmp_path_factory.mktemp("examples")
    server = Server(home, f"sqlite:///{home / 'everline.db'}")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def data_plane(running: Server, tmp_path: Path) -> Iterator[None]:
    port = free_port()
    command = ["serve", "--port", str(port), "--home", str(tmp_path / "serve"), "--control-plane", running.url]
    process = subprocess.Popen([sys.executable, "-m", "everline", *command])
    wait_ready(f"http://127.0.0.1:{port}", process)
    yield
    process.terminate()
    process.wait(30)


def run(name: str, server: Server, tmp_path: Path) -> str:
    told = {"MLFLOW_TRACKING_URI": server.url, "EVERLINE_URL": server.url, "EVERLINE_HOME": str(tmp_path / "client")}
    # Other tests' MLflow servers are in this process' variables.
    mine = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment = {**mine, **told, "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / name)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.drill
def test_an_unmodified_xgboost_script_leaves_its_run_its_curves_and_its_model(running: Server, tmp_path: Path) -> None:
    assert "import everline" not in (EXAMPLES / "xgboost_autolog.py").read_text()
    said = run("xgboost_autolog.py", running, tmp_path)
    number = re.search(r"^run (\w{32})$", said, re.MULTILINE)
    assert number, said
    with Client(running.url, home=tmp_path / "client") as client:
        logged = client.runs.get(number[1])
    assert logged.status == "finished" and logged.params["max_depth"] == "3"
    assert f"roc_auc    {logged.metrics['roc_auc']:.4f}" in said and logged.metrics["roc_auc"] > 0.98
    assert {item.context for item in logged.inputs} == {"train", "eval"}
    theirs = MlflowClient(running.url)
    curve = theirs.get_metric_history(number[1], "test-logloss")
    # MLflow's client tells the best round once more, one step behind the last.
    assert [point.step for point in curve] == [*range(int(logged.metrics["stopped_iteration"]) + 2)]
    assert "feature_importance_weight.png" in [file.path for file in theirs.list_artifacts(number[1])]
    (model,) = theirs.search_logged_models([logged.experiment_id])
    assert (model.source_run_id, str(model.status)) == (number[1], "READY")
    assert "model.ubj" in [file.path for file in theirs.list_logged_model_artifacts(model.model_id)]


def test_a_logged_model_is_loaded_packaged_released_and_answers_the_same(
    running: Server, data_plane: None, tmp_path: Path
) -> None:
    said = run("sklearn_log_load_serve.py", running, tmp_path)
    assert "loaded      143 rows, the same labels" in said
    assert "release     " in said and ": awaiting_approval" in said
    assert re.search(r"answered    20 rows, within \S+ of the model's own", said)
    with Client(running.url, home=tmp_path / "client") as client:
        (live,) = client.releases.at(datetime.now(UTC), endpoint="breast-tumours")
        assert (live.model, live.version, live.author_name) == ("breast-tumours", 2, "local")
        assert [decision.person_name for decision in live.approvals] == ["ravi"]
        assert client.models.get("breast-tumours", 2).tags["everline.packaged_from"] == "models:/breast-tumours/1"
