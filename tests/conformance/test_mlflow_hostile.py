"""Requests that mean harm: each is answered below 500, and the server lives on."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from conftest import Server

REST, MLFLOW = "/api/v1", "/api/2.0/mlflow"
MANY = [f"metrics.m{number}" for number in range(32)]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"{REST}/models/a%00b", None),
        ("GET", f"{REST}/runs?experiment=a%00b", None),
        ("GET", f"{REST}/runs?limit=99999999999999999999999", None),
        ("GET", f"{REST}/runs?cursor=x", None),
        ("POST", f"{REST}/runs/search", {"filter": "params.a = 'x\x00y'"}),
        ("POST", f"{REST}/runs/search", {"filter": "params.a LIKE '" + "*" * 19_000 + "'"}),
        ("POST", f"{REST}/runs/search", {"filter": "params.a LIKE '" + "*" * 8_000 + "'"}),
        ("POST", f"{REST}/runs/search", {"filter": "params.a ILIKE '" + "%a" * 3_900 + "b'"}),
        ("POST", f"{REST}/runs/search", {"limit": 10**30}),
        ("POST", f"{REST}/runs", {"name": "a\x00b"}),
        ("POST", f"{REST}/runs", {"tags": {"a": "\x00"}}),
        ("POST", f"{REST}/runs", {"started_at": "0001-01-01T00:00:00Z"}),
        ("POST", f"{REST}/runs", {"started_at": "9999-12-31T23:59:59Z"}),
        ("GET", f"{MLFLOW}/experiments/get-by-name?experiment_name=a%00b", None),
        ("GET", f"{MLFLOW}/registered-models/get?name=a%00b", None),
        ("GET", f"{MLFLOW}/metrics/get-history?run_id={'0' * 32}&metric_key=a%00", None),
        ("GET", f"{MLFLOW}/model-versions/get?name=x&version=99999999999999999999", None),
        ("GET", f"{MLFLOW}/model-versions/search?filter=version_number%20%3E%209223372036854775807", None),
        ("POST", f"{MLFLOW}/registered-models/create", {"name": "x\x00"}),
        ("POST", f"{MLFLOW}/registered-models/create", {"name": "hostile", "description": "x\x00"}),
        ("POST", f"{MLFLOW}/experiments/create", {"name": "hostile", "artifact_location": "s3://x\x00"}),
        ("POST", f"{MLFLOW}/experiments/create", {"name": "hostile-2", "tags": [{"key": "a", "value": "\x00"}]}),
        ("POST", f"{MLFLOW}/runs/create", {"experiment_id": "0", "user_id": "\x00"}),
        ("POST", f"{MLFLOW}/runs/create", {"experiment_id": "99999999999999999999"}),
        ("POST", f"{MLFLOW}/runs/create", {"experiment_id": "²"}),
        ("POST", f"{MLFLOW}/runs/create", {"experiment_id": "0", "run_name": "x" * 9_000}),
        ("POST", f"{MLFLOW}/runs/search", {"experiment_ids": ["0"], "filter": "attributes.start_time > 1e999"}),
        ("POST", f"{MLFLOW}/runs/search", {"experiment_ids": ["0"], "filter": "metrics.a > 1e999"}),
        ("POST", f"{MLFLOW}/runs/search", {"experiment_ids": ["0"] * 70_000}),
        ("POST", f"{MLFLOW}/runs/search", {"experiment_ids": ["0"] * 20_000}),
        ("POST", f"{MLFLOW}/runs/search", {"experiment_ids": ["0"], "order_by": MANY}),
        (
            "POST",
            f"{MLFLOW}/runs/search",
            {"experiment_ids": ["0"], "filter": " AND ".join(f"metrics.m{number} > 1" for number in range(100))},
        ),
    ],
    ids=lambda value: str(value)[:40].replace("\x00", "NUL"),
)
def test_a_hostile_request_is_answered_and_the_server_lives(
    mlflow_server: Server, method: str, path: str, body: Any
) -> None:
    response = httpx.request(method, mlflow_server.url + path, json=body, timeout=30)
    assert response.status_code < 500, response.text
    assert httpx.get(f"{mlflow_server.url}/health", timeout=10).status_code == 200
