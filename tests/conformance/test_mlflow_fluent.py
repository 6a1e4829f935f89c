"""What training scripts and notebooks write: MLflow's fluent API, with everything that it logs by itself."""

from __future__ import annotations

import math

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException


@pytest.fixture(autouse=True)
def _in_an_experiment(mlflow_client: MlflowClient, unique: str) -> None:
    mlflow.set_experiment(unique)


def test_runs_come_as_a_frame_with_what_each_of_them_has() -> None:
    with mlflow.start_run(run_name="parent") as parent:
        mlflow.log_params({"depth": 3, "rate": 0.1, "names": ["a", "b"], "none": None})
        mlflow.log_metric("loss", 0.5)
        with mlflow.start_run(run_name="child", nested=True) as child:
            mlflow.log_metrics({"loss": 0.25, "auc": float("nan")})
            mlflow.set_tags({"team": "x", "of/whom": "me"})
    frame = mlflow.search_runs(order_by=["metrics.loss ASC"])
    assert list(frame["run_id"]) == [child.info.run_id, parent.info.run_id]
    assert list(frame["metrics.loss"]) == [0.25, 0.5]
    assert frame["metrics.auc"].isna().all()
    assert list(frame["params.names"].fillna("")) == ["", "['a', 'b']"]
    assert list(frame["tags.of/whom"].fillna("")) == ["me", ""]
    assert list(frame["tags.mlflow.parentRunId"].fillna("")) == [parent.info.run_id, ""]
    assert str(frame["start_time"].dtype).endswith("UTC]") and (frame["end_time"] >= frame["start_time"]).all()
    query = f"tags.mlflow.parentRunId = '{parent.info.run_id}' and attributes.status = 'FINISHED'"
    assert [run.info.run_id for run in mlflow.search_runs(filter_string=query, output_format="list")] == [
        child.info.run_id
    ]
    assert mlflow.search_runs(filter_string="metrics.loss > 9").empty
    assert mlflow.last_active_run().info.run_id == parent.info.run_id  # it ended last


def test_a_run_is_taken_up_again_and_goes_on(mlflow_client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with mlflow.start_run(description="the *first*") as first:
        mlflow.log_metric("loss", 1.0, step=1)
    with mlflow.start_run(run_id=first.info.run_id):
        mlflow.log_metric("loss", 0.5, step=2)
        assert mlflow_client.get_run(first.info.run_id).info.status == "RUNNING"
    monkeypatch.setenv("MLFLOW_RUN_ID", first.info.run_id)
    with mlflow.start_run() as again:
        mlflow.log_metric("loss", 0.25, step=3)
    assert again.info.run_id == first.info.run_id
    found = mlflow_client.get_run(first.info.run_id)
    assert (found.info.status, found.data.metrics, found.data.tags["mlflow.note.content"]) == (
        "FINISHED",
        {"loss": 0.25},
        "the *first*",
    )
    assert [point.value for point in mlflow_client.get_metric_history(first.info.run_id, "loss")] == [1.0, 0.5, 0.25]
    mlflow.delete_run(first.info.run_id)
    with pytest.raises(MlflowException, match=f"Cannot start run with ID {first.info.run_id} because it is in the"):
        mlflow.start_run(run_id=first.info.run_id)


def test_logging_without_waiting_loses_nothing(mlflow_client: MlflowClient) -> None:
    with mlflow.start_run() as run:
        futures = [mlflow.log_metric("loss", 1 / step, step=step, synchronous=False) for step in range(1, 301)]
        mlflow.log_params({"a": 1, "b": 2}, synchronous=False).wait()
        mlflow.set_tag("later", "yes", synchronous=False)
        mlflow.flush_async_logging()
        for future in futures:
            future.wait()
    history = mlflow_client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, 1 / step) for step in range(1, 301)]
    found = mlflow_client.get_run(run.info.run_id).data
    assert (found.params, found.tags["later"]) == ({"a": "1", "b": "2"}, "yes")


def test_tables_pictures_and_datasets_are_logged_and_read_back(mlflow_client: MlflowClient) -> None:
    table = pd.DataFrame({"question": ["a", "b"], "score": [0.5, math.inf]})
    data = mlflow.data.from_pandas(pd.DataFrame({"x": [1.0, 2.0], "y": [0, 1]}), source="s3://b/x.csv", targets="y")
    with mlflow.start_run() as run:
        mlflow.log_table(table, "answers.json")
        mlflow.log_table(table.head(1), "answers.json")  # adds to what is there
        mlflow.log_image(np.zeros((8, 8, 3), dtype=np.uint8), "black.png")
        mlflow.log_image(np.zeros((8, 8, 3), dtype=np.uint8), key="steps", step=3)
        mlflow.log_dict({"a": [1, {"b": None}]}, "nested/a.json")
        mlflow.log_text("hello\n", "hello.txt")
        mlflow.log_input(data, context="training", tags={"kind": "toy"})
    uid = run.info.run_id
    assert list(mlflow.load_table("answers.json", run_ids=[uid])["question"]) == ["a", "b", "a"]
    assert mlflow.artifacts.load_image(f"{run.info.artifact_uri}/black.png").size == (8, 8)
    assert mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/nested/a.json") == {"a": [1, {"b": None}]}
    assert mlflow.artifacts.load_text(f"runs:/{uid}/hello.txt") == "hello\n"
    assert {file.path for file in mlflow_client.list_artifacts(uid)} == {
        *("answers.json", "black.png", "hello.txt", "images", "nested"),
    }
    logged = mlflow_client.get_run(uid).inputs.dataset_inputs[0]
    assert (logged.dataset.name, logged.dataset.digest, logged.dataset.source_type) == ("dataset", data.digest, "s3")
    assert {tag.key: tag.value for tag in logged.tags} == {"kind": "toy", "mlflow.data.context": "training"}
    assert mlflow.data.get_source(logged.dataset).uri == "s3://b/x.csv"


def test_a_deleted_experiment_takes_no_runs_and_says_how_to_get_it_back(
    mlflow_client: MlflowClient, unique: str
) -> None:
    found = mlflow.get_experiment_by_name(unique)
    mlflow.delete_experiment(found.experiment_id)
    with pytest.raises(MlflowException, match="Cannot set a deleted experiment"):
        mlflow.set_experiment(unique)
    with pytest.raises(MlflowException) as caught:
        mlflow_client.create_run(found.experiment_id)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE" and "deleted" in caught.value.message
    mlflow_client.restore_experiment(found.experiment_id)
    assert mlflow.set_experiment(unique).experiment_id == found.experiment_id
    with mlflow.start_run() as run:
        assert mlflow.get_parent_run(run.info.run_id) is None
    assert [one.name for one in mlflow.search_experiments(filter_string=f"name = '{unique}'")] == [unique]
