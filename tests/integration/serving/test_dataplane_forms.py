"""One question in every form: the official Triton client, MLflow's forms, CSV, plain records; the answers agree."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from types import ModuleType
from typing import Any

import grpc
import httpx
import numpy as np
import pandas as pd
import pytest
from mlflow.deployments import get_deploy_client
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from tritonclient import grpc as triton_grpc
from tritonclient import http as triton
from tritonclient.grpc import service_pb2

from everline.models.package import Package
from everline.serving.dataplane.grpc.messages import CLASSES, MESSAGES, SERVICE
from everline.serving.types import Guard
from everline.testing.control_plane_simulator import ControlPlaneSimulator
from tests_support.dataplane import Running, Start, eventually, flights, logged
from tests_support.loops import run_apart

ROWS = 7


def columns(rows: int) -> dict[str, list[Any]]:
    return {tensor["name"]: tensor["data"] for tensor in flights(rows)["inputs"]}


def records(rows: int) -> list[dict[str, Any]]:
    given = columns(rows)
    return [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]


def tensors(rows: int, client: ModuleType = triton, *, shape: tuple[int, ...] | None = None) -> list[Any]:
    given = columns(rows)
    arrays = {
        "distance": np.array(given["distance"], dtype=np.float64),
        "hour": np.array(given["hour"], dtype=np.int64),
        "carrier": np.array(given["carrier"], dtype=np.object_),
    }
    kinds = {"distance": "FP64", "hour": "INT64", "carrier": "BYTES"}
    made = []
    for name, array in arrays.items():
        tensor = client.InferInput(name, list(shape or array.shape), kinds[name])
        made.append(tensor.set_data_from_numpy(array.reshape(shape or array.shape)))
    return made


@pytest.fixture
def answered(running: Running, packages: list[Package]) -> tuple[Running, list[float]]:
    """A running endpoint, and what it says to the question in the protocol's JSON."""
    control, plane = running
    plane.follows(control.serve(control.release(packages[0])))
    outputs = plane.client.post("/v2/models/flight-delay/infer", json=flights(ROWS)).json()["outputs"]
    return running, outputs[0]["data"]


@pytest.mark.parametrize("wanted", ["default", "named", "json"])
@pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 1)])
def test_the_official_triton_client_gets_the_same_answer_in_binary(
    answered: tuple[Running, list[float]], wanted: str, shape: tuple[int, ...]
) -> None:
    (control, plane), expected = answered
    with triton.InferenceServerClient(plane.client.base_url.netloc.decode()) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("flight-delay")
        assert client.is_model_ready("flight-delay", "1")
        assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        described = client.get_model_metadata("flight-delay", "1")
        assert [one["datatype"] for one in described["inputs"]] == ["FP64", "INT64", "BYTES"]
        outputs = {
            "default": None,
            "named": [triton.InferRequestedOutput("probability", binary_data=True)],
            "json": [triton.InferRequestedOutput(name, binary_data=False) for name in ("label", "probability")],
        }[wanted]
        answer = client.infer("flight-delay", tensors(ROWS, shape=shape), outputs=outputs, request_id="t")
        assert answer.get_response()["id"] == "t"
        assert answer.as_numpy("probability").tolist() == expected
        if wanted != "named":
            assert answer.as_numpy("label").tolist() == [one >= 0.5 for one in expected]
        squeezed = client.infer(
            "flight-delay",
            tensors(ROWS, shape=shape),
            request_compression_algorithm="gzip",
            model_version="1",
        )
        assert squeezed.as_numpy("probability").tolist() == expected
        with pytest.raises(triton.InferenceServerException, match="does not serve the endpoint 'nothing'"):
            client.infer("nothing", tensors(1))
        lacking = tensors(ROWS)[:2]
        with pytest.raises(triton.InferenceServerException, match="The input 'carrier' is missing"):
            client.infer("flight-delay", lacking)


