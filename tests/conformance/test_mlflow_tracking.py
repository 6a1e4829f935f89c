"""Experiments, runs and what is logged to them, as MLflow's own client sees them."""

from __future__ import annotations

import json
import math
import time

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import Model


def test_the_fluent_api_logs_a_run_and_reads_it_back(mlflow_client: MlflowClient, unique: str) -> None:
    mlflow.set_experiment(unique)
    with mlflow.start_run(run_name="first", tags={"team": "x"}) as active:
        mlflow.log_param("depth", 6)
        mlflow.log_params({"rate": 0.1, "kind": "hgb"})
        mlflow.log_metric("auc", 0.7, step=1)
        mlflow.log_metrics({"auc": 0.8, "loss": 0.3}, step=2)
        mlflow.set_tag("note", "ä ö – 漢字")
    run = mlflow.get_run(active.info.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    assert run.info.end_time >= run.info.start_time > 0
    assert run.data.params == {"depth": "6", "rate": "0.1", "kind": "hgb"}
    assert run.data.metrics == {"auc": 0.8, "loss": 0.3}
    assert run.data.tags["note"] == "ä ö – 漢字"
    assert run.data.tags["mlflow.runName"] == "first"
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert run.info.lifecycle_stage == "active"


def test_nested_runs_know_their_parent(mlflow_client: MlflowClient, unique: str) -> None:
    mlflow.set_experiment(unique)
    with mlflow.start_run() as parent, mlflow.start_run(nested=True) as child:
        pass
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    children = mlflow_client.search_runs(
        [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )
    assert [run.info.run_id for run in children] == [child.info.run_id]


def test_a_failing_script_leaves_a_failed_run(mlflow_client: MlflowClient, unique: str) -> None:
    mlflow.set_experiment(unique)
    with pytest.raises(ValueError, match="boom"), mlflow.start_run() as active:
        raise ValueError("boom")
    assert mlflow_client.get_run(active.info.run_id).info.status == "FAILED"


def test_the_default_experiment_is_zero(mlflow_client: MlflowClient) -> None:
    assert mlflow_client.get_experiment("0").name == "Default"
    assert mlflow_client.get_experiment_by_name("Default").experiment_id == "0"
    assert mlflow_client.create_run("0").info.experiment_id == "0"
    assert "0" in [item.experiment_id for item in mlflow_client.search_experiments()]


def test_experiments_live_and_die_and_come_back(mlflow_client: MlflowClient, unique: str) -> None:
    number = mlflow_client.create_experiment(unique, tags={"team": "x"})
    found = mlflow_client.get_experiment(number)
    assert (found.name, found.tags, found.lifecycle_stage) == (unique, {"team": "x"}, "active")
    assert found.artifact_location == f"mlflow-artifacts:/{number}"
    run = mlflow_client.create_run(number)
    mlflow_client.set_experiment_tag(number, "team", "y")
    mlflow_client.rename_experiment(number, unique + "-new")
    assert mlflow_client.get_experiment_by_name(unique) is None
    mlflow_client.delete_experiment(number)
    assert mlflow_client.get_experiment(number).lifecycle_stage == "deleted"
    assert mlflow_client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"
    mlflow_client.restore_experiment(number)
    restored = mlflow_client.get_experiment(number)
    assert (restored.lifecycle_stage, restored.tags, restored.name) == ("active", {"team": "y"}, unique + "-new")
    assert mlflow_client.get_run(run.info.run_id).info.lifecycle_stage == "active"


def test_experiments_are_searched_and_paged(mlflow_client: MlflowClient, unique: str) -> None:
    numbers = [mlflow_client.create_experiment(f"{unique}-{letter}", tags={"u": unique}) for letter in "abc"]
    found = mlflow_client.search_experiments(filter_string=f"name LIKE '{unique}%'", order_by=["name DESC"])
    assert [item.experiment_id for item in found] == numbers[::-1]
    page = mlflow_client.search_experiments(filter_string=f"tags.u = '{unique}'", order_by=["name"], max_results=2)
    rest = mlflow_client.search_experiments(
        filter_string=f"tags.u = '{unique}'", order_by=["name"], max_results=2, page_token=page.token
    )
    assert [item.experiment_id for item in [*page, *rest]] == numbers
    assert not rest.token
    mlflow_client.delete_experiment(numbers[0])
    gone = mlflow_client.search_experiments(view_type=ViewType.DELETED_ONLY, filter_string=f"tags.u = '{unique}'")
    assert [item.experiment_id for item in gone] == numbers[:1]


def test_a_tag_of_an_experiment_goes(mlflow_client: MlflowClient, unique: str) -> None:
    number = mlflow_client.create_experiment(unique, tags={"team": "x", "kept": "y"})
    mlflow_client.delete_experiment_tag(number, "team")
    assert mlflow_client.get_experiment(number).tags == {"kept": "y"}
    with pytest.raises(MlflowException, match="No tag with name") as caught:
        mlflow_client.delete_experiment_tag(number, "team")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_batches_are_all_or_nothing(mlflow_client: MlflowClient, experiment: str) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    now = int(time.time() * 1000)
    metrics = [Metric("loss", 1 / (step + 1), now + step, step) for step in range(700)]
    params = [Param(f"p{number}", str(number)) for number in range(100)]
    tags = [RunTag(f"t{number}", "x") for number in range(100)]
    mlflow_client.log_batch(uid, metrics=metrics, params=params, tags=tags)
    run = mlflow_client.get_run(uid)
    assert len(run.data.params) == 100
    assert run.data.metrics["loss"] == pytest.approx(1 / 700)
    with pytest.raises(MlflowException, match="not allowed"):
        mlflow_client.log_batch(uid, metrics=[Metric("other", 1, now, 0)], params=[Param("p0", "changed")])
    assert "other" not in mlflow_client.get_run(uid).data.metrics


def test_a_history_comes_back_whole_and_in_order(mlflow_client: MlflowClient, experiment: str) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    points = [Metric("loss", float(step), 1000 + step, step) for step in range(1000)]
    mlflow_client.log_batch(uid, metrics=points[::-1])
    mlflow_client.log_batch(uid, metrics=points[:10])
    history = mlflow_client.get_metric_history(uid, "loss")
    assert [(point.value, point.timestamp, point.step) for point in history] == [
        (point.value, point.timestamp, point.step) for point in points
    ]
    assert mlflow_client.get_metric_history(uid, "nothing") == []


def test_nan_and_infinities_are_kept_as_mlflow_keeps_them(mlflow_client: MlflowClient, experiment: str) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    for key, value in (("nan", math.nan), ("up", math.inf), ("down", -math.inf)):
        mlflow_client.log_metric(uid, key, value)
    metrics = mlflow_client.get_run(uid).data.metrics
    assert math.isnan(metrics["nan"])
    assert (metrics["up"], metrics["down"]) == (1.7976931348623157e308, -1.7976931348623157e308)
    assert math.isnan(mlflow_client.get_metric_history(uid, "nan")[0].value)


def test_a_parameter_never_changes(mlflow_client: MlflowClient, experiment: str) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    mlflow_client.log_param(uid, "depth", 6)
    mlflow_client.log_param(uid, "depth", 6)
    with pytest.raises(MlflowException, match="Changing param values is not allowed") as caught:
        mlflow_client.log_param(uid, "depth", 7)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert mlflow_client.get_run(uid).data.params == {"depth": "6"}


def test_tags_change_and_go(mlflow_client: MlflowClient, experiment: str) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    mlflow_client.set_tag(uid, "a", "1")
    mlflow_client.set_tag(uid, "a", "2")
    assert mlflow_client.get_run(uid).data.tags["a"] == "2"
    mlflow_client.delete_tag(uid, "a")
    assert "a" not in mlflow_client.get_run(uid).data.tags
    with pytest.raises(MlflowException, match="No tag with name") as caught:
        mlflow_client.delete_tag(uid, "a")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_renaming_by_tag_and_by_update_is_the_same(mlflow_client: MlflowClient, experiment: str) -> None:
    uid = mlflow_client.create_run(experiment, run_name="a").info.run_id
    mlflow_client.set_tag(uid, "mlflow.runName", "b")
    assert mlflow_client.get_run(uid).info.run_name == "b"
    mlflow_client.update_run(uid, status="KILLED", name="c")
    run = mlflow_client.get_run(uid)
    assert (run.info.run_name, run.data.tags["mlflow.runName"], run.info.status) == ("c", "c", "KILLED")


def test_a_deleted_run_takes_nothing_and_comes_back(mlflow_client: MlflowClient, experiment: str) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    mlflow_client.delete_run(uid)
    assert mlflow_client.get_run(uid).info.lifecycle_stage == "deleted"
    with pytest.raises(MlflowException, match="'active' state") as caught:
        mlflow_client.log_metric(uid, "a", 1)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert mlflow_client.search_runs([experiment]) == []
    assert len(mlflow_client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)) == 1
    mlflow_client.restore_run(uid)
    assert len(mlflow_client.search_runs([experiment])) == 1


def test_inputs_are_logged_and_searched(mlflow_client: MlflowClient, experiment: str) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    dataset = Dataset(name="flights", digest="abc", source_type="local", source="{}", schema="{}", profile=None)
    given = DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])
    mlflow_client.log_inputs(uid, [given, given])
    inputs = mlflow_client.get_run(uid).inputs.dataset_inputs
    assert [(item.dataset.name, item.dataset.digest, item.tags[0].value) for item in inputs] == [
        ("flights", "abc", "train")
    ]
    assert len(mlflow_client.search_runs([experiment], "dataset.context = 'train' AND dataset.name = 'flights'")) == 1
    assert mlflow_client.search_runs([experiment], "dataset.digest = 'other'") == []


