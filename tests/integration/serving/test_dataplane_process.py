"""The data plane as a real process against a simulated control plane: it answers, refuses, survives, ships."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from everline.canonical import canonical_json
from everline.governance.signing import SigningKey
from everline.models.package import Package, open_package
from everline.models.signing import sign_package
from everline.serving.dataplane.routing import position
from everline.serving.types import DesiredEndpoint, Guard, RevisionRole
from everline.testing.control_plane_simulator import ControlPlaneSimulator
from tests_support.dataplane import Running, Start, eventually, flights, logged


def test_a_released_model_answers_with_ids_and_origin_and_every_answer_is_logged(
    running: Running, packages: list[Package]
) -> None:
    control, plane = running
    revision = control.release(packages[0])
    plane.follows(control.serve(revision))
    asked = flights(5, id="flight-1", parameters={"event_time": "2013-06-01T05:00:00Z"})
    answer = plane.client.post("/v2/models/flight-delay/infer", json=asked)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["id"], body["model_name"], body["model_version"]) == ("flight-1", "flight-delay", "1")
    assert body["parameters"]["revision"] == revision.revision == answer.headers["everline-revision"]
    assert body["parameters"]["release"] == revision.release == answer.headers["everline-release"]
    ids = body["parameters"]["predictions"]
    assert answer.headers["everline-predictions"].split(",") == ids
    expected = packages[0].load().predict({one["name"]: one["data"] for one in asked["inputs"]})
    assert body["outputs"][0]["data"] == expected["probability"].tolist()
    assert body["outputs"][1] == {
        "name": "label", "datatype": "BOOL", "shape": [5], "data": expected["label"].tolist()
    }  # fmt: skip

    eventually(lambda: len(logged(control, revision)) == 5)
    rows = logged(control, revision)
    assert [row["prediction"] for row in rows] == ids
    assert [row["row"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[0]["event_time"].isoformat() == "2013-06-01T05:00:00+00:00"
    assert {row["package"] for row in rows} == {packages[0].digest}
    assert {row["request"] for row in rows} == {"flight-1"}
    # A logged prediction can be replayed: the same inputs give the same bits.
    again = packages[0].load().predict({name: [row["inputs"][name] for row in rows] for name in rows[0]["inputs"]})
    assert again["probability"].tolist() == [row["outputs"]["probability"] for row in rows]
    assert str(control.schemas()[0].field("inputs").type) == "struct<distance: double, hour: int64, carrier: string>"


def test_protocol_addresses_health_and_metrics(running: Running, packages: list[Package]) -> None:
    control, plane = running
    plane.follows(control.serve(control.release(packages[0], version=3)))
    get = plane.client.get
    assert get("/v2").json()["name"] == "everline"
    assert get("/v2/health/live").status_code == get("/v2/health/ready").status_code == 200
    described = get("/v2/models/flight-delay").json()
    assert [one["name"] for one in described["inputs"]] == ["distance", "hour", "carrier"]
    assert described["versions"] == ["3"]
    assert get("/v2/models/flight-delay/versions/3").json() == described
    assert get("/v2/models/flight-delay/ready").json()["ready"] is True
    assert plane.client.post("/v2/models/flight-delay/versions/3/infer", json=flights()).status_code == 200
    assert plane.ask(rows=600).status_code == 413
    metrics = get("/metrics").text
    assert re.search(r'everline_requests_total\{code="200",endpoint="flight-delay",revision="[^"]+"\} 1.0', metrics)
    assert "everline_request_seconds_bucket" in metrics
    assert "everline_requests_in_flight{" in metrics
    assert 'reason="too_large"' in metrics
    report = plane.wait_for(lambda health: health["revisions"][0]["requests"] == 1)["revisions"][0]
    assert report["ready"] is True
    assert report["errors"] == 0
    assert report["p50_ms"] > 0
    eventually(lambda: any(one.requests == 1 for report in control.reports for one in report.revisions))
    assert control.reports[-1].address == str(plane.client.base_url).rstrip("/")


def test_mlflow_forms_give_the_same_answer(running: Running, packages: list[Package]) -> None:
    control, plane = running
    plane.follows(control.serve(control.release(packages[0])))
    records = [{"distance": 100.5, "hour": 7, "carrier": "AA"}, {"distance": None, "hour": 9, "carrier": "UA"}]
    columns = list(records[0])
    forms: list[dict[str, Any]] = [
        {"dataframe_records": records},
        {"instances": records},
        {"dataframe_split": {"index": [0, 1], "columns": columns, "data": [list(r.values()) for r in records]}},
        {"inputs": {name: [record[name] for record in records] for name in columns}},
        {"inputs": [list(record.values()) for record in records]},
    ]
    answers = [plane.client.post("/invocations", json=form) for form in forms]
    answers.append(plane.client.post("/endpoints/flight-delay/invocations", json=forms[0]))
    assert [answer.status_code for answer in answers] == [200] * 6, [answer.text for answer in answers]
    assert all(answer.json()["predictions"] == answers[0].json()["predictions"] for answer in answers)
    assert answers[0].json()["predictions"][0].keys() == {"probability", "label"}
    assert len(answers[0].json()["parameters"]["predictions"]) == 2


BAD_BODIES: list[tuple[str, Any, int, str]] = [
    ("no JSON", b"{", 400, "not JSON"),
    ("empty", b"", 400, "not JSON"),
    ("not UTF-8", b'{"inputs": "\xff"}', 400, "not JSON|does not fit"),
    ("NaN", b'{"inputs":[{"name":"hour","shape":[1],"datatype":"FP64","data":[NaN]}]}', 400, "null for a missing"),
    ("deep", b"[" * 100000, 400, "not JSON|does not fit"),
    ("a list", b"[]", 400, "does not fit the protocol at the top: Expected `object`"),
    ("no inputs", {}, 400, "missing required field `inputs`"),
    ("empty inputs", {"inputs": []}, 400, "no inputs"),
    ("inputs no list", {"inputs": 3}, 400, "at inputs"),
    ("wrong shape", lambda b: b["inputs"][0].update(shape=[3]), 400, r"'distance' has 2 values; its shape \[3\]"),
    ("negative shape", lambda b: b["inputs"][0].update(shape=[-2]), 400, "'distance' has the shape"),
    ("no shape", lambda b: b["inputs"][0].update(shape=[]), 400, "'distance' has the shape"),
    ("huge shape", lambda b: b["inputs"][0].update(shape=[10**30]), 400, "'distance'|inputs"),
    ("unknown datatype", lambda b: b["inputs"][0].update(datatype="FP128"), 400, "unknown datatype 'FP128'"),
    ("wrong type", lambda b: b["inputs"][1].update(data=["x", 1]), 400, "'hour' must be of type long: row 0 holds 'x'"),
    ("fraction", lambda b: b["inputs"][1].update(data=[1, 2.5]), 400, "'hour' must be of type long: row 1"),
    ("boolean for number", lambda b: b["inputs"][0].update(data=[True, 1.0]), 400, "'distance' must be of type"),
    ("null", lambda b: b["inputs"][1].update(data=[None, 1]), 400, "'hour' may not be null: row 0"),
    ("overflow", b'{"inputs":[{"name":"hour","shape":[1],"datatype":"FP64","data":[1e999]}]}', 400, "out of range"),
    ("big integer", lambda b: b["inputs"][1].update(data=[2**70, 1]), 400, "'hour' must fit type long|must be of"),
    (
        "endless integer",
        b'{"inputs":[{"name":"hour","shape":[1],"datatype":"FP64","data":[1' + b"0" * 9000 + b"]}]}",
        400,
        "",
    ),
    ("objects", lambda b: b["inputs"][0].update(data=[{}, {}]), 400, "'distance' must be of type double"),
    ("ragged", lambda b: b["inputs"][0].update(data=[[1.0, 2.0], 3.0]), 400, "3 values"),
    ("surrogate", b'{"inputs":[{"name":"carrier","shape":[1],"datatype":"BYTES","data":["\\ud800"]}]}', 400, ""),
    ("missing column", lambda b: b["inputs"].pop(1), 400, "The input 'hour' is missing. Send a whole number"),
    ("unknown column", lambda b: b["inputs"][1].update(name="hours"), 400, "The model has no input 'hours'"),
    ("twice", lambda b: b["inputs"][1].update(name="distance"), 400, "'distance' is there twice"),
    ("other length", lambda b: b["inputs"][1].update(shape=[1], data=[5]), 400, "'hour' has 1 values"),
    ("no rows", lambda b: [one.update(shape=[0], data=[]) for one in b["inputs"]], 400, "no rows"),
    ("bad event time", lambda b: b.update(parameters={"event_time": "noon"}), 400, "event_time 'noon'"),
    ("event time type", lambda b: b.update(parameters={"event_time": [1, 2]}), 400, "event_time"),
    ("event time edge", lambda b: b.update(parameters={"event_time": "0001-01-01T00:00:00+10:00"}), 400, "event_time"),
    ("event time count", lambda b: b.update(parameters={"event_time": ["2013-01-01"]}), 400, "each of the 2 rows"),
    ("bad id", lambda b: b.update(id="x\n" * 3), 400, "id is longer"),
    ("unknown output", lambda b: b.update(outputs=[{"name": "price"}]), 400, "no output 'price'"),
    ("too large", b" " * 200_001, 413, "larger than 200000 bytes"),
]


def test_bad_input_is_a_sentence_that_names_the_field_never_a_500(running: Running, packages: list[Package]) -> None:
    control, plane = running
    plane.follows(control.serve(control.release(packages[0])))
    for name, bad, status, says in BAD_BODIES:
        if callable(bad):
            changed = flights()
            bad(changed)
            bad = changed
        content = bad if isinstance(bad, bytes) else json.dumps(bad).encode()
        answer = plane.client.post("/v2/models/flight-delay/infer", content=content)
        assert answer.status_code == status, (name, answer.status_code, answer.text)
        assert re.search(says, answer.json()["error"]), (name, answer.text)
        assert "Traceback" not in answer.text
    for form, says in (
        ({}, "none of the forms"),
        ({"instances": [[1]], "inputs": {}}, "instances and inputs"),
        ({"instances": 3}, "instances must be an object of columns"),
        ({"instances": [1, {"a": 1}]}, "list of objects"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, "Row 0 of dataframe_split has 2 values for 1"),
        ({"dataframe_records": [{"hour": 1}, {"day": 1}]}, "Row 1 of dataframe_records"),
        ({"dataframe_records": []}, "no rows"),
        ({"dataframe": []}, "unknown field `dataframe`"),
        ({"inputs": "x"}, "must be an object of columns"),
    ):
        answer = plane.client.post("/invocations", json=form)
        assert answer.status_code == 400, (form, answer.text)
        assert says in answer.json()["error"], (form, answer.text)
    for method, path, status in (
        ("POST", "/v2/models/nothing/infer", 404),
        ("POST", "/v2/models/..%2F..%2Fetc/infer", 404),
        ("POST", "/v2/models/flight-delay/versions/9/infer", 404),
        ("GET", "/v2/models/nothing", 404),
        ("GET", "/v2/models/flight-delay/versions/x", 404),
        ("GET", "/nothing", 404),
        ("GET", "/v2/models/flight-delay/infer", 405),
        ("DELETE", "/v2/models/flight-delay", 404),
    ):
        answer = plane.client.request(method, path, json=flights() if method == "POST" else None)
        assert answer.status_code == status, (method, path, answer.text)
        assert answer.json()["error"]
    for content, header, says in (
        (b"x", ("Inference-Header-Content-Length", "2"), "the body has 1 bytes"),
        (json.dumps(flights()).encode() + b"xy", ("Inference-Header-Content-Length", "5"), "not JSON"),
        (gzip.compress(b" " * 1_000_000), ("Content-Encoding", "gzip"), "larger than 200000 bytes once it is"),
        (gzip.compress(b"{}")[:-3], ("Content-Encoding", "gzip"), "ends in the middle"),
        (b"{}", ("Content-Encoding", "gzip"), "cannot be decompressed"),
        (b"{}", ("Content-Encoding", "br"), "is not read"),
    ):
        answer = plane.client.post("/v2/models/flight-delay/infer", content=content, headers=dict([header]))
        assert 400 <= answer.status_code < 500, (header, answer.text)
        assert says in answer.json()["error"]
    assert plane.ask().status_code == 200
    assert "Traceback" not in plane.stderr()


def test_values_outside_of_the_training_data_are_answered_and_counted(
    running: Running, packages: list[Package]
) -> None:
    control, plane = running
    plane.follows(control.serve(control.release(packages[0]), guard=Guard.FLAG))
    asked = flights()
    asked["inputs"][0]["data"] = [8000.0, 8000]
    asked["inputs"][2]["data"] = ["ZZ", "AA"]
    asked["inputs"].append({"name": "gate", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]})
    answer = plane.client.post("/v2/models/flight-delay/infer", json=asked)
    assert answer.status_code == 200, answer.text
    flags = " ".join(answer.json()["parameters"]["flags"])
    assert "'distance' lies outside" in flags
    assert "'carrier' holds a category" in flags
    assert "no input 'gate'" in flags
    metrics = plane.client.get("/metrics").text
    assert re.search(r'everline_input_flags_total\{[^}]*field="distance",problem="range"[^}]*\} 2.0', metrics)


def test_the_canary_gets_its_share_and_the_same_request_the_same_revision(
    running: Running, packages: list[Package]
) -> None:
    control, plane = running
    first = control.release(packages[0], share=0.75)
    second = control.release(packages[1], version=2, role=RevisionRole.CANARY, share=0.25)
    plane.follows(control.serve(first, second))
    for number in range(60):
        expected = "2" if position(f"r{number}") < 0.25 else "1"
        assert plane.ask(1, id=f"r{number}").json()["model_version"] == expected
    assert plane.client.post("/v2/models/flight-delay/versions/2/infer", json=flights()).json()["model_version"] == "2"


def test_a_tampered_file_refuses_that_revision_only_until_it_is_mended(
    running: Running, packages: list[Package]
) -> None:
    control, plane = running
    good = control.release(packages[0], share=0.9)
    digests = {entry.path: entry.digest for entry in packages[1].manifest.files} | {"everline.json": packages[1].digest}
    plane.follows(control.serve(good))
    kept = plane.home / "dataplane" / "packages" / packages[1].digest.removeprefix("sha256:")
    for name, digest in digests.items():
        shutil.rmtree(kept, ignore_errors=True)
        whole = control.blobs.get(digest) or (packages[1].directory / name).read_bytes()
        bad = control.release(packages[1], version=2, role=RevisionRole.CANARY, share=0.1)
        control.blobs[digest] = whole[:-1] + bytes([whole[-1] ^ 1])
        control.serve(good, bad)
        health = plane.wait_for(lambda h: any(one["version"] == 2 for one in h["revisions"]))
        state = {one["version"]: one for one in health["revisions"]}
        assert state[1]["ready"], name
        assert not state[2]["ready"], name
        assert re.search(r"sent the bytes of sha256:\w+ as the blob " + digest, state[2]["reason"]), name
        assert health["status"] == "degraded"
        assert {plane.ask(1, id=f"r{n}").json()["model_version"] for n in range(20)} == {"1"}
        control.blobs[digest] = whole
        plane.ready(2)
        plane.follows(control.serve(good))
    assert "refused flight-delay: flight-delay/2" in plane.stderr()


def foreign_package(packages: list[Package], tmp_path: Path) -> Package:
    """Another whole package, as somebody with access to the blob store could put in place of a released one."""
    directory = tmp_path / "foreign"
    shutil.copytree(packages[1].directory, directory)
    manifest = json.loads((directory / "everline.json").read_text())
    manifest["metadata"]["purpose"] = "evil"
    (directory / "everline.json").write_bytes(canonical_json(manifest))
    return open_package(directory)


def test_what_was_not_released_is_not_loaded(running: Running, packages: list[Package], tmp_path: Path) -> None:
    control, plane = running
    honest = control.key
    one = packages[0]
    good = control.release(one)
    foreign = control.release(foreign_package(packages, tmp_path))
    control.key = SigningKey.generate()
    stranger = control.release(one).statement
    control.key = honest
    strange_signature = control.put(canonical_json(sign_package(one, SigningKey.generate())))
    lost = control.put(b"{}")
    del control.blobs[lost]
    cases = [
        (control.release(one, endpoint="other"), "for the endpoint 'other', not 'flight-delay'"),
        (control.release(one, project="other"), "for the project 'other', not 'default'"),
        (control.release(one, release="other"), "for the release 'other'"),
        (control.release(one, digest=packages[1].digest), "lets another package pass"),
        (control.release(one, properties=["EVERLINE_CHECKED"]), "not a release decision"),
        (replace(good, statement=stranger), "not signed by a trusted key"),
        (replace(good, statement={}), "not a whole DSSE envelope"),
        (replace(good, version=9), "is for 'flight-delay/1', not 'flight-delay/9'"),
        (replace(good, package=foreign.package), "lets another package pass"),
        (replace(good, signature=foreign.signature), "package signature was made for another package"),
        (replace(good, signature=strange_signature), "not signed by a trusted key"),
        (replace(good, signature=lost), "has no blob"),
    ]
    for bad, says in cases:
        generation = control.serve(bad)
        health = plane.wait_for(lambda h, g=generation: h["generation"] == g)
        assert not health["revisions"][0]["ready"]
        assert says in health["revisions"][0]["reason"]
    assert plane.client.get("/v2/health/ready").status_code == 503
    answer = plane.ask()
    assert answer.status_code == 503
    assert says in answer.json()["error"]
    assert answer.headers["retry-after"]
    eventually(lambda: any(says in (item.reason or "") for report in control.reports for item in report.revisions))
    plane.follows(control.serve(good))


def test_a_broken_new_primary_leaves_the_old_one_answering(running: Running, packages: list[Package]) -> None:
    control, plane = running
    plane.follows(control.serve(control.release(packages[0])))
    control.serve(control.release(packages[1], version=2, endpoint="other"))
    health = plane.wait_for(lambda h: any(one["version"] == 2 for one in h["revisions"]))
    assert [(one["version"], one["ready"]) for one in health["revisions"]] == [(2, False), (1, True)]
    assert plane.ask().json()["model_version"] == "1"
    plane.follows(control.serve(control.release(packages[1], version=2)))
    assert plane.ask().json()["model_version"] == "2"
    control.serve()
    plane.wait_for(lambda h: not h["revisions"])
    assert plane.ask().status_code == 503
    control.desire()
    eventually(lambda: plane.ask().status_code == 404)


def test_it_restarts_and_answers_with_the_control_plane_gone_and_ships_later(
    control: ControlPlaneSimulator, start: Start, packages: list[Package]
) -> None:
    control.serve(control.release(packages[0]))
    plane = start()
    plane.ready()
    before = plane.ask(id="a").json()
    control.down = True
    plane.end(signal.SIGKILL)
    again = start()
    again.ready()
    after = again.ask(id="a").json()
    assert after["outputs"] == before["outputs"]
    assert again.client.get("/health").json()["control_plane"] != "reachable"
    logged = before["parameters"]["predictions"] + after["parameters"]["predictions"]
    time.sleep(1)
    control.down = False
    eventually(lambda: {row["prediction"] for row in control.predictions()} == set(logged))


def test_a_package_that_was_changed_on_disk_is_not_loaded_after_a_restart(
    control: ControlPlaneSimulator, start: Start, packages: list[Package], tmp_path: Path
) -> None:
    control.serve(control.release(packages[0]))
    plane = start()
    plane.ready()
    assert plane.end() == 0
    model = next((tmp_path / "home" / "dataplane" / "packages").glob("*/model.skops"))
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(bytes(data))
    control.down = True
    again = start()
    health = again.wait_for(lambda h: bool(h.get("revisions")))
    assert "'model.skops' has the digest" in health["revisions"][0]["reason"]
    control.down = False
    again.ready()


def test_the_first_key_is_pinned_and_another_server_is_not_believed(
    control: ControlPlaneSimulator, start: Start, packages: list[Package]
) -> None:
    control.serve(control.release(packages[0]))
    plane = start()
    plane.ready()
    control.key = SigningKey.generate()
    control.serve(control.release(packages[1], version=2))
    health = plane.wait_for(lambda h: any(one["version"] == 2 for one in h["revisions"]))
    assert "not signed by a trusted key" in health["revisions"][0]["reason"]
    assert plane.ask().json()["model_version"] == "1"


def test_a_key_given_at_the_start_is_the_only_one_believed(
    control: ControlPlaneSimulator, start: Start, packages: list[Package], tmp_path: Path
) -> None:
    control.serve(control.release(packages[0]))
    file = tmp_path / "other.pub"
    file.write_text(SigningKey.generate().public_text)
    health = start("--key", str(file)).wait_for(lambda h: bool(h.get("revisions")))
    assert "not signed by a trusted key" in health["revisions"][0]["reason"]


def test_kill_minus_nine_loses_no_answered_prediction(
    control: ControlPlaneSimulator, start: Start, packages: list[Package]
) -> None:
    control.serve(control.release(packages[0]))
    answered: list[str] = []

    def keep_asking(number: int, url: httpx.URL) -> None:
        with httpx.Client(base_url=url, timeout=20) as client:
            while True:
                try:
                    answer = client.post("/v2/models/flight-delay/infer", json=flights(1 + number))
                except httpx.TransportError:
                    return
                answered.extend(answer.json()["parameters"]["predictions"])

    for life_s in (0.5, 1.0):
        plane = start()
        plane.ready()
        askers = [threading.Thread(target=keep_asking, args=(number, plane.client.base_url)) for number in range(4)]
        for asker in askers:
            asker.start()
        time.sleep(life_s)
        plane.end(signal.SIGKILL)
        for asker in askers:
            asker.join()
    start().ready()
    assert answered
    eventually(lambda: set(answered) <= {row["prediction"] for row in control.predictions()})
    shipped = [row["prediction"] for row in control.predictions()]
    assert len(shipped) == len(set(shipped))


def test_a_dead_shipper_is_started_again(running: Running, packages: list[Package]) -> None:
    control, plane = running
    plane.follows(control.serve(control.release(packages[0])))
    children = Path(f"/proc/{plane.process.pid}/task/{plane.process.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGKILL)
    ids = set(plane.ask().json()["parameters"]["predictions"])
    eventually(lambda: ids <= {row["prediction"] for row in control.predictions()})


def test_refused_segments_are_kept_aside_and_told(running: Running, packages: list[Package]) -> None:
    control, plane = running
    plane.follows(control.serve(control.release(packages[0])))
    control.refuse_segments, before = 500, control.segment_posts
    plane.ask()
    eventually(lambda: control.segment_posts >= before + 2)
    control.refuse_segments = 400
    plane.wait_for(lambda h: h["segments_refused"] == 1)
    assert len(list((plane.home / "dataplane" / "refused").glob("*.parquet"))) == 1
    control.refuse_segments = 0
    ids = set(plane.ask().json()["parameters"]["predictions"])
    eventually(lambda: ids <= {row["prediction"] for row in control.predictions()})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_is_at_hand_ships_it_and_exits_with_0(
    control: ControlPlaneSimulator, start: Start, packages: list[Package], number: int
) -> None:
    control.serve(control.release(packages[0]))
    plane = start(EVERLINE_RAW_SEGMENT_S="600")
    plane.ready()
    answers: list[httpx.Response] = []
    large = flights(400)
    asker = threading.Thread(
        target=lambda: answers.append(plane.client.post("/v2/models/flight-delay/infer", json=large))
    )
    asker.start()
    time.sleep(0.05)
    plane.process.send_signal(number)
    asker.join()
    assert plane.process.wait(30) == 0
    assert answers[0].status_code == 200
    assert len(control.predictions()) == 400
    assert not list(plane.home.glob("dataplane/spool/*"))
    assert not list(plane.home.glob("dataplane/outbox/*"))


def test_too_many_requests_at_once_are_told_to_come_back(
    control: ControlPlaneSimulator, start: Start, packages: list[Package]
) -> None:
    control.serve(control.release(packages[0]))
    plane = start(EVERLINE_REQUESTS_IN_FLIGHT_MAX="2")
    plane.ready()
    codes: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=plane.client.base_url, timeout=20) as client:
            for _ in range(5):
                answer = client.post("/v2/models/flight-delay/infer", json=flights(300))
                codes.append(answer.status_code)
                if answer.status_code == 503:
                    assert answer.headers["retry-after"] == "1"
                    assert "at hand" in answer.json()["error"]

    askers = [threading.Thread(target=ask) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert set(codes) == {200, 503}


def test_a_body_that_does_not_arrive_is_not_waited_for(control: ControlPlaneSimulator, start: Start) -> None:
    plane = start(EVERLINE_REQUEST_S="0.3")
    plane.wait_for(lambda h: h.get("status") == "ok")
    with socket.create_connection((plane.client.base_url.host, plane.client.base_url.port or 80), timeout=10) as slow:
        slow.sendall(b"POST /v2/models/x/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_nothing_is_answered_that_cannot_be_logged(
    control: ControlPlaneSimulator, start: Start, packages: list[Package]
) -> None:
    control.serve(control.release(packages[0]))
    plane = start(EVERLINE_SPOOL_BYTES_MAX="2000")
    plane.ready()
    control.refuse_segments = 500
    codes = [plane.ask(50).status_code for _ in range(10)]
    assert codes[0] == 200
    assert codes[-1] == 503
    assert "prediction log waits" in plane.ask().json()["error"]


def test_two_processes_do_not_share_a_home(control: ControlPlaneSimulator, start: Start, tmp_path: Path) -> None:
    start()
    other = subprocess.run(
        [sys.executable, "-m", "everline", "serve", "--port", "0", "--home", str(tmp_path / "home")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert other.returncode == 2
    assert "Another data plane serves from" in other.stderr
    assert "Everline data plane" not in other.stdout, "an address was announced before the home was taken"


def test_several_endpoints_are_told_apart(running: Running, packages: list[Package]) -> None:
    control, plane = running
    one = control.release(packages[0])
    two = control.release(packages[0], project="second")
    generation = control.desire(
        DesiredEndpoint(endpoint="flight-delay", project="default", guard=Guard.REJECT, revisions=[one]),
        DesiredEndpoint(endpoint="flight-delay", project="second", guard=Guard.REJECT, revisions=[two]),
    )
    plane.follows(generation)
    assert plane.ask().status_code == 400
    chosen = plane.client.post("/v2/models/flight-delay/infer", json=flights(), headers={"Everline-Project": "second"})
    assert chosen.json()["parameters"]["revision"] == two.revision
    assert "More than one endpoint" in plane.client.post("/invocations", json={"instances": []}).json()["error"]
