"""Artifacts in parts, resumed, cut off and asked for by other ways: as MLflow's client and a bad network do it."""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from conftest import Server

API = "/api/2.0"
PROXY = f"{API}/mlflow-artifacts/artifacts"


def leftovers(server: Server) -> list[Path]:
    """Files of uploads that are not whole."""
    return [
        path for part in ("incoming", "parts") for path in (server.home / "blobs" / part).rglob("*") if path.is_file()
    ]


def eventually(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.02)


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client sends every file of more than 256 KiB in parts."""
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", str(256 << 10))
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", str(100_000))


def test_a_large_file_goes_up_in_parts_and_comes_back(
    in_parts: None, mlflow_client: MlflowClient, mlflow_server: Server, experiment: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    uid = mlflow_client.create_run(experiment).info.run_id
    content = secrets.token_bytes(1_234_567)
    (tmp_path / "big file ü.bin").write_bytes(content)
    mlflow_client.log_artifact(uid, str(tmp_path / "big file ü.bin"), "models/deep")
    assert [(item.path, item.file_size) for item in mlflow_client.list_artifacts(uid, "models/deep")] == [
        ("models/deep/big file ü.bin", len(content))
    ]
    assert leftovers(mlflow_server) == []
    # A directory signs no addresses; the client that insists on them falls back.
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "true")
    (tmp_path / "back").mkdir()
    fetched = mlflow_client.download_artifacts(uid, "models/deep/big file ü.bin", str(tmp_path / "back"))
    assert Path(fetched).read_bytes() == content
    # A failed part is the end of the upload: nothing is seen, nothing is kept.
    monkeypatch.setattr("mlflow.store.artifact.http_artifact_repo.HttpArtifactRepository._upload_part", _fail)
    with pytest.raises(MlflowException, match="Failed to upload"):
        mlflow_client.log_artifact(uid, str(tmp_path / "big file ü.bin"), "failed")
    assert mlflow_client.list_artifacts(uid, "failed") == []
    assert leftovers(mlflow_server) == []


def _fail(**_arguments: object) -> None:
    raise OSError("the network is gone")


def test_an_upload_in_parts_keeps_its_rules(
    mlflow_client: MlflowClient, mlflow_server: Server, experiment: str
) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    folder, (first, second) = f"{experiment}/{uid}/artifacts", (b"a" * 70_000, b"b" * 50_000)
    with httpx.Client(base_url=mlflow_server.url) as client:

        def post(verb: str, **body: object) -> httpx.Response:
            return client.post(f"{API}/mlflow-artifacts/mpu/{verb}/{folder}", json={"path": "/tmp/x.bin", **body})

        begun = post("create", num_parts="2").json()
        upload, credentials = begun["upload_id"], begun["credentials"]
        assert [item["part_number"] for item in credentials] == [1, 2]
        refused = client.put(credentials[0]["url"], content=first, headers={"everline-upload-secret": "guessed"})
        assert (refused.status_code, refused.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
        beyond = credentials[1]["url"].removesuffix("2") + "3"
        assert client.put(beyond, content=first, headers=credentials[0]["headers"]).status_code == 400
        etags = {}
        # In any order, and a part that was sent before may be sent again.
        for number, part in ((2, second), (1, b"broken"), (1, first)):
            sent = client.put(credentials[number - 1]["url"], content=part, headers=credentials[number - 1]["headers"])
            etags[number] = sent.headers["etag"]
        assert client.get(f"{PROXY}/{folder}/x.bin").status_code == 404
        parts = [{"part_number": number, "etag": etags[number]} for number in (1, 2)]
        wrong = [{**parts[0], "etag": '"sha256:' + "0" * 64 + '"'}, parts[1]]
        for bad in (wrong, parts[::-1], [], [{"part_number": 1, "etag": "../../x"}]):
            answer = post("complete", upload_id=upload, parts=bad)
            assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), answer.text
        assert post("complete", upload_id="unknown", parts=parts).status_code == 404
        for _ in range(2):  # a client whose answer was lost asks again
            assert post("complete", upload_id=upload, parts=parts).json() == {}
        assert client.get(f"{PROXY}/{folder}/x.bin").content == first + second
        assert client.put(credentials[0]["url"], content=first, headers=credentials[0]["headers"]).status_code == 404
        aborted = post("create", path="y.bin", num_parts=1).json()
        assert post("abort", path="y.bin", upload_id=aborted["upload_id"]).json() == {}
        assert post("abort", path="y.bin", upload_id=aborted["upload_id"]).status_code == 404
        for fields in ({"num_parts": 0}, {"num_parts": 10_001}, {"path": ""}, {"path": ".."}, {"num_parts": "x"}):
            assert post("create", **fields).status_code == 400, fields
    assert leftovers(mlflow_server) == []


def test_a_download_is_resumed_cached_and_verified(
    mlflow_client: MlflowClient, mlflow_server: Server, experiment: str
) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    url, content = f"{mlflow_server.url}{PROXY}/{experiment}/{uid}/artifacts/a.bin", secrets.token_bytes(3_000_000)
    digest = hashlib.sha256(content)
    assert httpx.put(url, content=content).status_code == 200
    with httpx.Client() as client:
        whole = client.get(url)
        etag = whole.headers["etag"]
        assert (whole.content, etag) == (content, f'"sha256:{digest.hexdigest()}"')
        assert whole.headers["repr-digest"].startswith("sha-256=:")
        head = client.head(url)
        assert (head.status_code, head.headers["content-length"], head.content) == (200, "3000000", b"")
        for asked, part in (
            ("bytes=0-0", content[:1]),
            ("bytes=1500000-", content[1_500_000:]),
            ("bytes=-10", content[-10:]),
            ("bytes=2999999-99999999", content[-1:]),
        ):
            answer = client.get(url, headers={"Range": asked, "If-Range": etag})
            assert (answer.status_code, answer.content) == (206, part)
            start = len(content) - len(part) if asked != "bytes=0-0" else 0
            assert answer.headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/3000000"
        beyond = client.get(url, headers={"Range": "bytes=3000000-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */3000000")
        for headers in ({"Range": "bytes=0-9", "If-Range": '"other"'}, {"Range": "bytes=9-0"}, {"Range": "lines=1-2"}):
            assert client.get(url, headers=headers).status_code == 200
        assert client.get(url, headers={"If-None-Match": etag}).status_code == 304
        empty = url.replace("a.bin", "empty")
        assert client.put(empty, content=b"").status_code == 200
        assert (client.get(empty).content, client.head(empty).headers["content-length"]) == (b"", "0")
        assert client.get(url.removesuffix("/a.bin")).status_code == 404


def test_artifacts_are_found_by_run_and_by_model_version(
    mlflow_client: MlflowClient, mlflow_server: Server, experiment: str, unique: str
) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    with httpx.Client(base_url=mlflow_server.url) as client:
        target = {"run_uuid": uid, "path": "notes/a.txt"}
        assert client.post("/ajax-api/2.0/mlflow/upload-artifact", params=target, content=b"hello").status_code == 200
        for params, content in (({"path": "a"}, b"x"), ({"run_uuid": uid}, b"x"), (target, b"")):
            answer = client.post("/ajax-api/2.0/mlflow/upload-artifact", params=params, content=content)
            assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        for path in ("/get-artifact", "/ajax-api/2.0/mlflow/get-artifact"):
            answer = client.get(path, params=target)
            assert (answer.content, answer.headers["content-type"]) == (b"hello", "text/plain; charset=utf-8")
            assert "attachment" in answer.headers["content-disposition"]
            assert client.get(path, params={"run_uuid": uid, "path": "../a"}).status_code == 400
            assert client.get(path, params={"run_uuid": uid, "path": "missing"}).status_code == 404
        mlflow_client.create_registered_model(unique)
        root = mlflow_client.get_run(uid).info.artifact_uri
        mlflow_client.create_model_version(unique, f"{root}/notes", run_id=uid)
        version = {"name": unique, "version": "1", "path": "a.txt"}
        for path in ("/model-versions/get-artifact", "/ajax-api/2.0/mlflow/model-versions/get-artifact"):
            assert client.get(path, params=version).content == b"hello"
        for direction in ("upload", "download"):
            answer = client.post(
                f"{API}/mlflow/artifacts/presigned-{direction}-url", json={"run_id": uid, "path": "notes/a.txt"}
            )
            assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        info = client.get("/api/3.0/mlflow/server-info").json()
        assert (info["store_type"], info["multipart_uploads_enabled"]) == ("SqlStore", False)


def test_a_folder_of_ten_thousand_files_is_listed_at_once(mlflow_server: Server, experiment: str) -> None:
    from sqlalchemy import create_engine, insert

    from everline.runs.tables import artifact

    root = f"{experiment}/r/artifacts"
    paths = [f"{root}/flat/{number:05}.txt" for number in range(10_000)]
    paths += [f"{root}/deep/f{number % 3}/{number:05}" for number in range(6_000)]
    paths += [f"{root}/deep/f0.txt", f"{root}/deep/f00"]
    url = mlflow_server.database_url.replace("postgresql://", "postgresql+psycopg://")
    row = {"project": "default", "digest": "sha256:" + "0" * 64, "bytes": 1, "at_ms": 0}
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(insert(artifact), [row | {"path": path} for path in paths])
    engine.dispose()
    with httpx.Client(base_url=mlflow_server.url) as client:
        flat = client.get(PROXY, params={"path": f"{root}/flat"})
        assert [item["path"] for item in flat.json()["files"]] == [f"{number:05}.txt" for number in range(10_000)]
        assert flat.elapsed.total_seconds() < 2
        deep = client.get(PROXY, params={"path": f"{root}/deep"}).json()["files"]
        assert [(item["path"], item["is_dir"]) for item in deep] == [
            ("f0", True), ("f0.txt", False), ("f00", False), ("f1", True), ("f2", True),
        ]  # fmt: skip
        assert client.delete(f"{PROXY}/{root}/flat").status_code == 200
        assert client.get(PROXY, params={"path": root}).json() == {"files": [{"path": "deep", "is_dir": True}]}


def test_a_client_that_dies_in_the_middle_leaves_nothing(mlflow_server: Server, experiment: str) -> None:
    path = f"{PROXY}/{experiment}/r/artifacts/half.bin"
    for before in (404, 200):  # where nothing was, and where a file is
        with socket.create_connection(("127.0.0.1", mlflow_server.port)) as connection:
            connection.sendall(
                f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n\r\n".encode() + b"x" * 4_000_000
            )
            eventually(lambda: bool(leftovers(mlflow_server)))
        eventually(lambda: not leftovers(mlflow_server))
        answer = httpx.get(mlflow_server.url + path)
        assert answer.status_code == before
        assert httpx.put(mlflow_server.url + path, content=b"whole").status_code == 200
        assert before == 404 or answer.content == b"whole"


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 500",
        "Transfer-Encoding: chunked",
        "Content-Length: -5",
        "Content-Length: 3\r\nContent-Length: 4",
    ],
)
def test_half_a_body_is_no_body(mlflow_client: MlflowClient, mlflow_server: Server, experiment: str, head: str) -> None:
    uid = mlflow_client.create_run(experiment).info.run_id
    batch = json.dumps({"run_id": uid, "params": [{"key": "a", "value": "b"}]}).encode()
    for method, path, body in (
        ("POST", f"{API}/mlflow/runs/log-batch", batch),
        ("PUT", f"{PROXY}/{experiment}/{uid}/artifacts/a.txt", b"half"),
        ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={uid}&path=b.txt", b"half"),
    ):
        if "chunked" in head:  # without the last, empty chunk
            body = f"{len(body):x}\r\n".encode() + body + b"\r\n"
        with socket.create_connection(("127.0.0.1", mlflow_server.port), timeout=10) as connection:
            kind = "Content-Type: application/json"
            connection.sendall(
                f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}\r\n{head}\r\n\r\n".encode() + body
            )
            connection.shutdown(socket.SHUT_WR)
            answered = b"".join(iter(lambda: connection.recv(4096), b""))  # until the server hangs up
        assert b" 200 " not in answered.split(b"\r\n")[0]
    assert mlflow_client.get_run(uid).data.params == {}
    assert mlflow_client.list_artifacts(uid) == []
    assert leftovers(mlflow_server) == []
