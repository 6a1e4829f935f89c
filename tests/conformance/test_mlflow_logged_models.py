"""Logged models, as MLflow's own client sees them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import httpx
import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelInput, LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException

from conftest import Server

NOW = 1_700_000_000_000


def point(key: str, value: float, model: str, *, step: int = 0, on: str | None = None) -> Metric:
    """A metric of a logged model, measured on the dataset `on`."""
    return Metric(key, value, NOW + step, step, model_id=model, dataset_name=on, dataset_digest=on and f"d-{on}")


def test_a_logged_model_is_made_described_finished_and_hidden(mlflow_client: MlflowClient, experiment: str) -> None:
    run = mlflow_client.create_run(experiment).info.run_id
    made = mlflow_client.create_logged_model(
        experiment, name="trees", source_run_id=run, tags={"a": "1"}, params={"depth": "6"}, model_type="classifier"
    )
    assert made.model_id.startswith("m-") and len(made.model_id) == 34
    assert (made.status, made.model_type, made.source_run_id) == (LoggedModelStatus.PENDING, "classifier", run)
    assert made.artifact_location == f"mlflow-artifacts:/{experiment}/models/{made.model_id}/artifacts"
    mlflow_client.log_model_params(made.model_id, {f"p{number}": "x" for number in range(150)})
    mlflow_client.set_logged_model_tags(made.model_id, {"a": "2", "of/team": "x"})
    mlflow_client.delete_logged_model_tag(made.model_id, "of/team")
    assert mlflow_client.finalize_logged_model(made.model_id, LoggedModelStatus.READY).status == "READY"
    found = mlflow_client.get_logged_model(made.model_id)
    assert (found.name, found.tags, len(found.params), found.params["depth"]) == ("trees", {"a": "2"}, 151, "6")
    assert found.last_updated_timestamp >= found.creation_timestamp == made.creation_timestamp
    mlflow_client.delete_logged_model(made.model_id)
    with pytest.raises(MlflowException, match=f"Logged model with ID '{made.model_id}' not found") as caught:
        mlflow_client.get_logged_model(made.model_id)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert mlflow_client.search_logged_models([experiment]) == []
    store = mlflow_client._tracking_client.store
    assert store.get_logged_model(made.model_id, allow_deleted=True).model_id == made.model_id


def test_wrong_logged_models_are_refused_in_mlflows_words(mlflow_client: MlflowClient, experiment: str) -> None:
    made = mlflow_client.create_logged_model(experiment, params={"a": "1"})
    assert made.name
    run = mlflow_client.create_run(experiment).info.run_id
    mlflow_client.log_model_params(made.model_id, {"a": "1"})
    refusals = (
        (lambda: mlflow_client.create_logged_model(experiment, name="a/b"), "INVALID_PARAMETER_VALUE"),
        (lambda: mlflow_client.create_logged_model("999999999"), "RESOURCE_DOES_NOT_EXIST"),
        (lambda: mlflow_client.log_model_params(made.model_id, {"a": "2"}), "INVALID_PARAMETER_VALUE"),
        (lambda: mlflow_client.delete_logged_model_tag(made.model_id, "none"), "RESOURCE_DOES_NOT_EXIST"),
        (lambda: mlflow_client.delete_logged_model("m-0"), "RESOURCE_DOES_NOT_EXIST"),
        (lambda: mlflow_client.finalize_logged_model("m-0", "READY"), "RESOURCE_DOES_NOT_EXIST"),
        (lambda: mlflow_client.search_logged_models([experiment], "runs.a = 1"), "INVALID_PARAMETER_VALUE"),
        (lambda: mlflow_client.search_logged_models([experiment], "params.a > '1'"), "INVALID_PARAMETER_VALUE"),
        (lambda: mlflow_client.search_logged_models([experiment], "status = 'x'"), "INVALID_PARAMETER_VALUE"),
        (
            lambda: mlflow_client.search_logged_models([experiment], order_by=[{"field_name": "params.a"}]),
            "INVALID_PARAMETER_VALUE",
        ),
        (
            lambda: mlflow_client.search_logged_models([experiment], order_by=[{"field_name": "nothing"}]),
            "INVALID_PARAMETER_VALUE",
        ),
        (lambda: mlflow_client.search_logged_models([experiment], page_token="nonsense"), "INVALID_PARAMETER_VALUE"),
        (
            lambda: mlflow_client.log_batch(run, metrics=[point("loss", 1.0, "m-0"), Metric("kept", 1.0, NOW, 0)]),
            "RESOURCE_DOES_NOT_EXIST",
        ),
    )
    for refused, code in refusals:
        with pytest.raises(MlflowException) as caught:
            refused()
        assert caught.value.error_code == code
    assert mlflow_client.get_run(run).data.metrics == {}  # a batch with an unknown model is refused whole


def test_metrics_of_a_logged_model_are_its_runs_metrics_too(mlflow_client: MlflowClient, experiment: str) -> None:
    run = mlflow_client.create_run(experiment).info.run_id
    model = mlflow_client.create_logged_model(experiment, source_run_id=run).model_id
    mlflow_client.log_metric(run, "loss", 0.5, step=1, timestamp=NOW, model_id=model)
    batch = [point("auc", 0.8, model, on="train"), point("auc", 0.7, model, step=1, on="test")]
    mlflow_client.log_batch(
        run, metrics=[*batch, batch[0], Metric("plain", 1.0, NOW, 0), point("bad", math.nan, model)]
    )
    metrics = mlflow_client.get_logged_model(model).metrics
    found = [(one.key, one.step, one.dataset_name, one.dataset_digest, one.run_id) for one in metrics]
    assert found == [
        ("auc", 0, "train", "d-train", run),
        ("auc", 1, "test", "d-test", run),
        ("bad", 0, None, None, run),
        ("loss", 1, None, None, run),
    ]
    assert {one.model_id for one in metrics} == {model} and math.isnan(metrics[2].value)
    assert {**mlflow_client.get_run(run).data.metrics, "bad": 0} == {"auc": 0.7, "loss": 0.5, "plain": 1.0, "bad": 0}


def test_runs_name_the_models_they_read_and_made(mlflow_client: MlflowClient, experiment: str) -> None:
    run = mlflow_client.create_run(experiment).info.run_id
    read, made = (mlflow_client.create_logged_model(experiment).model_id for _ in range(2))
    mlflow_client.log_outputs(run, [LoggedModelOutput(made, 3)])
    mlflow_client.log_inputs(run, models=[LoggedModelInput(read)])
    for found in (mlflow_client.get_run(run), mlflow_client.search_runs([experiment])[0]):
        assert [(one.model_id, one.step) for one in found.outputs.model_outputs] == [(made, 3)]
        assert [one.model_id for one in found.inputs.model_inputs] == [read]
        assert found.inputs.dataset_inputs == []


def test_logged_models_are_searched_ordered_and_paged(mlflow_client: MlflowClient, experiment: str) -> None:
    run = mlflow_client.create_run(experiment).info.run_id
    models = [
        mlflow_client.create_logged_model(
            experiment, name=f"n{number}", params={"depth": str(number)}, tags={"team": "x"}, model_type="tree"
        ).model_id
        for number in range(4)
    ]
    mlflow_client.finalize_logged_model(models[0], "FAILED")
    values = zip(models[:3], (0.9, 0.7, 0.8), strict=True)
    mlflow_client.log_batch(run, metrics=[point("auc", value, model, on="test") for model, value in values])
    mlflow_client.log_batch(run, metrics=[point("auc", 0.1, models[2], step=5, on="train")])

    def found(filter_string: str | None = None, **search: object) -> list[str]:
        answer = mlflow_client.search_logged_models([experiment], filter_string, **search)
        return [model.name for model in answer]

    assert found() == ["n3", "n2", "n1", "n0"] or sorted(found()) == ["n0", "n1", "n2", "n3"]
    assert found("params.depth = '2' AND tags.team LIKE 'x%'") == ["n2"]
    assert found("params.depth = 3") == ["n3"]
    assert sorted(found("params.depth IN ('0', '1') AND attributes.model_type = 'tree'")) == ["n0", "n1"]
    assert found("status = 'FAILED'") == ["n0"]
    assert found("metrics.auc > 0.75") == ["n0"]  # the newest value of n2 is 0.1
    test = [{"dataset_name": "test", "dataset_digest": "d-test"}]
    assert sorted(found("metrics.auc > 0.75", datasets=test)) == ["n0", "n2"]
    assert sorted(found(datasets=[{"dataset_name": "train"}])) == ["n2"]
    by_auc = [{"field_name": "metrics.auc", "ascending": False, "dataset_name": "test", "dataset_digest": "d-test"}]
    assert found(order_by=by_auc) == ["n0", "n2", "n1", "n3"]
    by_digest = [{"field_name": "metrics.auc", "ascending": False, "dataset_digest": "d-test"}]
    assert found(order_by=by_digest) == ["n0", "n2", "n1", "n3"]
    assert found(order_by=[{"field_name": "metrics.auc"}, {"field_name": "name"}]) == ["n2", "n1", "n0", "n3"]
    by_name = [{"field_name": "name", "ascending": True}]
    first = mlflow_client.search_logged_models([experiment], order_by=by_name, max_results=3)
    rest = mlflow_client.search_logged_models([experiment], order_by=by_name, max_results=3, page_token=first.token)
    assert [model.name for model in [*first, *rest]] == ["n0", "n1", "n2", "n3"] and not rest.token
    with pytest.raises(MlflowException, match="Filter string in the page token does not match"):
        mlflow_client.search_logged_models([experiment], "name = 'x'", order_by=by_name, page_token=first.token)
    page = mlflow_client.search_logged_models([experiment], order_by=by_auc, max_results=1)
    for other in ({"dataset_name": "train"}, {"dataset_digest": "d-train"}):
        with pytest.raises(MlflowException, match="Order by in the page token does not match"):
            order_by = [{**by_auc[0], **other}]
            mlflow_client.search_logged_models([experiment], order_by=order_by, page_token=page.token)


def test_files_of_a_logged_model_go_up_and_come_back(
    mlflow_client: MlflowClient, mlflow_server: Server, experiment: str, tmp_path: Path
) -> None:
    model = mlflow_client.create_logged_model(experiment)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "weights.txt").write_text("weights")
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    mlflow_client.log_model_artifacts(model.model_id, str(tmp_path))
    mlflow_client.finalize_logged_model(model.model_id, "READY")
    listed = mlflow_client.list_logged_model_artifacts(model.model_id)
    assert [(one.path, one.is_dir, one.file_size) for one in listed] == [("MLmodel", False, 12), ("data", True, None)]
    inside = mlflow_client.list_logged_model_artifacts(model.model_id, "data")
    assert [one.path for one in inside] == ["data/weights.txt"]
    address = f"{mlflow_server.url}/api/2.0/mlflow/logged-models/{model.model_id}/artifacts/directories"
    by_model = httpx.get(address, params={"artifact_directory_path": "data"}).json()
    assert by_model["files"] == [{"path": "data/weights.txt", "is_dir": False, "file_size": 7}]
    for path in ("../x", "/etc", "%2e%2e", "data/%252e%252e/x"):
        refused = httpx.get(address, params={"artifact_directory_path": path})
        assert (refused.status_code, refused.json().get("error_code")) == (400, "INVALID_PARAMETER_VALUE"), path
    fetched = mlflow.artifacts.download_artifacts(f"models:/{model.model_id}", dst_path=str(tmp_path / "back"))
    assert open(f"{fetched}/data/weights.txt").read() == "weights"  # noqa: PTH123, SIM115


def test_datasets_of_experiments_are_named_once(
    mlflow_client: MlflowClient, mlflow_server: Server, experiment: str
) -> None:
    source = {"source_type": "code", "source": "x"}
    for context in ("train", "train", "test"):
        run = mlflow_client.create_run(experiment).info.run_id
        dataset = {"name": "flights", "digest": "d", **source}
        item = {"dataset": dataset, "tags": [{"key": "mlflow.data.context", "value": context}]}
        body = {"run_id": run, "datasets": [item], "models": [{"model_id": "m-1"}]}
        assert httpx.post(f"{mlflow_server.url}/api/2.0/mlflow/runs/log-inputs", json=body).status_code == 200
    address = f"{mlflow_server.url}/ajax-api/2.0/mlflow/experiments/search-datasets"
    found = httpx.post(address, json={"experiment_ids": [experiment]}).json()
    each = {"experiment_id": experiment, "name": "flights", "digest": "d"}
    assert found == {"dataset_summaries": [{**each, "context": "test"}, {**each, "context": "train"}]}
    for wrong in ([], ["1"] * 21):
        answer = httpx.post(address, json={"experiment_ids": wrong})
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_a_version_of_a_logged_model_knows_it_and_is_noted_on_it(
    mlflow_client: MlflowClient, mlflow_server: Server, experiment: str, unique: str, tmp_path: Path
) -> None:
    run = mlflow_client.create_run(experiment).info.run_id
    model = mlflow_client.create_logged_model(experiment, source_run_id=run)
    (tmp_path / "MLmodel").write_text("flavors: {}")
    mlflow_client.log_model_artifacts(model.model_id, str(tmp_path))
    mlflow_client.create_registered_model(unique)
    body = {"name": unique, "source": f"models:/{model.model_id}", "model_id": model.model_id}
    address = f"{mlflow_server.url}/api/2.0/mlflow/model-versions/create"
    made = httpx.post(address, json=body).json()["model_version"]
    assert (made["source"], made["run_id"], made["model_id"]) == (body["source"], run, model.model_id)
    assert mlflow_client.get_model_version_download_uri(unique, "1") == model.artifact_location
    noted = mlflow_client.get_logged_model(model.model_id).tags["mlflow.modelVersions"]
    assert json.loads(noted) == [{"name": unique, "version": 1}]
    by_place = httpx.post(address, json=body | {"source": model.artifact_location}).json()["model_version"]
    assert (by_place["version"], by_place["run_id"], by_place["model_id"]) == ("2", run, model.model_id)
    copy = mlflow_client.copy_model_version(f"models:/{unique}/1", f"{unique}-copy")
    assert (copy.run_id, copy.source) == (run, f"models:/{unique}/1")
    other = mlflow_client.create_logged_model(experiment)
    for wrong, code in (
        ({"model_id": other.model_id}, "INVALID_PARAMETER_VALUE"),
        ({"model_id": None}, "INVALID_PARAMETER_VALUE"),
        ({"source": other.artifact_location}, "INVALID_PARAMETER_VALUE"),
        ({"source": f"{model.artifact_location}/../x"}, "INVALID_PARAMETER_VALUE"),
        ({"source": "/etc"}, "INVALID_PARAMETER_VALUE"),
        ({"source": f"runs:/{run}/model"}, "INVALID_PARAMETER_VALUE"),
        ({"source": "models:/m-" + "0" * 32, "model_id": "m-" + "0" * 32}, "RESOURCE_DOES_NOT_EXIST"),
        ({"source": f"models:/{unique}/1", "model_id": other.model_id}, "INVALID_PARAMETER_VALUE"),
    ):
        refused = httpx.post(address, json=body | wrong)
        assert refused.json()["error_code"] == code, (wrong, refused.text)
    assert len(mlflow_client.search_model_versions(f"name = '{unique}'")) == 2


def test_what_is_written_after_registration_does_not_change_a_version(
    mlflow_client: MlflowClient, mlflow_server: Server, experiment: str, unique: str, tmp_path: Path
) -> None:
    run = mlflow_client.create_run(experiment).info
    mlflow_client.log_text(run.run_id, "first", "model/data/weights.txt")
    mlflow_client.log_text(run.run_id, "flavors: {}", "model/MLmodel")
    mlflow_client.create_registered_model(unique)
    source = f"{run.artifact_uri}/model"
    mlflow_client.create_model_version(unique, source, run_id=run.run_id)
    mlflow_client.create_model_version(unique, f"runs:/{run.run_id}/model", run_id=run.run_id)
    assert mlflow_client.get_model_version_download_uri(unique, "1") == source
    mlflow_client.log_text(run.run_id, "second", "model/data/weights.txt")
    mlflow_client.log_text(run.run_id, "more", "model/added.txt")
    mlflow.set_tracking_uri(mlflow_server.url)
    for number in (1, 2):
        place = mlflow_client.get_model_version_download_uri(unique, str(number))
        assert place.startswith("mlflow-artifacts:/versions/")
        files = Path(mlflow.artifacts.download_artifacts(place, dst_path=str(tmp_path / str(number))))
        assert sorted(path.name for path in files.rglob("*") if path.is_file()) == ["MLmodel", "weights.txt"]
        assert (files / "data" / "weights.txt").read_text() == "first"
    frozen = place.removeprefix("mlflow-artifacts:/")
    address = f"{mlflow_server.url}/api/2.0/mlflow-artifacts/artifacts/{frozen}/MLmodel"
    assert httpx.put(address, content=b"x").json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert httpx.delete(address).json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert httpx.get(address).text == "flavors: {}"
    version = httpx.get(f"{mlflow_server.url}/api/v1/models/{unique}/versions/1").json()
    assert version["contents"].startswith("sha256:")
