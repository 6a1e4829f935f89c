"""The model registry, as MLflow's own client sees it."""

from __future__ import annotations

from pathlib import Path

import httpx
import mlflow
import msgspec
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from conftest import Server
from everline.canonical import canonical_json
from everline.ids import digest_bytes
from everline.models.package import FileEntry, Manifest
from everline.models.signature import Signature
from everline.sdk.client import Client

MLMODEL = "artifact_path: model\nflavors: {}\nutc_time_created: '2026-01-01 00:00:00'\n"


def model_folder(client: MlflowClient, experiment: str) -> tuple[str, str]:
    """A run with a folder that looks like a model; its uid and the folder's source address."""
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, MLMODEL, "model/MLmodel")
    client.log_text(run.info.run_id, "weights", "model/data/weights.txt")
    return run.info.run_id, f"{run.info.artifact_uri}/model"


def test_models_and_versions_are_created_described_and_read(
    mlflow_client: MlflowClient, experiment: str, unique: str
) -> None:
    run, source = model_folder(mlflow_client, experiment)
    mlflow_client.create_registered_model(unique, tags={"team": "x"}, description="late flights")
    first = mlflow_client.create_model_version(unique, source, run_id=run, tags={"a": "b"}, description="one")
    second = mlflow_client.create_model_version(unique, source, run_id=run)
    assert (first.version, second.version, first.status) in (("1", "2", "READY"), (1, 2, "READY"))
    model = mlflow_client.get_registered_model(unique)
    assert (model.description, model.tags) == ("late flights", {"team": "x"})
    assert [str(version.version) for version in model.latest_versions] == ["2"]
    found = mlflow_client.get_model_version(unique, 1)
    assert (found.run_id, found.source, found.tags, found.description) == (run, source, {"a": "b"}, "one")
    assert found.current_stage == "None"
    assert mlflow_client.get_model_version_download_uri(unique, 1) == source


def test_register_model_takes_a_run_and_its_files_come_back(
    mlflow_client: MlflowClient, experiment: str, unique: str, tmp_path: Path
) -> None:
    run, source = model_folder(mlflow_client, experiment)
    version = mlflow.register_model(f"runs:/{run}/model", unique)
    assert str(version.version) == "1"
    assert version.source == source
    fetched = Path(mlflow.artifacts.download_artifacts(f"models:/{unique}/1", dst_path=str(tmp_path)))
    assert (fetched / "data" / "weights.txt").read_text() == "weights"


def test_aliases_move_and_go(mlflow_client: MlflowClient, experiment: str, unique: str) -> None:
    run, source = model_folder(mlflow_client, experiment)
    mlflow_client.create_registered_model(unique)
    for _ in range(2):
        mlflow_client.create_model_version(unique, source, run_id=run)
    mlflow_client.set_registered_model_alias(unique, "champion", "1")
    mlflow_client.set_registered_model_alias(unique, "champion", "2")
    assert str(mlflow_client.get_model_version_by_alias(unique, "champion").version) == "2"
    assert mlflow_client.get_registered_model(unique).aliases in ({"champion": "2"}, {"champion": 2})
    assert mlflow_client.get_model_version(unique, "2").aliases == ["champion"]
    mlflow_client.delete_registered_model_alias(unique, "champion")
    with pytest.raises(MlflowException, match="alias champion not found") as caught:
        mlflow_client.get_model_version_by_alias(unique, "champion")
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_tags_of_models_and_versions_change_and_go(mlflow_client: MlflowClient, experiment: str, unique: str) -> None:
    run, source = model_folder(mlflow_client, experiment)
    mlflow_client.create_registered_model(unique)
    mlflow_client.create_model_version(unique, source, run_id=run)
    mlflow_client.set_registered_model_tag(unique, "a", "1")
    mlflow_client.set_model_version_tag(unique, "1", "b", "2")
    assert mlflow_client.get_registered_model(unique).tags == {"a": "1"}
    assert mlflow_client.get_model_version(unique, "1").tags == {"b": "2"}
    mlflow_client.delete_registered_model_tag(unique, "a")
    mlflow_client.delete_model_version_tag(unique, "1", "b")
    assert mlflow_client.get_registered_model(unique).tags == {}
    assert mlflow_client.get_model_version(unique, "1").tags == {}


def test_models_and_versions_are_searched_and_paged(mlflow_client: MlflowClient, experiment: str, unique: str) -> None:
    run, source = model_folder(mlflow_client, experiment)
    names = [f"{unique}-{letter}" for letter in "abc"]
    for name in names:
        mlflow_client.create_registered_model(name, tags={"u": unique})
        mlflow_client.create_model_version(name, source, run_id=run)
    assert [model.name for model in mlflow_client.search_registered_models(f"name LIKE '{unique}%'")] == names
    assert [
        model.name for model in mlflow_client.search_registered_models(f"tags.u = '{unique}'", order_by=["name DESC"])
    ] == names[::-1]
    page = mlflow_client.search_registered_models(f"name LIKE '{unique}%'", max_results=2)
    rest = mlflow_client.search_registered_models(f"name LIKE '{unique}%'", max_results=2, page_token=page.token)
    assert [model.name for model in [*page, *rest]] == names
    found = mlflow_client.search_model_versions(f"run_id = '{run}'", order_by=["name ASC"])
    assert [version.name for version in found] == names
    assert [version.name for version in mlflow_client.search_model_versions(f"name = '{names[1]}'")] == [names[1]]


