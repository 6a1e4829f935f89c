"""Bad input: refused in MLflow's own form with a message that helps, or taken as MLflow takes it; never half written.

Requests that are wrong in their form are in `test_mlflow_wire.py`, paths below the artifact proxy in
`test_mlflow_artifacts.py`, uploads that break off in `test_mlflow_artifact_parts.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from conftest import Server

BASE = "/api/2.0/mlflow"
NOBODY = "0" * 32
YEAR_10000_MS = 253_402_300_800_000
LONG_MAX = 2**63 - 1
TEN_MEGABYTES = 10 << 20
MESSAGE_CHARACTERS_MAX = 1_000


@pytest.fixture
def wire(mlflow_server: Server) -> Iterator[httpx.Client]:
    """The server without a client that would tidy what is sent."""
    with httpx.Client(base_url=mlflow_server.url + BASE, timeout=30) as client:
        yield client


@pytest.fixture
def run(mlflow_client: MlflowClient, experiment: str) -> str:
    """A run of this test's own."""
    return str(mlflow_client.create_run(experiment).info.run_id)


def ask(wire: httpx.Client, method: str, path: str, fields: dict[str, Any]) -> httpx.Response:
    return wire.request(method, path, **({"params": fields} if method == "GET" else {"content": json.dumps(fields)}),
                        headers={"Content-Type": "application/json"})  # fmt: skip


def said(answer: httpx.Response, status: int = 400, code: str = "INVALID_PARAMETER_VALUE") -> str:
    """The message of a refusal, which has MLflow's form and does not send back what was too long."""
    assert (answer.status_code, answer.json().get("error_code")) == (status, code), answer.text[:500]
    assert set(answer.json()) == {"error_code", "message"}
    message = str(answer.json()["message"])
    assert 0 < len(message) <= MESSAGE_CHARACTERS_MAX
    return message


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/runs/search", "attributes.run_name"),
        ("POST", "/experiments/search", "name"),
        ("GET", "/registered-models/search", "name"),
        ("GET", "/model-versions/search", "name"),
        ("POST", "/logged-models/search", "name"),
    ],
)
def test_hostile_filters_are_refused_or_find_nothing(
    wire: httpx.Client, experiment: str, run: str, method: str, path: str, name: str
) -> None:
    def search(filter_string: str) -> httpx.Response:
        return ask(wire, method, path, {"experiment_ids": [experiment], "filter": filter_string})

    for wrong in (
        "' OR 1=1 --", f"{name} = 'a' OR 1=1", f"{name} = 'a'; DROP TABLE run", f"{name} = 'a' UNION SELECT 1",
        f"{name} = 'a' -- x", f"/* x */ {name} = 'a'", f"{name} = 'a\\' OR '1'='1'", f"{name} = 'a\x00b'",
        f"{name} = 'a", f"{name} =", name, "=", "AND", "{{7*7}}", "${jndi:ldap://x}", f"{name} ~ 'a'",
        f"{name} LIKE '{'%_' * 5_000}'", f"{name} = 'a' AND " * 400 + f"{name} = 'a'", "(" * 5_000, "`" * 5_000,
        "tags.`a``b` = 'x'", "attributes.__class__ = 'x'", f"{name} = 'é\x1b[31m' \x1b",
    ):  # fmt: skip
        assert said(search(wrong)), wrong
    for odd in (f"{name} = 'Robert''); DROP TABLE run; --'", "tags.\"a'; --\" = 'x'", f"{name} LIKE '\\%_[a-z]*'"):
        assert search(odd).json() == {}, odd
    assert ask(wire, "GET", "/runs/get", {"run_id": run}).status_code == 200


