"""MLflow's protocol on the wire: what no well-meaning client sends, and what odd clients do."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from conftest import Server

BASE = "/api/2.0/mlflow"


@pytest.fixture
def run(mlflow_client: MlflowClient, experiment: str) -> str:
    """A run of this test's own."""
    return str(mlflow_client.create_run(experiment).info.run_id)


def post(server: Server, path: str, body: Any) -> httpx.Response:
    content = body if isinstance(body, (bytes, str)) else json.dumps(body)
    return httpx.post(
        f"{server.url}{BASE}{path}", content=content, headers={"Content-Type": "application/json"}, timeout=30
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/runs/log-metric", {}),
        ("/runs/log-metric", {"run_id": "RUN", "key": "a", "value": 1}),
        ("/runs/log-metric", {"run_id": "RUN", "key": "a", "timestamp": 1}),
        ("/runs/log-metric", {"run_id": "RUN", "key": "", "value": 1, "timestamp": 1}),
        ("/runs/log-metric", {"run_id": "RUN", "key": "a", "value": "x", "timestamp": 1}),
        ("/runs/log-metric", {"run_id": "RUN", "key": "a", "value": True, "timestamp": 1}),
        ("/runs/log-metric", {"run_id": "RUN", "key": "a", "value": [1], "timestamp": 1}),
        ("/runs/log-metric", {"run_id": "RUN", "key": "a", "value": 1, "timestamp": -1}),
        ("/runs/log-metric", {"run_id": "RUN", "key": "a", "value": 1, "timestamp": 2**64}),
        ("/runs/log-metric", {"run_id": "RUN", "key": "a", "value": 1, "timestamp": "soon"}),
        ("/runs/log-metric", {"run_id": "RUN", "key": "a", "value": 1, "timestamp": 1, "step": 1.5}),
        ("/runs/log-metric", {"run_id": "RUN", "key": "a/../b", "value": 1, "timestamp": 1}),
        ("/runs/log-metric", {"run_id": "RUN", "key": "../a", "value": 1, "timestamp": 1}),
        ("/runs/log-metric", {"run_id": "RUN", "key": "a\nb;", "value": 1, "timestamp": 1}),
        ("/runs/log-metric", {"run_id": "RUN", "key": "k" * 251, "value": 1, "timestamp": 1}),
        ("/runs/log-metric", {"run_id": 5, "key": "a", "value": 1, "timestamp": 1}),
        ("/runs/log-parameter", {"run_id": "RUN", "value": "x"}),
        ("/runs/log-parameter", {"run_id": "RUN", "key": "a", "value": 5}),
        ("/runs/log-parameter", {"run_id": "RUN", "key": "a", "value": "a\x00b"}),
        ("/runs/log-batch", {"metrics": []}),
        ("/runs/log-batch", {"run_id": "RUN", "metrics": {"a": 1}}),
        ("/runs/log-batch", {"run_id": "RUN", "metrics": [5]}),
        ("/runs/log-batch", {"run_id": "RUN", "metrics": [{"key": "a"}]}),
        ("/runs/log-batch", {"run_id": "RUN", "params": [{"key": "a", "value": "1"}, {"key": "a", "value": "1"}]}),
        ("/runs/log-batch", {"run_id": "RUN", "params": [{"key": f"p{i}", "value": "1"} for i in range(101)]}),
        (
            "/runs/log-batch",
            {"run_id": "RUN", "metrics": [{"key": "a", "value": 1, "timestamp": i} for i in range(1001)]},
        ),
        ("/runs/log-inputs", {"run_id": "RUN", "datasets": [{}]}),
        ("/runs/log-inputs", {"run_id": "RUN", "datasets": [{"dataset": {"name": "a"}}]}),
        ("/runs/update", {"run_id": "RUN", "status": "DONE"}),
        ("/runs/update", {"run_id": "RUN", "end_time": "later"}),
        ("/runs/search", {"experiment_ids": ["x"]}),
        ("/runs/search", {"experiment_ids": ["0"], "max_results": 50_001}),
        ("/runs/search", {"experiment_ids": ["0"], "max_results": 0}),
        ("/runs/search", {"experiment_ids": ["0"], "page_token": "nonsense"}),
        ("/runs/search", {"experiment_ids": ["0"], "order_by": ["metrics.a sideways"]}),
        ("/runs/search", {"experiment_ids": "0"}),
        ("/experiments/create", {"name": ""}),
        ("/experiments/create", {"name": "n" * 501}),
        ("/experiments/create", {"name": 5}),
        ("/experiments/create", {"name": "x", "artifact_location": "runs:/a/b"}),
        ("/experiments/create", b"{"),
        ("/experiments/create", b"[1]"),
        ("/experiments/create", b"\xff\xfe"),
        ("/experiments/create", b"[" * 100_000),
        ("/experiments/set-experiment-tag", {"experiment_id": "0", "key": "a", "value": "x" * 20_001}),
        ("/registered-models/create", {"name": ["a"]}),
        ("/model-versions/create", {"name": "x"}),
    ],
)
def test_a_wrong_request_is_refused_in_mlflows_form(mlflow_server: Server, run: str, path: str, body: Any) -> None:
    if isinstance(body, dict):
        body = {key: run if value == "RUN" else value for key, value in body.items()}
    response = post(mlflow_server, path, body)
    answer = response.json()
    assert (response.status_code, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), answer
    assert set(answer) == {"error_code", "message"}
    assert answer["message"]