def test_a_model_is_renamed_with_its_versions_and_deleted(
    mlflow_client: MlflowClient, experiment: str, unique: str
) -> None:
    run, source = model_folder(mlflow_client, experiment)
    mlflow_client.create_registered_model(unique)
    mlflow_client.create_model_version(unique, source, run_id=run)
    mlflow_client.rename_registered_model(unique, f"{unique}-new")
    assert mlflow_client.get_model_version(f"{unique}-new", "1").name == f"{unique}-new"
    mlflow_client.update_registered_model(f"{unique}-new", description="d")
    mlflow_client.update_model_version(f"{unique}-new", "1", description="v")
    assert mlflow_client.get_model_version(f"{unique}-new", "1").description == "v"
    mlflow_client.delete_model_version(f"{unique}-new", "1")
    with pytest.raises(MlflowException, match="not found") as caught:
        mlflow_client.get_model_version(f"{unique}-new", "1")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    mlflow_client.delete_registered_model(f"{unique}-new")
    with pytest.raises(MlflowException, match="not found"):
        mlflow_client.get_registered_model(f"{unique}-new")
    mlflow_client.create_registered_model(f"{unique}-new")


def test_a_version_is_copied_to_another_model(mlflow_client: MlflowClient, experiment: str, unique: str) -> None:
    run, source = model_folder(mlflow_client, experiment)
    mlflow_client.create_registered_model(unique)
    mlflow_client.create_model_version(unique, source, run_id=run)
    copy = mlflow_client.copy_model_version(f"models:/{unique}/1", f"{unique}-copy")
    assert (copy.name, str(copy.version), copy.run_id) == (f"{unique}-copy", "1", run)
    assert mlflow_client.get_model_version_download_uri(f"{unique}-copy", "1") == source


def test_taken_and_wrong_names_are_refused(mlflow_client: MlflowClient, unique: str) -> None:
    mlflow_client.create_registered_model(unique)
    with pytest.raises(MlflowException, match="already exists") as caught:
        mlflow_client.create_registered_model(unique)
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"
    for name in ("a/b", "a:b", " "):
        with pytest.raises(MlflowException) as caught:
            mlflow_client.create_registered_model(name)
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    "source",
    [
        "/etc",
        "file:///etc",
        "./here",
        "mlflow-artifacts:/../../etc",
        "mlflow-artifacts://host/%2e%2e/%2e%2e",
        "mlflow-artifacts:/0/other/artifacts",
        "s3://bucket/../other",
        "runs:/other/model",
    ],
)
def test_a_source_outside_of_its_run_is_refused(
    mlflow_client: MlflowClient, experiment: str, unique: str, source: str
) -> None:
    run, _ = model_folder(mlflow_client, experiment)
    mlflow_client.create_registered_model(unique)
    with pytest.raises(MlflowException, match="Invalid model version source") as caught:
        mlflow_client.create_model_version(unique, source, run_id=run)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_package_of_ours_is_fetched_and_copied_but_never_changed(
    mlflow_server: Server, mlflow_client: MlflowClient, unique: str, tmp_path: Path
) -> None:
    with Client(mlflow_server.url) as client:
        files = {"MLmodel": MLMODEL.encode(), "data/weights.txt": b"weights"}
        entries = [
            FileEntry(path=path, digest=client.blobs.put_bytes(data), bytes=len(data)) for path, data in files.items()
        ]
        manifest = canonical_json(
            msgspec.to_builtins(Manifest(flavor="sklearn", signature=Signature(inputs=[]), files=entries))
        )
        package = client.blobs.put_bytes(manifest)
        client.models.register(unique, package)
    version = mlflow_client.get_model_version(unique, "1")
    assert version.source == f"mlflow-artifacts:/packages/{package.removeprefix('sha256:')}"
    fetched = Path(mlflow.artifacts.download_artifacts(f"models:/{unique}/1", dst_path=str(tmp_path)))
    assert (fetched / "data" / "weights.txt").read_bytes() == b"weights"
    assert digest_bytes((fetched / "everline.json").read_bytes()) == package
    copy = mlflow_client.copy_model_version(f"models:/{unique}/1", f"{unique}-copy")
    assert copy.source == f"models:/{unique}/1"
    assert mlflow_client.get_model_version_download_uri(f"{unique}-copy", "1") == version.source
    for method in ("PUT", "DELETE"):
        path = f"/api/2.0/mlflow-artifacts/artifacts/packages/{package.removeprefix('sha256:')}/MLmodel"
        assert httpx.request(method, mlflow_server.url + path, content=b"x").status_code == 400


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_stage_is_a_note_and_releases_nothing(
    mlflow_client: MlflowClient, mlflow_server: Server, experiment: str, unique: str
) -> None:
    run, source = model_folder(mlflow_client, experiment)
    mlflow_client.create_registered_model(unique)
    for _ in range(2):
        mlflow_client.create_model_version(unique, source, run_id=run)
    mlflow_client.transition_model_version_stage(unique, "1", "production")
    mlflow_client.transition_model_version_stage(unique, "2", "Production", archive_existing_versions=True)
    assert mlflow_client.get_model_version(unique, "1").current_stage == "Archived"
    assert [str(version.version) for version in mlflow_client.get_latest_versions(unique, ["Production"])] == ["2"]
    query = {"name": unique, "stages": ["Production", "Archived"]}
    by_get = httpx.get(f"{mlflow_server.url}/api/2.0/mlflow/registered-models/get-latest-versions", params=query).json()
    assert sorted(version["version"] for version in by_get["model_versions"]) == ["1", "2"]
    with pytest.raises(MlflowException, match="Invalid Model Version stage"):
        mlflow_client.transition_model_version_stage(unique, "1", "elsewhere")
