"""The artifact proxy, as MLflow's own client sees it, and as an attacker does."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from pathlib import Path

import httpx
import mlflow
import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from conftest import Server

PROXY = "/api/2.0/mlflow-artifacts/artifacts"


def test_files_and_folders_go_up_and_come_back(mlflow_client: MlflowClient, experiment: str, tmp_path: Path) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "deep" / "ü ä.bin").write_bytes(bytes(range(256)) * 4096)
    mlflow_client.log_artifact(uid, str(folder / "a.txt"))
    mlflow_client.log_artifacts(uid, str(folder), artifact_path="all")
    listed = {item.path: (item.is_dir, item.file_size) for item in mlflow_client.list_artifacts(uid)}
    assert listed == {"a.txt": (False, 1), "all": (True, None)}
    assert [item.path for item in mlflow_client.list_artifacts(uid, "all")] == ["all/a.txt", "all/deep"]
    assert mlflow_client.list_artifacts(uid, "a.txt") == []
    fetched = Path(mlflow_client.download_artifacts(uid, "all", str(tmp_path)))
    assert (fetched / "deep" / "ü ä.bin").read_bytes() == (folder / "deep" / "ü ä.bin").read_bytes()


def test_text_dictionaries_and_figures_are_logged(mlflow_client: MlflowClient, experiment: str) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    mlflow_client.log_text(uid, "hello", "notes/a.txt")
    mlflow_client.log_dict(uid, {"a": 1}, "a.json")
    uri = mlflow_client.get_run(uid).info.artifact_uri
    assert mlflow.artifacts.load_text(f"{uri}/notes/a.txt") == "hello"
    assert mlflow.artifacts.load_dict(f"runs:/{uid}/a.json") == {"a": 1}


def test_artifacts_of_a_run_are_listed_by_run(
    mlflow_client: MlflowClient, mlflow_server: Server, experiment: str
) -> None:
    run = mlflow_client.create_run(experiment).info
    mlflow_client.log_text(run.run_id, "hello", "notes/a.txt")
    address = f"{mlflow_server.url}/api/2.0/mlflow/artifacts/list"
    top = httpx.get(address, params={"run_id": run.run_id}).json()
    assert top == {"root_uri": run.artifact_uri, "files": [{"path": "notes", "is_dir": True}]}
    inside = httpx.get(address, params={"run_id": run.run_id, "path": "notes"}).json()["files"]
    assert inside == [{"path": "notes/a.txt", "is_dir": False, "file_size": 5}]
    for path in ("../x", "/etc", "a/../../b", "%2e%2e"):
        refused = httpx.get(address, params={"run_id": run.run_id, "path": path})
        assert (refused.status_code, refused.json().get("error_code")) == (400, "INVALID_PARAMETER_VALUE"), path
    missing = httpx.get(address, params={"run_id": "0" * 32})
    assert (missing.status_code, missing.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_file_is_replaced_and_deleted(mlflow_client: MlflowClient, experiment: str, mlflow_server: Server) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    for text in ("one", "two"):
        mlflow_client.log_text(uid, text, "a.txt")
    assert mlflow.artifacts.load_text(f"runs:/{uid}/a.txt") == "two"
    path = f"{PROXY}/{experiment}/{uid}/artifacts/a.txt"
    assert httpx.delete(mlflow_server.url + path).status_code == 200
    assert mlflow_client.list_artifacts(uid) == []


def test_a_missing_file_says_so(mlflow_client: MlflowClient, experiment: str, tmp_path: Path) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    with pytest.raises(MlflowException, match="ensure that the path is correct"):
        mlflow_client.download_artifacts(uid, "nothing.txt", str(tmp_path))


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "%2e%2e/%2e%2e/etc/passwd",
        "%252e%252e%252fetc/passwd",
        "0/..%2f..%2fetc",
        "0/%5c..%5cwindows",
        "%2fetc/passwd",
        "C:/windows",
        "0/a%00b",
        "0//a",
        "0/./a",
        "file:///etc/passwd",
        "0/" + "a" * 2000,
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_path_tricks_are_refused(mlflow_server: Server, method: str, path: str) -> None:
    # Other clients would tidy the path; this one sends it as an attacker writes it.
    connection = HTTPConnection("127.0.0.1", mlflow_server.port, timeout=10)
    connection.request(method, f"{PROXY}/{path}", body=b"x" if method == "PUT" else None)
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    assert (response.status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert body["message"]


def test_listing_tricks_are_refused(mlflow_server: Server) -> None:
    for path in ("../..", "/etc", "a/../../b", "%2e%2e"):
        response = httpx.get(mlflow_server.url + PROXY, params={"path": path})
        assert (response.status_code, response.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_a_file_cannot_also_be_a_folder(mlflow_client: MlflowClient, experiment: str) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    mlflow_client.log_text(uid, "x", "a")
    with pytest.raises(requests.HTTPError, match="cannot be a file"):
        mlflow_client.log_text(uid, "x", "a/b")
    mlflow_client.log_text(uid, "x", "c/d")
    with pytest.raises(requests.HTTPError, match="cannot be a file"):
        mlflow_client.log_text(uid, "x", "c")


def test_an_uploaded_page_is_never_shown_as_ours(
    mlflow_client: MlflowClient, experiment: str, mlflow_server: Server
) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    mlflow_client.log_text(uid, "<script>alert(1)</script>", "page.html")
    response = httpx.get(f"{mlflow_server.url}{PROXY}/{experiment}/{uid}/artifacts/page.html")
    assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''page.html"
    assert response.headers["x-content-type-options"] == "nosniff"
