"""A model in a process of its own answers like any other; one that crashes, hangs or fills the memory harms nobody."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everline.errors import IntegrityError, InvalidInputError, UnavailableError
from everline.models.flavors.function import PythonFunction
from everline.models.flavors.pyfunc import MlflowModel
from everline.models.isolated import columns, environments
from everline.models.isolated.process import Limits, ModelFailedError
from everline.models.package import Package, build_package, open_package
from everline.models.predictor import Predictor
from everline.models.signature import ColumnType, Field, OutputField, Signature

SOURCE = """
import ctypes, json, os, sys, time
from pathlib import Path
import numpy as np

FACTOR = json.loads((Path(__file__).with_name("factors.json")).read_text())

def late(columns):
    hour = columns["hour"]
    if (hour == 1).any(): os._exit(3)
    if (hour == 2).any(): ctypes.string_at(0)
    if (hour == 3).any(): time.sleep(60)
    if (hour == 4).any(): np.ones(1 << 33)
    if (hour == 5).any(): raise ValueError("nobody flies at five")
    known = [FACTOR.get(carrier, 0.0) for carrier in columns["carrier"]]
    return {"probability": hour / 24 + np.array(known), "process": np.full(len(hour), os.getpid())}

def centred(columns):
    return columns["hour"] - columns["hour"].mean()