def test_a_model_of_an_older_client_is_noted_on_its_run(mlflow_client: MlflowClient, experiment: str) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    for path in ("first", "second"):
        mlflow_client._record_logged_model(uid, Model(artifact_path=path, run_id=uid, flavors={"sklearn": {"a": "b"}}))
    noted = json.loads(mlflow_client.get_run(uid).data.tags["mlflow.log-model.history"])
    assert [(model["artifact_path"], model["run_id"], model["flavors"]) for model in noted] == [
        ("first", uid, {"sklearn": {"a": "b"}}),
        ("second", uid, {"sklearn": {"a": "b"}}),
    ]


def test_search_filters_orders_and_pages(mlflow_client: MlflowClient, experiment: str) -> None:
    for number in range(5):
        uid = mlflow_client.create_run(experiment, run_name=f"r{number}", start_time=number + 1).info.run_id
        mlflow_client.log_metric(uid, "auc", number / 10)
        mlflow_client.log_param(uid, "depth", number % 2)
        mlflow_client.set_tag(uid, "my.tag", "Odd" if number % 2 else "Even")

    def names(*args: object, **options: object) -> list[str]:
        return [run.info.run_name for run in mlflow_client.search_runs([experiment], *args, **options)]

    assert names() == ["r4", "r3", "r2", "r1", "r0"]
    assert names("metrics.auc >= 0.2", order_by=["metrics.auc ASC"]) == ["r2", "r3", "r4"]
    assert names("params.depth = '1'", order_by=["metrics.auc DESC"]) == ["r3", "r1"]
    assert names("tags.`my.tag` ILIKE 'odd'") == ["r3", "r1"]
    assert names("tags.`my.tag` LIKE 'odd'") == []
    assert names("attributes.status = 'RUNNING' AND attributes.start_time > 3") == ["r4", "r3"]
    page = mlflow_client.search_runs([experiment], order_by=["attributes.start_time ASC"], max_results=2)
    seen = [run.info.run_name for run in page]
    while page.token:
        page = mlflow_client.search_runs(
            [experiment], order_by=["attributes.start_time ASC"], max_results=2, page_token=page.token
        )
        seen += [run.info.run_name for run in page]
    assert seen == ["r0", "r1", "r2", "r3", "r4"]