def test_nan_and_infinities_are_logged_bare_or_as_text_and_found_in_their_place(
    wire: httpx.Client, mlflow_client: MlflowClient, experiment: str
) -> None:
    uids = {}
    for value in ("NaN", "-Infinity", "Infinity", "0.5"):
        uids[value] = mlflow_client.create_run(experiment).info.run_id
        for text in (value, f'"{value}"'):
            body = f'{{"run_id": "{uids[value]}", "key": "m", "value": {text}, "timestamp": 1}}'
            logged = wire.post("/runs/log-metric", content=body, headers={"Content-Type": "application/json"})
            assert logged.status_code == 200, (text, logged.text)

    def found(**options: Any) -> list[str]:
        runs = [run.info.run_id for run in mlflow_client.search_runs([experiment], **options)]
        return [value for uid in runs for value, of in uids.items() if of == uid]

    assert found(order_by=["metrics.m ASC"]) == ["-Infinity", "0.5", "Infinity", "NaN"]
    assert found(order_by=["metrics.m DESC"]) == ["Infinity", "0.5", "-Infinity", "NaN"]
    assert found(filter_string="metrics.m > 0", order_by=["metrics.m"]) == ["0.5", "Infinity"]
    assert found(filter_string="metrics.m <= 0") == ["-Infinity"]
    assert math.isnan(mlflow_client.get_run(uids["NaN"]).data.metrics["m"])
    for text in ("1e400", '"0x10"', '"NaN of a kind"', "true", "[NaN]"):
        body = f'{{"run_id": "{uids["0.5"]}", "key": "m", "value": {text}, "timestamp": 2}}'
        said(wire.post("/runs/log-metric", content=body, headers={"Content-Type": "application/json"}))
    assert mlflow_client.get_run(uids["0.5"]).data.metrics == {"m": 0.5}


def test_ten_megabytes_are_cut_or_refused_as_a_whole(
    wire: httpx.Client, mlflow_client: MlflowClient, experiment: str, run: str
) -> None:
    large = "x" * TEN_MEGABYTES
    beside = {"metrics": [{"key": "beside", "value": 1, "timestamp": 1}], "tags": [{"key": "beside", "value": "x"}]}
    for fields in (
        {"params": [{"key": large, "value": "x"}], **beside},
        {"params": [{"key": "a", "value": large}, {"key": "b", "value": large}], **beside},  # beyond the largest body
    ):
        said(ask(wire, "POST", "/runs/log-batch", {"run_id": run, **fields}))
    for path, fields in (
        ("/runs/log-parameter", {"run_id": run, "key": large, "value": "x"}),
        ("/runs/log-metric", {"run_id": run, "key": large, "value": 1, "timestamp": 1}),
        ("/experiments/create", {"name": large}),
        ("/experiments/set-experiment-tag", {"experiment_id": experiment, "key": "a", "value": large}),
        ("/registered-models/create", {"name": large}),
        ("/logged-models", {"experiment_id": experiment, "params": [{"key": "a", "value": large}]}),
    ):
        said(ask(wire, "POST", path, fields))
    data = mlflow_client.get_run(run).data
    assert (data.params, data.metrics, "beside" in data.tags) == ({}, {}, False)
    taken = ask(wire, "POST", "/runs/log-batch", {"run_id": run, "params": [{"key": "a", "value": large}], **beside})
    assert taken.json() == {}
    data = mlflow_client.get_run(run).data
    assert (len(data.params["a"]), data.metrics, data.tags["beside"]) == (6_000, {"beside": 1.0}, "x")