"""
SIGNATURE = Signature(
    inputs=[
        Field(name="hour", type=ColumnType.DOUBLE, min=6, max=23),
        Field(name="carrier", type=ColumnType.STRING, nullable=True, categories=["AA", "B6"]),
    ]
)


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("code")
    (folder / "flights_rules.py").write_text(textwrap.dedent(SOURCE))
    (folder / "factors.json").write_text('{"AA": 0.25}')
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def package(code: Path, tmp_path_factory: pytest.TempPathFactory) -> Package:
    from flights_rules import late  # type: ignore[import-not-found]

    limits = Limits(answer_s=1.5, memory_bytes=2 << 30)
    model = PythonFunction(late, code=[code / "factors.json"], limits=limits)
    out_dir = tmp_path_factory.mktemp("package") / "p"
    return build_package(model, flavor="function", signature=SIGNATURE, out_dir=out_dir)


@pytest.fixture(scope="module")
def predictor(package: Package) -> Predictor:
    return open_package(package.directory, digest=package.digest).load()


def ask(predictor: Predictor, *hours: float) -> dict[str, Any]:
    return predictor.predict({"hour": list(hours), "carrier": ["AA"] * len(hours)})


def test_a_function_answers_from_a_process_of_its_own(package: Package, predictor: Predictor) -> None:
    assert [(one.name, str(one.type)) for one in predictor.signature.outputs] == [
        ("probability", "double"), ("process", "long"),
    ]  # fmt: skip
    answer = predictor.predict({"hour": [6.0, 12.0, 18.0], "carrier": ["AA", None, "é"]})
    assert answer["probability"].tolist() == [0.5, 0.5, 0.75]
    assert set(answer["process"].tolist()) != {os.getpid()}
    assert predictor.runtimes == ("native",) and not predictor.rows_alone
    with pytest.raises(IntegrityError, match=r"is code of its own \(function\), which is not run here"):
        package.load(run_code=False)
    assert "numpy==" in (package.directory / "requirements.txt").read_text()


@pytest.mark.parametrize(("hour", "how"), [(1, "exit code 3"), (2, "signal 11")])
def test_a_request_that_kills_the_model_gets_an_error_and_all_others_an_answer(
    predictor: Predictor, hour: float, how: str
) -> None:
    answers: list[Any] = []

    def others() -> None:
        answers.extend(ask(predictor, 12)["probability"].tolist() for _ in range(20))

    asking = threading.Thread(target=others)
    asking.start()
    with pytest.raises(ModelFailedError, match=f"died of this request, twice: {how}"):
        ask(predictor, hour)
    asking.join()
    assert answers == [[0.75]] * 20
    before = ask(predictor, 12)["process"].tolist()
    assert before == ask(predictor, 12)["process"].tolist()  # it lives on


def test_limits_of_time_and_memory_end_the_request_only(predictor: Predictor) -> None:
    with pytest.raises(ModelFailedError, match=r"did not answer within 1\.5 s"):
        ask(predictor, 3)
    with pytest.raises(ModelFailedError, match="needs more than its 2147483648 bytes"):
        ask(predictor, 4)
    with pytest.raises(ValueError, match="nobody flies at five"):
        ask(predictor, 5)
    assert ask(predictor, 12)["probability"].tolist() == [0.75]


def test_a_model_that_keeps_dying_is_left_alone_for_a_while(package: Package) -> None:
    predictor = package.load()
    with pytest.raises(ModelFailedError):
        ask(predictor, 1)
    with pytest.raises((ModelFailedError, UnavailableError), match=r"died"):
        for _ in range(3):
            ask(predictor, 1)
    with pytest.raises(UnavailableError, match="times in a row and is started again in"):
        ask(predictor, 12)


def test_rows_that_depend_on_their_neighbours_are_asked_alone(code: Path, tmp_path: Path) -> None:
    from flights_rules import centred

    model = PythonFunction(centred, code=[code / "factors.json"])
    predictor = build_package(model, flavor="function", signature=SIGNATURE, out_dir=tmp_path / "p").load()
    assert predictor.rows_alone and ask(predictor, 8, 20)["prediction"].tolist() == [0.0, 0.0]


def test_what_is_no_function_of_a_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="must be a function at the top of a module"):
        build_package(lambda given: given["hour"], flavor="function", signature=SIGNATURE, out_dir=tmp_path / "p")


@pytest.mark.drill
def test_any_mlflow_model_answers_and_its_pickles_only_where_they_are_allowed(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow.pyfunc")

    class Doubles(mlflow.PythonModel):  # type: ignore[name-defined,misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input["hour"] * 2

    mlflow.save_model(tmp_path / "saved", python_model=Doubles(), pip_requirements=["numpy", "pandas"])
    signature = Signature(inputs=SIGNATURE.inputs[:1], outputs=[OutputField(name="twice", type=ColumnType.DOUBLE)])
    with pytest.raises(InvalidInputError, match=r"holds pickles.*python_model\.pkl"):
        build_package(MlflowModel(tmp_path / "saved"), flavor="pyfunc", signature=signature, out_dir=tmp_path / "a")
    model = MlflowModel(tmp_path / "saved", trust_pickle=True)
    built = build_package(model, flavor="pyfunc", signature=signature, out_dir=tmp_path / "b")
    assert built.load(allow_pickle=True).predict({"hour": [7.0, 8.5]})["twice"].tolist() == [14.0, 17.0]
    with pytest.raises(IntegrityError, match=r"holds pickles.*python_model\.pkl"):
        built.load()


def test_columns_come_out_of_the_shared_memory_as_they_went_in() -> None:
    memory = bytearray(4096)
    given = {
        "real": np.array([0.1, np.nan, -0.0]),
        "whole": np.array([1, -2, 3], np.int32),
        "text": np.array(["", None, "Zürich\0"], dtype=object),
        "maybe": np.array([True, None, False], dtype=object),
        "time": np.array([1, 2, 3], "datetime64[us]"),
        "none": np.array([None, None, None], dtype=object),
    }
    placed = columns.pack(given, memory)
    assert columns.size_of(given) <= len(memory)
    taken = columns.unpack(placed, memory)
    for name, array in given.items():
        assert taken[name].tolist() == array.tolist() or name == "real", name
    assert taken["real"].tobytes() == given["real"].tobytes()
    with pytest.raises(ValueError, match="outside of the shared memory"):
        columns.unpack([placed[0] | {"at": 4095}], memory)


def test_an_environment_is_made_once_for_each_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert environments.python_for("", python=platform.python_version()) == sys.executable  # it is here already
    monkeypatch.setattr(environments, "installed_closure", lambda name: {})  # as on a machine that has nothing
    lock = "iniconfig==2.1.0\n"
    python = environments.python_for(lock, python=platform.python_version())
    assert Path(python).is_relative_to(tmp_path)
    found = subprocess.run(
        [python, "-I", "-c", "import iniconfig; print(iniconfig.__file__)"], capture_output=True, text=True
    )
    assert str(tmp_path) in found.stdout, found.stderr
    made = Path(python).stat().st_ctime_ns
    assert environments.python_for(lock, python=platform.python_version()) == python
    assert Path(python).stat().st_ctime_ns == made