@pytest.mark.parametrize(
    ("filter_string", "said"),
    [
        ("metrics.auc > 'x'", "numeric"),
        ("params.a = 1", "quoted"),
        ("nonsense", "not complete|Invalid"),
        ("tags.a = 'b' OR tags.c = 'd'", "Invalid clause"),
        ("attributes.colour = 'x'", "Invalid attribute key"),
        ("'; DROP TABLE run; --", "Invalid"),
        ("metrics.`a` > 1 AND " * 200 + "metrics.a > 1", "conditions"),
    ],
)
def test_a_wrong_filter_is_refused_with_a_reason(
    mlflow_client: MlflowClient, experiment: str, filter_string: str, said: str
) -> None:
    with pytest.raises(MlflowException, match=said) as caught:
        mlflow_client.search_runs([experiment], filter_string)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_what_does_not_exist_says_so(mlflow_client: MlflowClient) -> None:
    for call in (
        lambda: mlflow_client.get_run("0" * 32),
        lambda: mlflow_client.get_experiment("123456789"),
        lambda: mlflow_client.create_run("123456789"),
        lambda: mlflow_client.log_metric("0" * 32, "a", 1),
        lambda: mlflow_client.delete_run("0" * 32),
    ):
        with pytest.raises(MlflowException) as caught:
            call()
        assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
        assert caught.value.get_http_status_code() == 404


def test_a_taken_experiment_name_says_so(mlflow_client: MlflowClient, unique: str) -> None:
    mlflow_client.create_experiment(unique)
    with pytest.raises(MlflowException, match="already exists") as caught:
        mlflow_client.create_experiment(unique)
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"


def test_what_is_not_covered_says_so_in_mlflows_words(mlflow_client: MlflowClient) -> None:
    with pytest.raises(MlflowException, match="not supported") as caught:
        mlflow_client.get_trace("tr-1234")
    assert caught.value.error_code == "NOT_IMPLEMENTED"
