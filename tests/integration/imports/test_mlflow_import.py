"""A database that MLflow's own store wrote, and its artifact folder, come over whole, once, and to the bit."""

from __future__ import annotations

import json
import math
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import psycopg
import pytest
from click.testing import CliRunner
from mlflow.entities import (
    Dataset,
    DatasetInput,
    ExperimentTag,
    InputTag,
    LoggedModelOutput,
    LoggedModelParameter,
    LoggedModelTag,
    Metric,
    Param,
    RunStatus,
    RunTag,
)
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore

from everline.cli.app import run as everline
from everline.governance import audit
from everline.imports import mlflow as importing
from everline.models import registry
from everline.models.logged import service as logged
from everline.runs import artifacts, experiments, service, tracking
from tests_support import postgres


@dataclass
class Made:
    """A source and what is in it."""

    url: str
    folder: Path
    run: str
    deleted: str
    experiment: str
    model: str


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An MLflow database of either kind, with its artifact folder beside it; nobody writes to it afterwards."""
    folder = tmp_path_factory.mktemp("mlflow")
    url = f"sqlite:///{folder / 'mlflow.db'}"
    if request.param == "postgres":
        server: str = request.getfixturevalue("postgres_server")
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("CREATE DATABASE mlflow_source")
        url = postgres.database_url(server, "mlflow_source")
    store = TrackingStore(url.replace("postgresql://", "postgresql+psycopg://"), "mlflow-artifacts:/")
    kept = store.create_experiment("flights", tags=[ExperimentTag("team", "delay")])
    gone = store.create_experiment("old")
    run = store.create_run(kept, "maya", 1_700_000_000_000, [RunTag("mlflow.note.content", "ü")], "first").info.run_id
    store.log_batch(
        run,
        [Metric("auc", step / 1800, 1_700_000_000_000 + step, step) for step in range(900)]
        + [Metric("loss", value, 1_700_000_000_000, step) for step, value in enumerate((math.nan, math.inf, -1.5))],
        [Param("depth", "6")],
        [],
    )
    dataset = Dataset("flights", "abc", "local", '{"uri": "x"}', '{"columns": []}', '{"rows": 3}')
    store.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    model = store.create_logged_model(
        kept, "delay", run, [LoggedModelTag("a", "b")], [LoggedModelParameter("c", "d")], "classifier"
    )
    store.log_outputs(run, [LoggedModelOutput(model.model_id, 7)])
    store.log_batch(run, [Metric("f1", 0.5, 5, 1, model_id=model.model_id, run_id=run)], [], [])
    store.update_run_info(run, RunStatus.FINISHED, 1_700_000_001_000, None)
    deleted = store.create_run(kept, "otto", 5, [], "second").info.run_id
    store.delete_run(deleted)
    store.create_run(gone, "otto", 6, [], "third")
    store.delete_experiment(gone)
    versions = RegistryStore(url.replace("postgresql://", "postgresql+psycopg://"))
    versions.create_registered_model("delay", [RegisteredModelTag("x", "y")], "predicts delays")
    root = f"mlflow-artifacts:/{kept}/{run}/artifacts"
    versions.create_model_version("delay", f"{root}/model", run, [ModelVersionTag("p", "q")], description="one")
    mlflow.set_tracking_uri(str(store.engine.url.render_as_string(hide_password=False)))  # it asks there what this is
    versions.create_model_version("delay", f"models:/{model.model_id}", run)
    mlflow.set_tracking_uri("")
    versions.create_model_version("delay", f"{root}/model", run)
    versions.set_registered_model_alias("delay", "champion", "2")
    versions.transition_model_version_stage("delay", "1", "Production", False)
    versions.delete_model_version("delay", "3")
    for path, content in (
        (f"{kept}/{run}/artifacts/model/MLmodel", b"flavors: {}"),
        (f"{kept}/{run}/artifacts/notes/\u00fc.txt", b"hello"),
        (f"{kept}/{run}/artifacts/empty", b""),
        (f"{kept}/models/{model.model_id}/artifacts/MLmodel", b"flavors: {logged: {}}"),
    ):
        (folder / "artifacts" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "artifacts" / path).write_bytes(content)
    (folder / "artifacts" / f"{kept}/{run}/artifacts/link").symlink_to("/etc/passwd")
    store.engine.dispose()
    versions.engine.dispose()
    return Made(url, folder / "artifacts", run, deleted, kept, model.model_id)


def bring(made: Made, settings: Any, monkeypatch: pytest.MonkeyPatch, *options: str, exits: int = 0) -> dict[str, Any]:
    """Run the command as a person does; return what it says."""
    from everline.cli.app import cli

    monkeypatch.setenv("EVERLINE_DATABASE_URL", settings.database_url)
    arguments = ["import", "mlflow", made.url, "--home", str(settings.home), "--artifacts", str(made.folder)]
    result = CliRunner().invoke(cli, [*arguments, "--json", *options], standalone_mode=False)
    assert result.exception is None, result.exception
    assert result.return_value == exits, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    report["counts"] = {one["kind"]: (one["source"], one["imported"], one["here"]) for one in report["counts"]}
    return report


def test_everything_comes_over_once(made, app, begin, settings, monkeypatch):
    # A number that the source uses is taken here: that experiment gets another one.
    with begin() as uow:
        for name in ("mine", "mine too"):
            taken = experiments.create_experiment(uow, "default", name)
    assert int(taken.experiment) == int(made.experiment) + 1
    looked = bring(made, settings, monkeypatch, "--dry-run")
    assert (looked["dry_run"], looked["counts"]["runs"]) == (True, (3, 0, 0))
    report = bring(made, settings, monkeypatch)
    assert report["problems"] == []
    assert report["counts"] == {
        "experiments": (3, 2, 3), "runs": (3, 3, 3), "params": (1, 1, 1), "tags": (4, 4, 4), "inputs": (1, 1, 1),
        "outputs": (1, 1, 1), "metrics": (904, 904, 904), "artifacts": (4, 4, 4), "logged models": (1, 1, 1),
        "registered models": (1, 1, 1), "model versions": (2, 2, 2), "aliases": (1, 1, 1),
    }  # fmt: skip
    home = report["renumbered"][made.experiment]
    with begin() as uow:
        flights = experiments.get_experiment_by_name(uow, "default", "flights")
        assert (flights.experiment, flights.tags, flights.deleted) == (home, {"team": "delay"}, False)
        assert experiments.get_experiment_by_name(uow, "default", "old").deleted
        run = service.get_run(uow, "default", made.run)
        assert (run.name, run.user, run.status, run.params) == ("first", "maya", "finished", {"depth": "6"})
        assert (run.started_ms, run.ended_ms) == (1_700_000_000_000, 1_700_000_001_000)
        assert run.artifact_uri == f"mlflow-artifacts:/{home}/{made.run}/artifacts"
        assert run.tags["mlflow.note.content"] == "ü"
        latest = {point.key: (point.value, point.step) for point in run.latest}
        assert (latest["auc"], latest["loss"], latest["f1"]) == ((899 / 1800, 899), (-1.5, 2), (0.5, 1))
        points, _ = tracking.metric_history(uow, "default", made.run, "loss")
        assert math.isnan(points[0].value)
        assert [point.value for point in points[1:]] == [tracking.DOUBLE_MAX, -1.5]
        assert [(item.name, item.digest, item.context, item.source) for item in run.inputs] == [
            ("flights", "abc", "training", '{"uri": "x"}')
        ]
        assert [(item.name, item.facts) for item in run.outputs] == [(made.model, {"step": 7})]
        assert service.get_run(uow, "default", made.deleted).deleted
        files = {file.path: file.bytes for file in artifacts.all_files(uow, "default", f"{home}/{made.run}/artifacts")}
        assert files == {"empty": 0, "model/MLmodel": 11, "notes/ü.txt": 5}
        found = artifacts.get_artifact(uow, "default", made.run, "notes/ü.txt")
        assert app.blobs.get_bytes(found.digest) == b"hello"
        model = registry.get_model(uow, "default", "delay")
        assert (model.description, model.tags, model.aliases) == ("predicts delays", {"x": "y"}, {"champion": 2})
        listed, _ = registry.search_versions(uow, "default", order_by=["version_number ASC"])
        assert [(one.version, one.stage, one.description) for one in listed] == [
            (1, "Production", "one"),
            (2, "None", ""),
        ]
        assert listed[0].source == f"mlflow-artifacts:/{home}/{made.run}/artifacts/model"
        assert (listed[0].tags, listed[1].source) == ({"p": "q"}, f"models:/{made.model}")
        assert listed[1].storage == f"mlflow-artifacts:/{home}/models/{made.model}/artifacts"
        uri, inside = logged.list_artifacts(uow, "default", made.model)
        assert (uri, [file.path for file in inside]) == (
            f"mlflow-artifacts:/{home}/models/{made.model}/artifacts", ["MLmodel"]
        )  # fmt: skip
        event = audit.list_events(uow, project="default", limit=1)[0]
        assert (event.action, event.data["counts"][0]["source"]) == ("import.mlflow", 3)
        # What comes afterwards gets a number of its own, and the next version is not one that there was.
        assert int(experiments.create_experiment(uow, "default", "new").experiment) > int(home)


def test_an_import_goes_on_and_changes_nothing(made, app, begin, settings, monkeypatch):
    # It dies in the middle of the history of the first run, after its parameters.
    monkeypatch.setattr(importing, "POINTS_PER_TRANSACTION", 100)
    monkeypatch.setattr(importing.runs, "put_metrics", _dying(importing.runs.put_metrics, after=3))
    with pytest.raises(AssertionError, match="RuntimeError"):
        bring(made, settings, monkeypatch)
    monkeypatch.undo()
    first = bring(made, settings, monkeypatch)
    assert first["counts"]["runs"] == (3, 0, 3)
    assert first["counts"]["metrics"] == (904, 604, 904)
    with begin() as uow:
        before = service.get_run(uow, "default", made.run)
        tracking.log_batch(uow, "default", made.run, tags={"mlflow.note.content": "changed here"})
        later = service.get_run(uow, "default", made.run)
    again = bring(made, settings, monkeypatch)
    assert {new for _, new, _ in again["counts"].values()} == {0}
    with begin() as uow:
        assert service.get_run(uow, "default", made.run) == later
    assert before.params == later.params
    # A file that is another one by now, and one that cannot be read or named, are told by name.
    spoilt = made.folder / made.experiment / made.run / "artifacts" / "notes" / "ü.txt"
    spoilt.write_bytes(b"HELLO")
    wrong = made.folder / made.experiment / made.run / "artifacts" / "back\\slash"
    wrong.write_bytes(b"x")
    try:
        told = bring(made, settings, monkeypatch, exits=1)
    finally:
        spoilt.write_bytes(b"hello")
        wrong.unlink()
    assert told["problem_count"] == 2
    assert "ü.txt" in "".join(told["problems"]) and "slash" in "".join(told["problems"])


def _dying(put: Any, *, after: int) -> Any:
    calls = 0

    def dies(*arguments: Any, **named: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise RuntimeError("the power is gone")
        put(*arguments, **named)

    return dies


def test_what_is_no_source_is_explained(tmp_path, capsys):
    old, other = tmp_path / "old.db", tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE a (b)")
    with sqlite3.connect(old) as connection:
        connection.execute("CREATE TABLE experiments (experiment_id, name, artifact_location, lifecycle_stage)")
        connection.execute("CREATE TABLE runs (run_uuid)")
    (tmp_path / "text.db").write_text("no database at all, whatever its name says")
    for source, says in (
        (str(tmp_path / "missing.db"), "no database file"),
        (str(tmp_path), "migrate-filestore"),
        (str(other), "no tables `experiments`"),
        (str(old), "mlflow db upgrade"),
        (str(tmp_path / "text.db"), "cannot be read"),
        ("mysql://a/b", "'mysql' is not read"),
        ("postgresql://user:secret@127.0.0.1:1/x", "cannot be read"),
    ):
        assert everline(["import", "mlflow", source, "--home", str(tmp_path / "home")]) == 2
        error = capsys.readouterr().err
        assert says in error and "secret" not in error, error
    missing = ["--artifacts", str(tmp_path / "nowhere")]
    assert everline(["import", "mlflow", str(other), "--home", str(tmp_path / "home"), *missing]) == 2
    assert "no artifact folder" in capsys.readouterr().err
