"""kill -9 of the control plane while artifacts arrive: nothing half is seen, nothing half stays, parts go on."""

from __future__ import annotations

import secrets
import socket
import time
from pathlib import Path

import httpx

MPU = "/api/2.0/mlflow-artifacts/mpu"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_half_an_upload_is_gone_and_parts_go_on_after_a_kill(server):
    blobs, whole = server.home / "blobs", secrets.token_bytes(3_000_000)
    with httpx.Client(base_url=server.url) as client:
        body = {"path": "parts.bin", "num_parts": 2}
        begun = client.post(f"{MPU}/create/0/r/artifacts", json=body).json()
        first, second = begun["credentials"]
        etags = [client.put(first["url"], content=whole[:2_000_000], headers=first["headers"]).headers["etag"]]
        client.put(f"{PROXY}/0/r/artifacts/whole.bin", content=whole).raise_for_status()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"PUT {PROXY}/0/r/artifacts/half.bin HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 4_000_000)
        while not any(path.stat().st_size for path in _files(blobs / "incoming")):
            time.sleep(0.02)
        server.kill()
    assert _files(blobs / "incoming")
    server.start()
    assert _files(blobs / "incoming") == []
    with httpx.Client(base_url=server.url) as client:
        assert client.get(f"{PROXY}/0/r/artifacts/half.bin").status_code == 404
        assert client.get(f"{PROXY}/0/r/artifacts/whole.bin").content == whole
        etags.append(client.put(second["url"], content=whole[2_000_000:], headers=second["headers"]).headers["etag"])
        parts = [{"part_number": number, "etag": etag} for number, etag in enumerate(etags, 1)]
        done = {"path": "parts.bin", "upload_id": begun["upload_id"], "parts": parts}
        assert client.post(f"{MPU}/complete/0/r/artifacts", json=done).status_code == 200
        assert client.get(f"{PROXY}/0/r/artifacts/parts.bin").content == whole
    assert _files(blobs / "parts") == []
