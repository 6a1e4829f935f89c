"""The serving faces over HTTP, embedded and as a process: status codes, long poll, roles, and kill -9."""

import threading
import time
from datetime import UTC, datetime

import httpx
import pytest

from everline.access.types import Role
from everline.errors import InvalidInputError, NotFoundError
from everline.ids import digest_bytes, new_uid
from everline.serving.types import Outcome
from tests_support.segments import flights, segment

NOON = datetime(2013, 5, 1, 12, tzinfo=UTC)


def ship(client, data, **query):
    parameters = {"endpoint": "flight-delay"} | query
    return client.send(
        "POST",
        "/api/v1/dataplane/segments",
        query=parameters,
        content=data,
        headers={"Everline-Digest": digest_bytes(data)},
    )


def test_the_client_walks_from_endpoint_to_outcome(client):
    client.endpoints.create("flight-delay")
    data, ids = segment(flights(3), at=NOON)
    assert ship(client, data, rows=3).status == 201
    assert ship(client, data, rows=3).json()["stored"] is False
    receipt = client.predictions.log_feedback("flight-delay", {ids[0]: True, new_uid(): False}, event_time=NOON)
    assert (receipt.stored, receipt.unmatched_yet) == (2, 1)
    assert client.predictions.log_feedback("flight-delay", [Outcome(prediction=ids[1], outcome=0.5)]).stored == 1
    assert [one.prediction for one in client.predictions.list("flight-delay", limit=2)] == ids[:0:-1]
    assert len(client.predictions.list("flight-delay", limit=100)) == 3
    found = client.predictions.get(ids[0])
    assert found.outcome is True
    assert found.inputs["carrier"] == "UA"
    assert [one.name for one in client.endpoints.list()] == ["flight-delay"]
    assert client.endpoints.traffic("flight-delay") == []
    assert client.endpoints.address("flight-delay") is None


def test_health_that_a_data_plane_reports_shows_where_the_endpoint_answers(client):
    body = {
        "replica": "r1",
        "address": "http://127.0.0.1:8081",
        "at": "2013-05-01T12:00:00.000000Z",
        "generation": 1,
        "spool_bytes": 0,
        "segments_refused": 0,
        "revisions": [
            {"endpoint": "flight-delay", "project": "default", "revision": new_uid(), "ready": True, "requests": 3,
             "p50_ms": 0.8, "p95_ms": 1.2, "p99_ms": None, "flags": 0, "something_new": 1}
        ],
    }  # fmt: skip
    client.endpoints.create("flight-delay")
    client.call("POST", "/dataplane/health", body=body)
    assert client.endpoints.address("flight-delay") == "http://127.0.0.1:8081"
    assert client.endpoints.health("flight-delay")[0].p95_ms == 1.2
    assert client.endpoints.replicas()[0].revisions[0].requests == 3