def test_every_form_gives_the_same_answer_and_the_log_keeps_the_same_inputs(
    answered: tuple[Running, list[float]],
) -> None:
    (control, plane), expected = answered
    rows = records(ROWS)
    names = list(rows[0])
    csv = "\n".join([",".join(names), *(",".join("" if v is None else str(v) for v in row.values()) for row in rows)])
    invocations: list[tuple[bytes, dict[str, str]]] = [
        (json.dumps({"dataframe_records": rows}).encode(), {}),
        (json.dumps({"dataframe_split": {"columns": names, "data": [list(r.values()) for r in rows]}}).encode(), {}),
        (json.dumps({"instances": rows}).encode(), {"Content-Type": "application/json; charset=utf-8"}),
        (json.dumps({"inputs": columns(ROWS)}).encode(), {}),
        (csv.encode(), {"Content-Type": "text/csv"}),
        (
            gzip.compress(csv.encode("utf-8-sig")),
            {"Content-Type": "text/csv; charset=utf-8", "Content-Encoding": "gzip"},
        ),
    ]
    for body, headers in invocations:
        answer = plane.client.post(
            "/invocations", content=body, headers={"Content-Type": "application/json", **headers}
        )
        assert answer.status_code == 200, answer.text
        assert [one["probability"] for one in answer.json()["predictions"]] == expected, headers
    listed = plane.client.post("/endpoints/flight-delay/predict", json=rows, headers={"X-Request-Id": "plain"})
    assert [one["outputs"]["probability"] for one in listed.json()] == expected
    one = plane.client.post("/endpoints/flight-delay/predict", json=rows[1]).json()
    assert one["outputs"] == {"probability": expected[1], "label": expected[1] >= 0.5}
    kept = {row["prediction"]: row for row in eventually_logged(plane, control, listed.json()[-1]["prediction"])}
    for row, said in zip(rows, listed.json(), strict=True):
        assert kept[said["prediction"]]["inputs"] == row
        assert kept[said["prediction"]]["request"] == "plain"
        assert kept[said["prediction"]]["runtime"]


def eventually_logged(plane: Any, control: Any, prediction: str) -> list[dict[str, Any]]:
    eventually(lambda: any(row["prediction"] == prediction for row in control.predictions()))
    return list(control.predictions())


def test_a_missing_value_may_be_nan_where_mlflow_sends_it_so_and_infinity_is_refused(
    answered: tuple[Running, list[float]],
) -> None:
    (_, plane), expected = answered
    row = {**records(1)[0], "distance": float("nan")}
    body = json.dumps({"dataframe_records": [row]})
    assert plane.client.post("/invocations", content=body).json()["predictions"][0]["probability"] == expected[0]
    for word in ("Infinity", "-Infinity"):
        refused = plane.client.post("/invocations", content=body.replace("NaN", word))
        assert (refused.status_code, refused.json()["field"]) == (400, "distance")
    assert plane.client.post("/invocations", content=body.replace("NaN", "NaN, NaN")).status_code == 400


def test_mlflows_own_clients_get_the_same_answer(answered: tuple[Running, list[float]]) -> None:
    (_, plane), expected = answered
    address = plane.client.base_url
    scoring = ScoringServerClient(str(address.host), address.port)
    scoring.ping()
    assert scoring.get_version()
    table = pd.DataFrame(columns(ROWS))
    assert scoring.invoke(table).get_predictions()["probability"].tolist() == expected
    deployed = get_deploy_client(str(address)).predict(
        endpoint="flight-delay", inputs={"dataframe_records": records(ROWS)}
    )
    assert [one["probability"] for one in deployed["predictions"]] == expected
    with pytest.raises(Exception, match="'hour' must be of type long"):
        scoring.invoke(table.assign(hour="soon"))