def test_a_parameter_that_comes_twice_is_refused_with_all_that_came_with_it(
    wire: httpx.Client, mlflow_client: MlflowClient, experiment: str, run: str
) -> None:
    beside = {"metrics": [{"key": "beside", "value": 1, "timestamp": 1}], "tags": [{"key": "beside", "value": "x"}]}

    def log(*params: tuple[str, str]) -> httpx.Response:
        given = [{"key": key, "value": value} for key, value in params]
        return ask(wire, "POST", "/runs/log-batch", {"run_id": run, "params": given, **beside})

    for second in ("1", "2"):
        assert "Duplicate parameter keys have been submitted: ['d']" in said(log(("n", "1"), ("d", "1"), ("d", second)))
    assert mlflow_client.get_run(run).data.params == {}
    mlflow_client.log_param(run, "d", "1")
    refused = said(log(("n", "1"), ("d", "2")))
    assert "Changing param values is not allowed" in refused
    assert all(told in refused for told in ("'d'", "'1'", "'2'", run))
    data = mlflow_client.get_run(run).data
    assert (data.params, data.metrics, "beside" in data.tags) == ({"d": "1"}, {}, False)
    assert log(("n", "1"), ("d", "1")).json() == {}
    assert mlflow_client.get_run(run).data.params == {"d": "1", "n": "1"}
    # Those of a logged model as well, when it is made and later.
    twice = {"params": [{"key": "n", "value": "1"}, {"key": "d", "value": "1"}, {"key": "d", "value": "2"}]}
    model = mlflow_client.create_logged_model(experiment).model_id
    for path, fields in (("/logged-models", {"experiment_id": experiment}), (f"/logged-models/{model}/params", {})):
        assert "Duplicate parameter keys have been submitted: ['d']" in said(ask(wire, "POST", path, fields | twice))
    assert [(found.model_id, found.params) for found in mlflow_client.search_logged_models([experiment])] == [
        (model, {})
    ]


def test_steps_out_of_order_leave_the_highest_step_as_the_last(mlflow_client: MlflowClient, run: str) -> None:
    points = [
        (0.5, 500, 5), (0.3, 900, 3), (0.6, 400, 5), (0.7, 600, 5), (0.2, 600, 5), (0.9, 600, 5), (0.1, 100, -1)
    ]  # fmt: skip
    latest = []
    for value, timestamp, step in points:
        mlflow_client.log_metric(run, "alone", value, timestamp=timestamp, step=step)
        latest.append(mlflow_client.get_run(run).data.metrics["alone"])
    # The highest step, of those the latest, of those the largest.
    assert latest == [0.5, 0.5, 0.5, 0.7, 0.7, 0.9, 0.9]
    mlflow_client.log_batch(run, metrics=[Metric("batch", *point) for point in points])
    mlflow_client.log_batch(run, metrics=[Metric("batch", 0.4, 1_000, 4)])
    assert mlflow_client.get_run(run).data.metrics == {"alone": 0.9, "batch": 0.9}
    history = [(point.value, point.timestamp, point.step) for point in mlflow_client.get_metric_history(run, "alone")]
    assert history == sorted(points, key=lambda point: (point[1], point[2], point[0]))


def test_clocks_may_be_wrong_but_not_before_1970(
    wire: httpx.Client, mlflow_client: MlflowClient, experiment: str, run: str
) -> None:
    times = [YEAR_10000_MS, 0, LONG_MAX, 1]
    for timestamp in times:
        answer = ask(wire, "POST", "/runs/log-metric", {"run_id": run, "key": "m", "value": 1, "timestamp": timestamp})
        assert answer.status_code == 200, answer.text
    assert [point.timestamp for point in mlflow_client.get_metric_history(run, "m")] == sorted(times)
    for timestamp in (-1, 2**63, 1.5, "soon"):
        early = {"key": "n", "value": 1, "timestamp": timestamp}
        assert "timestamp" in said(ask(wire, "POST", "/runs/log-metric", {"run_id": run, **early}))
        batch = {"run_id": run, "metrics": [{**early, "timestamp": 1}, early], "tags": [{"key": "t", "value": "x"}]}
        assert "timestamp" in said(ask(wire, "POST", "/runs/log-batch", batch))
    data = mlflow_client.get_run(run).data
    assert (set(data.metrics), "t" in data.tags) == ({"m"}, False)
    # The clock of one machine started the run, and that of another ended it.
    ahead = mlflow_client.create_run(experiment, start_time=YEAR_10000_MS).info.run_id
    mlflow_client.set_terminated(ahead, end_time=1_000)
    info = mlflow_client.get_run(ahead).info
    assert (info.start_time, info.end_time, info.status) == (YEAR_10000_MS, 1_000, "FINISHED")
    first = mlflow_client.search_runs([experiment], order_by=["attributes.start_time DESC"])[0]
    assert first.info.run_id == ahead
    for path, fields in (
        ("/runs/create", {"experiment_id": experiment, "start_time": 2**63}),
        ("/runs/update", {"run_id": run, "status": "FINISHED", "end_time": 2**63}),
    ):
        said(ask(wire, "POST", path, fields))
    assert mlflow_client.get_run(run).info.status == "RUNNING"
    assert len(mlflow_client.search_runs([experiment])) == 2


