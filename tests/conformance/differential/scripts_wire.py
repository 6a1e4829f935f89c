"""The wire itself: bodies, methods, prefixes, paths."""

from __future__ import annotations

import gzip
import json

from wire import Wire


def bodies(wire: Wire) -> None:
    number = wire.experiment()
    run = wire.run(number, run_name="r")
    for body in (
        b"",
        b" ",
        b"{",
        b"[]",
        b"[1]",
        b"5",
        b'"x"',
        b"null",
        b"true",
        b"\xff\xfe",
        b'{"name": "bodies \\ud800"}',
        b'{"name": "bodies \xff"}',
        b"\xef\xbb\xbf{}",
        b'{"name": "bodies twice", "name": "bodies last"}',
        b"{'name': 'x'}",
        b'{"name": "bodies trailing",}',
    ):
        wire.know_number(wire.post("experiments/create", body))
    twice = json.dumps(json.dumps({"run_id": run, "key": "a", "value": "x"})).encode()
    wire.post("runs/set-tag", twice)
    wire.post("runs/set-tag", {"run_id": run, "runId": run, "key": "a", "value": "x"})
    other = wire.run(number, run_name="other")
    wire.post("runs/log-batch", {"runId": other, "tags": [{"key": "camel", "value": "x"}]})
    good = json.dumps({"run_id": run, "key": "b", "value": "x"}).encode()
    for kind in (
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "text/plain",
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/xml",
        "APPLICATION/JSON",
        "json",
    ):
        wire.call("POST", "runs/set-tag", content=good, headers={"Content-Type": kind})
    wire.call("POST", "runs/set-tag", content=good)
    wire.call(
        "POST",
        "runs/set-tag",
        content=gzip.compress(good),
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )
    wire.get("runs/get", {"run_id": run}, headers={"Content-Type": "text/plain"})
    wire.get("runs/get", {"run_id": run}, headers={"Content-Type": "application/json"})
    wire.call(
        "GET", "runs/get", content=json.dumps({"run_id": run}).encode(), headers={"Content-Type": "application/json"}
    )
    wire.call(
        "GET",
        "experiments/get",
        content=json.dumps({"experiment_id": number}).encode(),
        headers={"Content-Type": "application/json"},
    )
    wire.call("POST", "runs/set-tag", params={"run_id": run, "key": "q", "value": "x"})
    wire.get("runs/get", {"run_id": run})


def methods(wire: Wire) -> None:
    run = wire.run(wire.experiment(), run_name="r")
    for method, path in (
        ("POST", "runs/get"), ("GET", "runs/create"), ("PUT", "runs/create"), ("DELETE", "runs/delete"),
        ("PATCH", "runs/update"), ("GET", "runs/log-metric"), ("POST", "metrics/get-history"),
        ("POST", "experiments/get"), ("GET", "runs/search"),
        ("POST", "experiments/list"), ("GET", "experiments/list"), ("HEAD", "runs/get"), ("OPTIONS", "runs/get"),
        ("GET", "experiments/search"), ("POST", "experiments/search"),
    ):  # fmt: skip
        wire.call(method, path, params={"run_id": run, "filter": "name = 'methods'"})


def prefixes(wire: Wire) -> None:
    number = wire.experiment()
    run = wire.run(number, run_name="r")
    for prefix in ("/api/2.0", "/ajax-api/2.0", "/api/3.0", "/ajax-api/3.0", "/api/2.1", "/api/1.0", "/2.0", "/api/v2"):
        wire.get(f"{prefix}/mlflow/runs/get", {"run_id": run})
        wire.post(f"{prefix}/mlflow/runs/set-tag", {"run_id": run, "key": "a", "value": prefix})
    wire.get("/api/2.0/preview/mlflow/runs/get", {"run_id": run})
    wire.get("/ajax-api/2.0/preview/mlflow/runs/get", {"run_id": run})
    wire.get("/api/2.0/mlflow/runs/get/", {"run_id": run})
    wire.get("/api/2.0/mlflow//runs/get", {"run_id": run})
    wire.get("/API/2.0/mlflow/runs/get", {"run_id": run})
    for path in ("/health", "/version", "/ajax-api/2.0/mlflow/experiments/get?experiment_id=0"):
        wire.call("GET", path)
    wire.get("/ajax-api/3.0/mlflow/server-info")
    wire.get("/api/3.0/mlflow/server-info")
    wire.get("/api/2.0/mlflow/nothing")
    wire.get("/api/2.0/nothing")


def artifacts(wire: Wire) -> None:
    run = wire.run(wire.experiment(), run_name="r")
    for query in (
        {}, {"run_id": run}, {"run_uuid": run}, {"run_id": "0" * 32}, {"run_id": run, "path": "nothing"},
        {"run_id": run, "path": ""}, {"run_id": run, "path": "../x"}, {"run_id": run, "path": "/etc"},
        {"run_id": run, "path": "a/../../b"},
        {"run_id": run, "page_token": "x"},
    ):  # fmt: skip
        wire.get("artifacts/list", query)