def test_numbers_may_come_as_text_and_names_in_camel_case(
    mlflow_server: Server, mlflow_client: MlflowClient, run: str
) -> None:
    for value, kept in (("1.5", 1.5), ("2e3", 2000.0), ("Infinity", 1.7976931348623157e308)):
        body = {"runId": run, "key": "a", "value": value, "timestamp": "1700000000000", "step": str(int(kept) % 1000)}
        assert post(mlflow_server, "/runs/log-metric", body).status_code == 200
    points = mlflow_client.get_metric_history(run, "a")
    assert sorted(point.value for point in points) == [1.5, 2000.0, 1.7976931348623157e308]
    assert points[0].timestamp == 1_700_000_000_000


def test_a_run_id_that_could_be_a_path_is_a_run_that_is_not_there(mlflow_server: Server) -> None:
    answer = post(mlflow_server, "/runs/log-metric", {"run_id": "../../x", "key": "a", "value": 1, "timestamp": 1})
    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_old_clients_name_runs_by_uuid_and_encode_twice(mlflow_server: Server, run: str) -> None:
    body = json.dumps(json.dumps({"run_uuid": run, "key": "a", "value": "x"}))
    assert post(mlflow_server, "/runs/set-tag", body).status_code == 200
    answer = httpx.get(f"{mlflow_server.url}{BASE}/runs/get", params={"run_uuid": run}).json()
    assert {"key": "a", "value": "x"} in answer["run"]["data"]["tags"]


def test_unknown_fields_are_ignored_and_null_means_absent(mlflow_server: Server, run: str) -> None:
    body = {"run_id": run, "key": "a", "value": 1, "timestamp": 1, "step": None, "from_the_future": {"x": 1}}
    assert post(mlflow_server, "/runs/log-metric", body).status_code == 200


def test_long_values_are_cut_as_mlflow_cuts_them(mlflow_server: Server, mlflow_client: MlflowClient, run: str) -> None:
    assert (
        post(mlflow_server, "/runs/log-parameter", {"run_id": run, "key": "p", "value": "x" * 9_000_000}).status_code
        == 200
    )
    assert post(mlflow_server, "/runs/set-tag", {"run_id": run, "key": "t", "value": "x" * 10_000}).status_code == 200
    data = mlflow_client.get_run(run).data
    assert (len(data.params["p"]), len(data.tags["t"])) == (6000, 8000)