def test_unknown_ids_are_named_by_whoever_is_asked(wire: httpx.Client, run: str, unique: str) -> None:
    pair, model, version = {"key": "a", "value": "b"}, f"m-{NOBODY}", {"name": unique, "version": "1"}
    dataset = {"name": "a", "digest": "d", "source_type": "s", "source": "s"}
    noted = json.dumps({"artifact_path": "a", "flavors": {}, "utc_time_created": "x", "run_id": NOBODY})
    for path, fields in (
        ("runs/update", {"status": "FINISHED"}), ("runs/delete", {}), ("runs/restore", {}),
        ("runs/log-metric", {"key": "a", "value": 1, "timestamp": 1}), ("runs/log-parameter", pair),
        ("runs/log-batch", {"params": [pair]}), ("runs/set-tag", pair), ("runs/delete-tag", {"key": "a"}),
        ("runs/log-inputs", {"datasets": [{"dataset": dataset}]}), ("runs/log-model", {"model_json": noted}),
        ("runs/outputs", {"models": [{"model_id": model, "step": 0}]}),
    ):  # fmt: skip
        answer = ask(wire, "POST", f"/{path}", {"run_id": NOBODY, **fields})
        assert f"Run with id={NOBODY} not found" in said(answer, 404, "RESOURCE_DOES_NOT_EXIST"), path
        long = ask(wire, "POST", f"/{path}", {"run_id": "x" * 100_000, **fields})
        assert long.status_code in (400, 404)
        said(long, long.status_code, long.json()["error_code"])
    for method, path, fields, named in (
        ("GET", "runs/get", {"run_id": NOBODY}, NOBODY),
        ("GET", "artifacts/list", {"run_id": NOBODY}, NOBODY),
        ("GET", "get-artifact", {"run_id": NOBODY, "path": "a"}, NOBODY),
        ("GET", "experiments/get", {"experiment_id": "987654321"}, "987654321"),
        ("GET", "experiments/get-by-name", {"experiment_name": unique}, unique),
        ("POST", "experiments/update", {"experiment_id": "987654321", "new_name": "x"}, "987654321"),
        ("POST", "experiments/delete", {"experiment_id": "987654321"}, "987654321"),
        ("POST", "experiments/restore", {"experiment_id": "987654321"}, "987654321"),
        ("POST", "experiments/set-experiment-tag", {"experiment_id": "987654321", **pair}, "987654321"),
        ("POST", "experiments/delete-experiment-tag", {"experiment_id": "987654321", "key": "a"}, "987654321"),
        ("POST", "runs/create", {"experiment_id": "987654321"}, "987654321"),
        ("POST", "runs/delete-tag", {"run_id": run, "key": "nothing"}, "nothing"),
        ("POST", "logged-models", {"experiment_id": "987654321"}, "987654321"),
        ("GET", f"logged-models/{model}", {}, model),
        ("PATCH", f"logged-models/{model}", {"status": "LOGGED_MODEL_READY"}, model),
        ("DELETE", f"logged-models/{model}", {}, model),
        ("POST", f"logged-models/{model}/params", {"params": [pair]}, model),
        ("PATCH", f"logged-models/{model}/tags", {"tags": [pair]}, model),
        ("DELETE", f"logged-models/{model}/tags/a", {}, model),
        ("GET", f"logged-models/{model}/artifacts/directories", {}, model),
        ("GET", "registered-models/get", {"name": unique}, unique),
        ("POST", "registered-models/rename", {"name": unique, "new_name": f"{unique}-b"}, unique),
        ("PATCH", "registered-models/update", {"name": unique, "description": "d"}, unique),
        ("DELETE", "registered-models/delete", {"name": unique}, unique),
        ("POST", "registered-models/get-latest-versions", {"name": unique}, unique),
        ("POST", "registered-models/set-tag", {"name": unique, **pair}, unique),
        ("DELETE", "registered-models/delete-tag", {"name": unique, "key": "a"}, unique),
        ("POST", "registered-models/alias", {**version, "alias": "champion"}, unique),
        ("POST", "model-versions/create", {"name": unique, "source": "s3://bucket/model"}, unique),
        ("GET", "model-versions/get", version, unique),
        ("PATCH", "model-versions/update", {**version, "description": "d"}, unique),
        ("DELETE", "model-versions/delete", version, unique),
        ("GET", "model-versions/get-download-uri", version, unique),
        ("GET", "model-versions/get-artifact", {**version, "path": "a"}, unique),
        ("POST", "model-versions/transition-stage", {**version, "stage": "Production"}, unique),
        ("POST", "model-versions/set-tag", {**version, **pair}, unique),
        ("DELETE", "model-versions/delete-tag", {**version, "key": "a"}, unique),
        ("GET", f"webhooks/{NOBODY}", {}, NOBODY),
        ("PATCH", f"webhooks/{NOBODY}", {"name": "x"}, NOBODY),
        ("DELETE", f"webhooks/{NOBODY}", {}, NOBODY),
        ("POST", f"webhooks/{NOBODY}/test", {}, NOBODY),
    ):
        assert named in said(ask(wire, method, f"/{path}", fields), 404, "RESOURCE_DOES_NOT_EXIST"), (method, path)
    # A history of nobody has no points, as in MLflow.
    assert ask(wire, "GET", "/metrics/get-history", {"run_id": NOBODY, "metric_key": "a"}).json() == {}


