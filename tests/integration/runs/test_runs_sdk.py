"""Runs through the client, `everline.run()` and the command line."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from everline.cli import app as cli
from everline.errors import InvalidInputError, NotFoundError
from everline.runs.types import Metric, RunInput, RunOutput, RunStatus
from everline.sdk.client import Client
from everline.sdk.logging import starting as sdk


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one source file, to work in."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text("print(1)\n")
    monkeypatch.chdir(folder)
    return folder


def test_the_client_logs_a_run_and_reads_it_back(client: Client, tmp_path: Path) -> None:
    run = client.runs.create(experiment="e", name="n", params={"depth": 6}, tags={"a": True}).run
    client.runs.log_batch(
        run,
        metrics=[Metric(key="loss", value=math.nan, at_ms=1), Metric(key="auc", value=0.7, at_ms=1, step=3)],
        inputs=[RunInput(name="flights", digest="sha256:a", version=1)],
        outputs=[RunOutput(name="model", kind="model", digest="sha256:b", facts={"rows": 3})],
    )
    client.runs.log_batch(run, metrics={"brier": 0.1})
    (tmp_path / "a.txt").write_text("hello")
    client.runs.log_artifact(run, tmp_path / "a.txt", path="notes/a.txt")
    finished = client.runs.finish(run)
    assert finished.status is RunStatus.FINISHED
    assert finished.metrics == {"auc": 0.7, "brier": 0.1, "loss": None}
    assert client.runs.get(run) == finished
    assert [item.path for item in client.runs.artifacts(run)] == ["notes"]
    assert client.runs.artifact(run, "notes/a.txt") == b"hello"
    assert client.runs.history(run, "auc").values == [0.7]
    assert client.runs.history(run, "loss").values == [None]
    assert [found.run for found in client.runs.list(experiment="e", status="finished")] == [run]
    assert [found.run for found in client.runs.search("metrics.auc > 0.5", experiments=["e"])] == [run]
    assert [found.name for found in client.runs.experiments()] == ["e"]


def test_a_comparison_shows_code_and_environment(client: Client) -> None:
    runs = []
    for commit in ("abc", "def"):
        run = client.runs.create(params={"depth": 6}).run
        client.runs.set_record(
            run, {"entry": "m:p", "code": {"digest": commit, "commit": commit}, "environment": {"python": "3.12"}}
        )
        runs.append(run)
    compared = client.runs.compare(runs)
    assert {line.key for line in compared.code if line.differs} == {"code", "commit"}
    assert [line.values for line in compared.environment] == [["3.12", "3.12"]]
    assert client.runs.record(runs[0])["entry"] == "m:p"


def test_everline_run_buffers_and_sends_everything(client: Client, project: Path) -> None:
    with sdk.run(experiment="e", params={"depth": 6}, client=client) as run:
        for step in range(2_500):
            run.log_metric("loss", 1 / (step + 1))
        run.log_params({f"p{number}": number for number in range(150)})
        run.set_tag("team", "x")
        run.log_table(pa.table({"a": [1, 2]}), path="table.parquet")
        run.log_text("hello", path="note.txt")
        run.log_input("flights", "sha256:a", version=1)
    found = client.runs.get(run.run)
    history = client.runs.history(run.run, "loss")
    assert found.status is RunStatus.FINISHED
    assert history.steps == sorted(history.steps) and len(history.steps) == 2_500
    assert len(found.params) == 151 and found.tags["team"] == "x"
    assert found.record is not None
    assert "train.py" in json.dumps(client.runs.record(run.run))
    assert {item.path for item in client.runs.artifacts(run.run)} == {"table.parquet", "note.txt"}


def test_a_failing_block_leaves_a_failed_run_with_its_values(client: Client, project: Path) -> None:
    with pytest.raises(ValueError, match="boom"), sdk.run(client=client, record=False) as run:
        run.log_metric("loss", 1.0)
        raise ValueError("boom")
    found = client.runs.get(run.run)
    assert (found.status, found.metrics) == (RunStatus.FAILED, {"loss": 1.0})


def test_what_the_server_refuses_is_raised_and_the_rest_is_kept(client: Client, project: Path) -> None:
    with (
        pytest.raises(InvalidInputError, match="not allowed"),
        sdk.run(client=client, params={"depth": 6}, record=False) as run,
    ):
        run.log_param("depth", 7)
        run.flush()
    assert client.runs.get(run.run).params == {"depth": "6"}
    assert client.runs.get(run.run).status is RunStatus.FAILED


def test_a_script_that_ends_without_finish_loses_nothing(client: Client, project: Path) -> None:
    script = (
        "import everline as el\n"
        "run = el.run(experiment='script', record=False)\n"
        "for step in range(300): run.log_metric('loss', float(step), step=step)\n"
        "print(run.run)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=_environment(client),
        cwd=project,
    )
    assert len(client.runs.history(done.stdout.strip(), "loss").steps) == 300


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a//b", "a\\b", "", "C:/x", "a/./b", "s3://b/k", "a\x00b"])
def test_path_tricks_in_artifacts_are_refused(client: Client, path: str) -> None:
    run = client.runs.create().run
    with pytest.raises(InvalidInputError) as caught:
        client.runs.log_bytes(run, b"x", path=path)
    assert caught.value.field == "path"


@pytest.mark.parametrize("run", ["0" * 32, "x", "..%2f..", "a" * 400])
def test_an_unknown_run_is_not_found(client: Client, run: str) -> None:
    with pytest.raises((NotFoundError, InvalidInputError)):
        client.runs.get(run)


@pytest.mark.parametrize(
    "body",
    [
        {"metrics": [{"key": "a", "value": "x", "at_ms": 1}]},
        {"metrics": [{"key": "a", "at_ms": 1}]},
        {"params": {"a": 1}},
        {"surprise": 1},
        {"params": {"p": "x" * 6001}},
        {"tags": {"../t": "x"}},
    ],
)
def test_a_wrong_batch_names_the_field(client: Client, body: dict[str, Any]) -> None:
    run = client.runs.create().run
    with pytest.raises(InvalidInputError) as caught:
        client.call("POST", f"/runs/{run}/batch", body=body)
    assert caught.value.message


def test_the_command_line_lists_shows_and_compares(
    client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        client.runs.create(experiment="e", name=f"r{depth}", pipeline="m:p", params={"depth": depth}).run
        for depth in (6, 7)
    ]
    client.runs.finish(runs[0])
    monkeypatch.setenv("EVERLINE_HOME", str(client.settings.home))
    assert cli.run(["runs", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(item["run"], item["experiment"], item["pipeline"], item["status"]) for item in listed] == [
        (runs[1], "e", "m:p", "running"),
        (runs[0], "e", "m:p", "finished"),
    ]
    assert cli.run(["runs", "list", "--filter", "params.depth = '7'"]) == 0
    assert "r7" in (out := capsys.readouterr().out) and "r6" not in out
    assert cli.run(["runs", "show", runs[0]]) == 0
    assert "depth" in capsys.readouterr().out
    assert cli.run(["runs", "compare", *runs]) == 0
    assert "params" in capsys.readouterr().out
    assert cli.run(["runs", "show", "0" * 32]) == 2
    assert "not found" in capsys.readouterr().err


def _environment(client: Client) -> dict[str, str]:
    import os

    return {**os.environ, "EVERLINE_HOME": str(client.settings.home)}