def test_what_a_csv_or_a_record_cannot_be_asked_with_is_said(answered: tuple[Running, list[float]]) -> None:
    (_, plane), _ = answered
    for body, says in (
        (b"", "no rows"),
        (b"distance,hour,carrier\n", "no rows"),
        (b"distance,hour,carrier\n1,2\n", "Line 2 has 2 cells for 3 columns"),
        (b"distance,distance,carrier\n1,2,AA\n", "twice"),
        (b"distance,hour,carrier\n1,two,AA\n", "'hour' must be of type long"),
        (b"distance,hour,carrier\n1,,AA\n", "'hour' may not be null"),
        (b"distance,hour\n1,2\n", "'carrier' is missing"),
        ("distance,hour,carrier\n1,2,é\n".encode("latin-1"), "not CSV"),
    ):
        answer = plane.client.post("/invocations", content=body, headers={"Content-Type": "text/csv"})
        assert (answer.status_code, says in answer.json()["error"]) == (400, True), answer.text
    other = plane.client.post("/invocations", content=b"<x/>", headers={"Content-Type": "application/xml"})
    assert other.status_code == 415
    for given, says in (
        ([], "no rows"),
        ({}, "no rows"),
        ({"hour": 1}, "'distance' is missing"),
        ([1], "an object per row"),
        ([{"hour": 1}, {"day": 2}], "Row 1 of the list"),
        ({"distance": True, "hour": 1, "carrier": "AA"}, "'distance' must be of type double"),
        ({"distance": 1, "hour": 1, "carrier": "AA", "gate": 3}, "no input 'gate'"),
    ):
        answer = plane.client.post("/endpoints/flight-delay/predict", json=given)
        assert (answer.status_code, says in answer.json()["error"]) == (400, True), answer.text


def test_in_one_batch_the_wrong_request_alone_is_refused(answered: tuple[Running, list[float]]) -> None:
    (_, plane), expected = answered

    async def together() -> list[httpx.Response]:
        rows = records(ROWS)
        bad = {**rows[0], "hour": "soon"}
        async with httpx.AsyncClient(base_url=plane.client.base_url, timeout=20) as client:
            given = [*rows, bad, *rows]
            return await asyncio.gather(*(client.post("/endpoints/flight-delay/predict", json=one) for one in given))

    answers = run_apart(together())
    assert [answer.status_code for answer in answers] == [200] * ROWS + [400] + [200] * ROWS
    said = [answer.json()["outputs"]["probability"] for answer in answers if answer.status_code == 200]
    assert said == expected * 2


def test_an_endpoint_that_repairs_mends_what_has_one_meaning_and_refuses_the_rest(
    answered: tuple[Running, list[float]], packages: list[Package]
) -> None:
    (control, plane), expected = answered
    revision = control.release(packages[0])
    plane.follows(control.serve(revision, guard=Guard.REPAIR))
    right = records(ROWS)[1]
    wrong = {
        "distance": str(right["distance"]),
        "hour": float(right["hour"]),
        "carrier": f" {right['carrier']} ",
        "x": 1,
    }
    said = plane.client.post("/endpoints/flight-delay/predict", json=wrong).json()
    assert said["outputs"]["probability"] == expected[1]
    assert [flag.split(" was repaired")[0] for flag in said["flags"][:3]] == [
        f"Input {name!r}" for name in ("distance", "hour", "carrier")
    ]
    absent = {name: value for name, value in records(1)[0].items() if name != "distance"}
    assert (
        plane.client.post("/endpoints/flight-delay/predict", json=absent).json()["outputs"]["probability"]
        == expected[0]
    )
    for name, value in (("hour", 5.5), ("hour", "soon"), ("hour", None), ("carrier", 1.5), ("distance", True)):
        answer = plane.client.post("/endpoints/flight-delay/predict", json={**right, name: value})
        assert (answer.status_code, answer.json()["field"]) == (400, name), answer.text
    assert re.search(r'everline_input_flags_total{.*field="hour",problem="repaired"', plane.client.get("/metrics").text)
    kept = eventually_logged(plane, control, said["prediction"])
    assert [row["inputs"] for row in kept if row["prediction"] == said["prediction"]] == [right]


def test_kept_answers_are_predictions_of_their_own(
    control: ControlPlaneSimulator, start: Start, packages: list[Package]
) -> None:
    revision = control.release(packages[0])
    generation = control.serve(revision)
    plane = start(EVERLINE_KEPT_ANSWERS_MAX="2")
    plane.follows(generation)
    rows = records(3)

    def ask(row: dict[str, Any]) -> dict[str, Any]:
        said: dict[str, Any] = plane.client.post("/endpoints/flight-delay/predict", json=row).json()
        return said

    def kept() -> float:
        lines = plane.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("everline_kept_answers_total{"))

    first, second, again = ask(rows[0]), ask(rows[1]), ask(rows[0])
    assert (again["outputs"], kept()) == (first["outputs"], 1)
    assert again["prediction"] != first["prediction"]
    ask(rows[2])  # the room is for two: what was asked for longest ago makes it
    assert (ask(rows[0])["outputs"], kept()) == (first["outputs"], 2)
    assert (ask(rows[1])["outputs"], kept()) == (second["outputs"], 2)
    asked = {first["prediction"], second["prediction"], again["prediction"]}
    eventually(lambda: asked <= {row["prediction"] for row in logged(control, revision)})