def test_path_tricks_are_refused_wherever_a_path_is_taken(
    wire: httpx.Client, mlflow_server: Server, mlflow_client: MlflowClient, experiment: str, run: str
) -> None:
    proxy = f"{mlflow_server.url}/api/2.0/mlflow-artifacts"
    for trick in (
        "../../x",
        "/etc/passwd",
        "a/../../x",
        "a//b",
        "a\\..\\b",
        "C:/x",
        "%2e%2e/x",
        "%252e%252e/x",
        "a\x00b",
    ):
        for method, address, query in (
            ("GET", "/get-artifact", {"run_id": run, "path": trick}),
            ("GET", "/artifacts/list", {"run_id": run, "path": trick}),
            ("GET", "/model-versions/get-artifact", {"name": "a", "version": "1", "path": trick}),
            ("POST", "/upload-artifact", {"run_uuid": run, "path": trick}),
        ):
            said(wire.request(method, address, params=query, content=b"x" if method == "POST" else None))
        for direction in ("upload", "download"):
            said(ask(wire, "POST", f"/artifacts/presigned-{direction}-url", {"run_id": run, "path": trick}))
        quoted = "".join(f"%{byte:02x}" for byte in trick.encode())
        said(wire.get(f"{proxy}/presigned/{quoted}"))
        said(wire.post(f"{proxy}/mpu/create/{quoted}", json={"path": "x", "num_parts": 1}))
    # A part's name is the client's own path, of which only the last name counts.
    begun = wire.post(f"{proxy}/mpu/create/{experiment}/{run}/artifacts", json={"path": "../../../x", "num_parts": 1})
    assert begun.status_code == 200, begun.text
    assert mlflow_client.list_artifacts(run) == []
