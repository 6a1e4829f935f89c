"""A run in a Jupyter kernel records the cells that were executed, in their order, and they are run again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import nbformat
import pytest
from mlflow import MlflowClient
from nbclient import NotebookClient

from conftest import Server
from everline.reproduction.types import Cause, Verdict
from everline.sdk.client import Client

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def notebook(*cells: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


def test_the_executed_cells_are_recorded_and_run_again_in_order(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project" / "work"
    folder.mkdir(parents=True)
    (tmp_path / "project" / "everline.toml").write_text("")
    (folder / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.setenv("EVERLINE_HOME", str(client.settings.home.absolute()))
    monkeypatch.setenv("JPY_SESSION_NAME", "work/analysis.ipynb")
    cells = ["import everline as el\nfrom helper import double", "value = 1", "raise ValueError('tried')",
             "%time value = double(value)", "run = el.run(params={'kind': 'notebook'})",
             "run.log_metric('value', value)", "run.finish()", "value = 'later, and no part of the run'"]  # fmt: skip
    kernel = NotebookClient(notebook(*cells), kernel_name="python3", allow_errors=True, timeout=120,
                            resources={"metadata": {"path": str(folder)}})  # fmt: skip
    with kernel.setup_kernel():
        # A person runs a cell twice and leaves one out: what ran counts, not what the notebook shows.
        for number in (0, 1, 2, 3, 3, 4, 5, 6, 7):
            kernel.execute_cell(kernel.nb.cells[number], number)
    made = client.runs.list()[0].run
    record = client.runs.record(made)
    assert (record["entry"], record["folder"], record["argv"]) == ("work/analysis.executed.ipynb", "work", [])
    files = {file["path"]: file["digest"] for file in record["code"]["files"]}
    assert {"work/helper.py", "work/analysis.executed.ipynb"} <= files.keys()
    executed = nbformat.reads(client.blobs.get_bytes(files["work/analysis.executed.ipynb"]).decode(), as_version=4)
    nbformat.validate(executed)
    assert [cell.source for cell in executed.cells] == [cells[n] for n in (0, 1, 2, 3, 3, 4, 5, 6)]
    assert client.runs.get(made).metrics == {"value": 4.0}

    report = client.reproduction.reproduce(made)
    assert (report.level, report.verdict) == ("L5", Verdict.IDENTICAL), report.reason
    assert client.runs.get(report.rebuilds[0]).metrics == {"value": 4.0}


@pytest.mark.drill
def test_a_notebook_of_the_mlflow_client_is_run_from_its_commit(
    client: Client, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "repository"
    (root / "books").mkdir(parents=True)
    logging = "with mlflow.start_run():\n    mlflow.log_metric('loss', half(1))"
    cells = notebook("import mlflow", "def half(x):\n    return x / 2", logging)
    (root / "books" / "try.ipynb").write_text(nbformat.writes(cells))
    for command in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "A notebook")):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", root, *identity, *command], check=True)
    commit = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    monkeypatch.chdir(root)
    mlflow = MlflowClient(server.url)

    def recorded(name: str, loss: float) -> str:
        said = {"source.name": name, "source.type": "NOTEBOOK", "source.git.commit": commit.strip()}
        made = mlflow.create_run("0", tags={f"mlflow.{key}": value for key, value in said.items()}).info.run_id
        mlflow.log_metric(made, "loss", loss)
        mlflow.set_terminated(made)
        return str(made)

    report = client.reproduction.reproduce(recorded("books/try.ipynb", 0.5))
    assert (report.level, report.verdict) == ("L0", Verdict.IDENTICAL), report.reason
    assert "the order in which its cells were run" in report.not_recorded
    report = client.reproduction.reproduce(recorded("books/gone.ipynb", 0.5))
    assert (report.level, report.first_difference.cause) == (None, Cause.CODE)

    broken = json.loads((root / "books" / "try.ipynb").read_text())
    broken["cells"][1]["source"] = "def half(x):\n    raise ArithmeticError('odd')"
    (tmp_path / "code" / "books").mkdir(parents=True)
    (tmp_path / "code" / "books" / "try.ipynb").write_text(json.dumps(broken))
    from everline.sdk.pipeline_commands import Changes

    report = client.reproduction.reproduce(recorded("try.ipynb", 0.5), changes=Changes(code=tmp_path / "code"))
    assert report.verdict is Verdict.DIVERGED and report.certificate is None
    assert "cell 3 of 3 raised" in report.reason and "ArithmeticError: odd" in report.reason