def test_a_request_is_not_answered_after_its_time(answered: tuple[Running, list[float]]) -> None:
    (_, plane), _ = answered
    for given, status in (("1000000", 200), ("soon", 400), ("0", 400)):
        answer = plane.client.post(
            "/v2/models/flight-delay/infer", json=flights(1), headers={"Everline-Timeout-Ms": given}
        )
        assert answer.status_code == status, answer.text


# --- gRPC ---------------------------------------------------------------------------------------------------------


def test_the_messages_are_the_official_ones() -> None:
    for name, fields in MESSAGES.items():
        outer, _, inner = name.partition(".")
        official = service_pb2.DESCRIPTOR.message_types_by_name[outer]
        official = official.nested_types_by_name[inner] if inner else official
        assert [(one.name, one.number) for one in official.fields] == [(n, f[0]) for n, f in fields.items()], name
        ours = CLASSES[name].DESCRIPTOR
        assert [(one.name, one.type) for one in ours.fields] == [(one.name, one.type) for one in official.fields], name


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_the_official_grpc_client_gets_the_same_answer(
    control: ControlPlaneSimulator, start: Start, packages: list[Package], compression: str | None
) -> None:
    revision = control.release(packages[0])
    generation = control.serve(revision)
    plane = start("--grpc-port", "0")
    plane.follows(generation)
    expected = plane.client.post("/v2/models/flight-delay/infer", json=flights(ROWS)).json()["outputs"][0]["data"]
    port = re.findall(r"gRPC at 127\.0\.0\.1:(\d+)", plane.stderr())[-1]
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("flight-delay", "1")
        assert client.get_server_metadata().extensions == ["binary_tensor_data"]
        described = client.get_model_metadata("flight-delay")
        assert [(one.name, one.datatype) for one in described.inputs][0] == ("distance", "FP64")
        answer = client.infer(
            "flight-delay",
            tensors(ROWS, triton_grpc),
            request_id="over-grpc",
            compression_algorithm=compression,
            client_timeout=20,
        )
        assert answer.as_numpy("probability").tolist() == expected
        assert answer.as_numpy("label").tolist() == [one >= 0.5 for one in expected]
        parameters = answer.get_response().parameters
        assert parameters["revision"].string_param == revision.revision
        predictions = set(parameters["predictions"].string_param.split(","))
        for asked, says, status in (
            (("nothing", tensors(1, triton_grpc)), "does not serve the endpoint 'nothing'", "NOT_FOUND"),
            (("flight-delay", tensors(1, triton_grpc)[:2]), "'carrier' is missing", "INVALID_ARGUMENT"),
            (("flight-delay", tensors(501, triton_grpc)), "500 are allowed", "OUT_OF_RANGE"),
        ):
            with pytest.raises(triton.InferenceServerException, match=says) as refused:
                client.infer(*asked)
            assert status in refused.value.status()
    typed = CLASSES["ModelInferRequest"](model_name="flight-delay")
    for name, kind, values in (("distance", "fp64", [100.0]), ("hour", "int64", [5]), ("carrier", "bytes", [b"AA"])):
        tensor = typed.inputs.add(name=name, datatype={"bytes": "BYTES"}.get(kind, kind.upper()), shape=[1])
        getattr(tensor.contents, f"{kind}_contents").extend(values)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        said = CLASSES["ModelInferResponse"].FromString(ask(typed.SerializeToString(), timeout=20))
        assert len(said.outputs[0].contents.fp64_contents) == 1
        for hostile in (b"\xff" * 50, b"\x3a\x05hello"):
            with pytest.raises(grpc.RpcError) as error:
                ask(hostile, timeout=20)
            assert error.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    eventually(lambda: predictions <= {row["prediction"] for row in logged(control, revision)})
    assert plane.end() == 0