def test_a_body_beyond_the_limit_is_refused(mlflow_server: Server, run: str) -> None:
    response = post(mlflow_server, "/runs/log-parameter", {"run_id": run, "key": "p", "value": "x" * (17 << 20)})
    assert (response.status_code, response.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_empty_lists_and_missing_ends_are_left_out_of_answers(mlflow_server: Server, run: str) -> None:
    answer = httpx.get(f"{mlflow_server.url}{BASE}/runs/get", params={"run_id": run}).json()["run"]
    assert "end_time" not in answer["info"]
    assert "metrics" not in answer["data"]
    assert isinstance(answer["info"]["start_time"], int)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path", ["/api/2.0/mlflow/traces", "/api/3.0/mlflow/anything/else", "/api/2.0/mlflow/runs/gone"]
)
def test_every_other_path_is_not_supported(mlflow_server: Server, method: str, path: str) -> None:
    response = httpx.request(method, mlflow_server.url + path)
    assert (response.status_code, response.json()["error_code"]) == (501, "NOT_IMPLEMENTED")


def test_the_protocols_version_is_named(mlflow_server: Server) -> None:
    assert httpx.get(f"{mlflow_server.url}/version").text.startswith("3.")


def test_histories_of_many_runs_come_in_bulk(
    mlflow_server: Server, mlflow_client: MlflowClient, experiment: str
) -> None:
    uids = sorted(mlflow_client.create_run(experiment).info.run_id for _ in range(3))
    for uid in uids:
        mlflow_client.log_metric(uid, "loss", 1.0, timestamp=5, step=2)
    query = [("run_id", uid) for uid in uids] + [("metric_key", "loss")]
    answer = httpx.get(f"{mlflow_server.url}{BASE}/metrics/get-history-bulk", params=query).json()
    assert [point["run_id"] for point in answer["metrics"]] == uids


def test_histories_of_many_runs_come_thinned(
    mlflow_server: Server, mlflow_client: MlflowClient, experiment: str
) -> None:
    uids = [mlflow_client.create_run(experiment).info.run_id for _ in range(2)]
    for uid in uids:
        mlflow_client.log_batch(uid, metrics=[Metric("loss", step, step, step) for step in range(100)])

    def points(**query: object) -> list[tuple[str, int]]:
        asked = httpx.QueryParams({"run_ids": uids, "metric_key": "loss", **query})
        answer = httpx.get(f"{mlflow_server.url}{BASE}/metrics/get-history-bulk-interval", params=asked)
        assert answer.status_code == 200, answer.text
        return [(point["run_id"], point["step"]) for point in answer.json()["metrics"]]

    assert points() == [(uid, step) for uid in uids for step in range(100)]
    thinned = points(max_results=10)
    assert [step for uid, step in thinned if uid == uids[0]] == [0, 10, 20, 30, 40, 50, 60, 70, 80, 99]
    assert points(start_step=40, end_step=42) == [(uid, step) for uid in uids for step in (40, 41, 42)]


def test_experiments_are_searched_by_get_as_well(
    mlflow_server: Server, mlflow_client: MlflowClient, unique: str
) -> None:
    numbers = [mlflow_client.create_experiment(f"{unique}-{letter}") for letter in "ab"]
    query = {
        "filter": f"name LIKE '{unique}%'",
        "order_by": ["name DESC"],
        "max_results": 1,
        "view_type": "ACTIVE_ONLY",
    }
    first = httpx.get(f"{mlflow_server.url}{BASE}/experiments/search", params=query).json()
    query["page_token"] = first["next_page_token"]
    second = httpx.get(f"{mlflow_server.url}{BASE}/experiments/search", params=query).json()
    assert [page["experiments"][0]["experiment_id"] for page in (first, second)] == numbers[::-1]


def test_a_history_is_paged(mlflow_server: Server, mlflow_client: MlflowClient, run: str) -> None:
    for step in range(5):
        mlflow_client.log_metric(run, "a", step, timestamp=step, step=step)
    seen: list[int] = []
    token = ""
    while True:
        query = {"run_id": run, "metric_key": "a", "max_results": 2} | ({"page_token": token} if token else {})
        answer = httpx.get(f"{mlflow_server.url}{BASE}/metrics/get-history", params=query).json()
        seen += [point["step"] for point in answer["metrics"]]
        token = answer.get("next_page_token", "")
        if not token:
            break
    assert seen == [0, 1, 2, 3, 4]


def test_prompts_are_not_supported_and_say_so(mlflow_server: Server) -> None:
    tags = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    response = post(mlflow_server, "/registered-models/create", {"name": "prompt", "tags": tags})
    assert (response.status_code, response.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
