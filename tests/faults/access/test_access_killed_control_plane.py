"""kill -9 of the control plane at any moment: every acknowledged write is there afterwards, and the log is whole."""

from __future__ import annotations

import contextlib
import threading
import time

import httpx
import pytest

from everline.ids import digest_bytes


@pytest.mark.parametrize("after_s", [0.15, 0.6])
def test_acknowledged_writes_survive(server, after_s):
    acknowledged: list[str] = []
    blobs: list[str] = []
    stop = threading.Event()

    def write(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=5) as client, contextlib.suppress(httpx.TransportError):
            for count in range(10_000):
                if stop.is_set():
                    return
                name = f"u{number}-{count}"
                if client.post("/api/v1/users", json={"name": name}).status_code == 201:
                    acknowledged.append(name)
                content = f"{name} was here".encode()
                digest = digest_bytes(content)
                if client.put(f"/api/v1/blobs/{digest}", content=content).status_code == 201:
                    blobs.append(digest)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(after_s)
    while not acknowledged:
        time.sleep(0.05)
    server.kill()
    stop.set()
    for thread in threads:
        thread.join()

    server.start()
    with httpx.Client(base_url=server.url, timeout=10) as client:
        present = {user["name"] for user in client.get("/api/v1/users").json()["items"]}
        assert set(acknowledged) <= present
        assert all(client.get(f"/api/v1/blobs/{digest}").status_code == 200 for digest in blobs[-20:])
        verdict = client.get("/api/v1/audit/verify").json()
        assert verdict["verified"] is True
        assert verdict["size"] >= len(acknowledged)
