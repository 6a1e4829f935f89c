"""Runtimes at an endpoint: the log names them, answers are explained, and a model that crashes harms one request."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from scipy.special import logit

from everline.models.flavors.function import PythonFunction
from everline.models.isolated.process import Limits
from everline.models.package import Package, build_package
from everline.models.signature import ColumnType, Field, OutputField, Signature
from everline.testing.control_plane_simulator import ControlPlaneSimulator
from tests_support.dataplane import DataPlane, flights

Running = tuple[ControlPlaneSimulator, DataPlane]


def test_an_answer_says_what_each_input_contributed(running: Running, packages: list[Package]) -> None:
    control, plane = running
    plane.follows(control.serve(control.release(packages[0])))
    address = "/v2/models/flight-delay/infer"
    answer = plane.client.post(f"{address}?explain=true", json=flights(3)).json()
    found = answer["parameters"]["explanations"]
    assert (found["method"], found["scale"]) == ("trees, path-dependent", "log-odds")
    for row, probability in enumerate(answer["outputs"][0]["data"]):
        total = found["base"][row] + sum(values[row] for values in found["contributions"].values())
        assert total == pytest.approx(logit(probability), abs=1e-9)
    assert set(found["contributions"]) == {"distance", "hour", "carrier"}
    assert "explanations" not in plane.client.post(address, json=flights(3)).json()["parameters"]
    assert plane.client.post(f"{address}?explain=perhaps", json=flights(3)).json()["code"] == "invalid_input"
    assert plane.client.post(f"{address}?explain=true", json=flights(101)).status_code == 413


def test_a_model_that_crashes_on_a_value_answers_all_others(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing_rules.py").write_text(
        "import os\n\ndef late(columns):\n"
        "    if (columns['hour'] == 3).any(): os._exit(9)\n    return columns['hour'] / 24\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from crashing_rules import late  # type: ignore[import-not-found]

    signature = Signature(
        inputs=[Field(name="hour", type=ColumnType.DOUBLE, min=6, max=23)],
        outputs=[OutputField(name="probability", type=ColumnType.DOUBLE)],
    )
    model = PythonFunction(late, limits=Limits(answer_s=5))
    built = build_package(model, flavor="function", signature=signature, out_dir=tmp_path / "p")
    control, plane = running
    plane.follows(control.serve(control.release(built)))

    def ask(hour: float) -> tuple[int, dict[str, object]]:
        body = {"inputs": [{"name": "hour", "datatype": "FP64", "shape": [1], "data": [hour]}]}
        answer = plane.client.post("/v2/models/flight-delay/infer", json=body)
        return answer.status_code, answer.json()

    assert ask(12)[0] == 200
    status, said = ask(3)
    assert (status, said["code"]) == (422, "model_failed") and "exit code 9" in str(said["error"])
    status, said = ask(12)
    assert status == 200 and said["outputs"][0]["data"] == [0.5]  # type: ignore[index]
    del sys.modules["crashing_rules"]