def test_a_question_for_newer_state_is_held_until_something_changes(client):
    first = client.call("GET", "/dataplane/state", returns=dict)
    started = time.monotonic()
    same = client.call(
        "GET", "/dataplane/state", query={"generation": first["generation"], "wait_s": 0.4}, returns=dict
    )
    assert same == first
    assert time.monotonic() - started >= 0.4
    other = threading.Timer(0.3, lambda: client.endpoints.create("prices"))
    other.start()
    started = time.monotonic()
    newer = client.call(
        "GET", "/dataplane/state", query={"generation": first["generation"], "wait_s": 15}, returns=dict
    )
    other.join()
    assert newer["generation"] > first["generation"]
    assert [one["endpoint"] for one in newer["endpoints"]] == ["prices"]
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/endpoints", b'{"name": "../etc"}', 400),
        ("POST", "/endpoints", b'{"name": "x", "guard": "maybe"}', 400),
        ("POST", "/endpoints", b"{", 400),
        ("GET", "/endpoints/nowhere", None, 404),
        ("GET", "/endpoints/nowhere/predictions", None, 404),
        ("GET", "/endpoints/%00", None, 404),
        ("GET", "/endpoints/%00/predictions", None, 404),
        ("GET", "/endpoints/%00/health", None, 404),
        (
            "POST",
            "/dataplane/health",
            b'{"replica": "r", "revisions": [{"endpoint": "x\\u0000", "project": "x", "revision": "x"}]}',
            400,
        ),
        ("POST", "/dataplane/health", b'{"replica": "r\\u0000"}', 400),
        ("GET", "/predictions/nothing", None, 400),
        ("GET", "/dataplane/state?generation=x", None, 400),
        ("GET", "/dataplane/state?wait_s=nan", None, 400),
        ("POST", "/dataplane/segments", b"PAR1", 400),
        ("POST", "/dataplane/segments?endpoint=a/b", b"PAR1", 400),
        ("POST", "/dataplane/health", b'{"replica": 5}', 400),
        ("POST", "/feedback", b'{"endpoint": "x", "items": [{"prediction": "x", "outcome": "late"}]}', 400),
        ("POST", "/feedback", b'{"endpoint": "nowhere", "items": []}', 404),
    ],
)
def test_bad_requests_answer_what_is_wrong_and_never_500(client, method, path, content, status):
    response = client.transport.exchange(method, "/api/v1" + path, content=content)
    assert response.status == status
    assert response.json()["detail"]


def test_client_errors_are_those_of_the_server(client):
    with pytest.raises(NotFoundError):
        client.endpoints.get("nowhere")
    with pytest.raises(InvalidInputError):
        client.predictions.get("nothing")


def test_an_acknowledged_segment_and_outcome_survive_kill_9(server, tokens):
    base = f"{server.url}/api/v1"
    httpx.post(f"{base}/endpoints", json={"name": "flight-delay"}).raise_for_status()
    data, ids = segment(flights(2), at=NOON)
    httpx.post(f"{base}/dataplane/segments?endpoint=flight-delay", content=data).raise_for_status()
    body = {"endpoint": "flight-delay", "items": [{"prediction": ids[0], "outcome": True}]}
    httpx.post(f"{base}/feedback", json=body).raise_for_status()
    server.kill()
    server.start()
    found = httpx.get(f"{base}/predictions/{ids[0]}").json()
    assert found["outcome"] is True
    assert found["inputs"] == {"distance": 100.0, "carrier": "UA"}


def test_with_a_token_a_viewer_reads_and_does_not_write(server, tokens):
    httpx.post(f"{server.url}/api/v1/endpoints", json={"name": "flight-delay"}).raise_for_status()
    headers = {"Authorization": f"Bearer {tokens('vera', Role.VIEWER)}"}
    assert httpx.get(f"{server.url}/api/v1/endpoints", headers=headers).status_code == 200
    assert httpx.post(f"{server.url}/api/v1/endpoints", json={"name": "x"}, headers=headers).status_code == 403
    assert httpx.get(f"{server.url}/api/v1/dataplane/state", headers=headers).status_code == 403


def test_a_server_that_ends_does_not_wait_for_held_questions(server):
    generation = httpx.get(f"{server.url}/api/v1/dataplane/state").json()["generation"]
    url = f"{server.url}/api/v1/dataplane/state?generation={generation}&wait_s=20"
    answers = []
    asking = threading.Thread(target=lambda: answers.append(httpx.get(url, timeout=30).status_code))
    asking.start()
    time.sleep(0.5)
    started = time.monotonic()
    server.stop()
    asking.join()
    assert answers == [200]
    assert time.monotonic() - started < 8


def test_a_question_whose_asker_is_gone_frees_its_place(server):
    url = f"{server.url}/api/v1/dataplane/state?generation=0&wait_s=20"
    assert httpx.get(f"{server.url}/api/v1/dataplane/state").json()["generation"] == 0
    for _ in range(20):  # more than may be held open at once
        with pytest.raises(httpx.TimeoutException):
            httpx.get(url, timeout=0.3)
