"""The tools, each started as its documentation says for one model, and how each is asked."""

from __future__ import annotations

import abc
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers import python_of
from benchmarks.serving.load import pinned
from benchmarks.serving.models import Trained
from everline.testing.control_plane_simulator import ControlPlaneSimulator

PROGRAMS = Path(__file__).parent / "programs"
_START_S = 90.0
Row = Mapping[str, Any]


class Server(abc.ABC):
    """One tool that serves one model.

    Attributes:
        peer: the environment that it runs in; empty for Everline's own.
        how: its settings, for the table.
        product: whether it is a product for serving models, not code written by hand.
    """

    name = ""
    peer = ""
    how = ""
    product = True
    predict = "/predict"

    def __init__(self, trained: Trained, folder: Path, *, workers: int = 1) -> None:
        self.trained = trained
        self.folder = folder
        self.workers = workers
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @abc.abstractmethod
    def command(self) -> list[str]:
        """What is started."""

    def body(self, rows: list[Row]) -> bytes:
        """The question about rows; one row is asked about as the tool's users would."""
        return json.dumps(rows[0] if len(rows) == 1 else rows).encode()

    def environment(self) -> dict[str, str]:
        """What the process is told."""
        return {
            "BENCH_MODEL": str(self.trained.pickle),
            "BENCH_ONNX": str(self.trained.folder / "peer.onnx"),
            "BENCH_NAMES": json.dumps([field.name for field in self.trained.package.manifest.signature.inputs]),
            "BENCH_PORT": str(self.port),
            "BENCH_WORKERS": str(self.workers),
            "PYTHONPATH": str(PROGRAMS),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """What must be there while it runs."""
        yield

    @contextlib.contextmanager
    def running(self) -> Iterator[Running]:
        """Start it on a core of its own, wait until it answers, and end it with all its processes."""
        with self.prepared(), (self.folder / f"{self.peer or 'everline'}.log").open("w") as log:
            started = time.monotonic()
            process = subprocess.Popen(
                [*pinned(0, workers=self.workers), *self.command()],
                env={**os.environ, **self.environment()},
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
            try:
                self._wait(process)
                yield Running(process.pid, time.monotonic() - started)
            finally:
                end(process)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_S
        question = self.body(self.trained.rows[:1])
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            with contextlib.suppress(OSError, urllib.error.URLError):
                self.ask(question)
                return
            time.sleep(0.02)
        said = (self.folder / f"{self.peer or 'everline'}.log").read_text()[-1500:]
        raise RuntimeError(f"{self.name} does not answer: {said}")

    def ask(self, body: bytes) -> bytes:
        """One question; the answer."""
        request = urllib.request.Request(self.url + self.predict, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            content: bytes = answer.read()
            return content

    def python(self) -> str:
        """The interpreter of the tool's environment."""
        return str(python_of(self.peer))


class Running:
    """A server that answers."""

    def __init__(self, pid: int, ready_s: float) -> None:
        self.pid = pid
        self.ready_s = ready_s

    def pss_mib(self, *, alone: bool = False) -> float:
        """Memory of all its processes, shared pages in parts; with `alone` of the one that answers."""
        root = psutil.Process(self.pid)
        total = 0
        for process in [root, *([] if alone else root.children(recursive=True))]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total / 2**20


class Everline(Server):
    """The data plane under a control plane: verified, logged, shipped."""

    name = "Everline"
    how = "plain records; every prediction logged and shipped"
    predict = "/endpoints/flight-delay/predict"

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        home = Path(tempfile.mkdtemp(prefix="everline-bench-", dir=self.folder))
        with ControlPlaneSimulator() as control:
            control.serve(control.release(self.trained.package))
            self._home, self._control = home, control
            yield
        shutil.rmtree(home, ignore_errors=True)

    def command(self) -> list[str]:
        workers = ["--workers", str(self.workers)] if self.workers > 1 else []
        return [
            *(sys.executable, "-m", "everline", "serve", "--port", str(self.port), "--home", str(self._home)),
            *("--control-plane", self._control.url, "--log-level", "warning", *workers),
        ]

    def environment(self) -> dict[str, str]:
        root = Path(__file__).parents[2]
        return {"PYTHONPATH": f"{root / 'src'}", "OMP_NUM_THREADS": "1"}


class EverlineNative(Everline):
    """The same without its compiled model."""

    name = "Everline, native model"
    how = "the framework's own model, gathered"

    def __init__(self, trained: Trained, folder: Path, *, workers: int = 1) -> None:
        super().__init__(trained.native(), folder, workers=workers)


class EverlineProtocol(Everline):
    """The same, asked in the Open Inference Protocol."""

    name = "Everline, Open Inference Protocol"
    how = "JSON, a tensor per column"
    predict = "/v2/models/flight-delay/infer"

    def body(self, rows: list[Row]) -> bytes:
        return json.dumps({"inputs": tensors(self.trained, rows)}).encode()


class FastapiOnnx(Server):
    name = "FastAPI + ONNX Runtime"
    peer = "fastapi"
    how = "written by hand: no checks, no log"
    product = False

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        converted = self.trained.folder / "peer.onnx"
        if not converted.exists():
            names = [field.name for field in self.trained.package.manifest.signature.inputs]
            texts = [name for name in names if name not in self.trained.numeric]
            arguments = [str(self.trained.pickle), json.dumps(texts), json.dumps(names), str(converted)]
            subprocess.run([self.python(), str(PROGRAMS / "convert.py"), *arguments], check=True)
        yield

    def command(self) -> list[str]:
        return uvicorn(self, "fastapi_onnx:app")


class FastapiSklearn(Server):
    name = "FastAPI + scikit-learn"
    peer = "fastapi"
    how = "written by hand"
    product = False

    def command(self) -> list[str]:
        return uvicorn(self, "fastapi_sklearn:app")


class Constant(Server):
    name = "uvicorn, a constant"
    peer = "fastapi"
    how = "no model: the limit of HTTP"
    product = False

    def command(self) -> list[str]:
        return uvicorn(self, "constant:app")


class LitServe(Server):
    name = "LitServe"
    peer = "litserve"
    how = "batches of 64, 2 ms"

    def command(self) -> list[str]:
        return [self.python(), str(PROGRAMS / "litserve_flights.py")]


class BentoML(Server):
    name = "BentoML"
    peer = "bentoml"
    how = "adaptive batching"

    def command(self) -> list[str]:
        cli = str(Path(self.python()).parent / "bentoml")
        return [cli, "serve", "bentoml_flights:Flights", "--port", str(self.port), "--working-dir", str(PROGRAMS)]

    def body(self, rows: list[Row]) -> bytes:
        return json.dumps({"rows": list(rows)}).encode()


class MLServer(Server):
    name = "MLServer"
    peer = "mlserver"
    how = "adaptive batches of 64, 5 ms"
    predict = "/v2/models/flights/infer"

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        folder = self.folder / "mlserver"
        folder.mkdir(exist_ok=True)
        (folder / "settings.json").write_text(
            json.dumps(
                {
                    "host": "127.0.0.1",
                    "http_port": self.port,
                    "grpc_port": free_port(),
                    "metrics_port": free_port(),
                    "parallel_workers": self.workers if self.workers > 1 else 0,
                    "debug": False,
                }
            )
        )
        (folder / "model-settings.json").write_text(
            json.dumps(
                {
                    "name": "flights",
                    "implementation": "mlserver_flights.Flights",
                    "max_batch_size": 64,
                    "max_batch_time": 0.005,
                }
            )
        )
        self._models = folder
        yield

    def command(self) -> list[str]:
        return [str(Path(self.python()).parent / "mlserver"), "start", str(self._models)]

    def body(self, rows: list[Row]) -> bytes:
        inputs = tensors(self.trained, rows)
        for tensor in inputs:
            tensor["parameters"] = {"content_type": "str" if tensor["datatype"] == "BYTES" else "np"}
            tensor["shape"] = [len(rows), 1]
        return json.dumps({"parameters": {"content_type": "pd"}, "inputs": inputs}).encode()


class RayServe(Server):
    name = "Ray Serve"
    peer = "rayserve"
    how = "batches of 64, 2 ms"
    predict = "/"

    def command(self) -> list[str]:
        return [self.python(), str(PROGRAMS / "ray_flights.py")]


class MLflow(Server):
    name = "mlflow models serve"
    peer = "mlflow"
    how = "dataframe_split"
    predict = "/invocations"

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        self._model = self.folder / f"mlflow-{self.trained.kind}"
        if not self._model.exists():
            code = (
                "import sys, joblib, mlflow.sklearn as m;"
                "m.save_model(joblib.load(sys.argv[1]), sys.argv[2], serialization_format='cloudpickle')"
            )
            subprocess.run(
                [self.python(), "-c", code, self.trained.pickle, self._model], check=True, capture_output=True
            )
        yield

    def command(self) -> list[str]:
        cli = str(Path(self.python()).parent / "mlflow")
        options = ["--env-manager", "local", "-p", str(self.port), "-w", str(self.workers)]
        return [cli, "models", "serve", "-m", str(self._model), *options]

    def environment(self) -> dict[str, str]:
        folder = str(Path(self.python()).parent)
        return {**super().environment(), "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def body(self, rows: list[Row]) -> bytes:
        split = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
        return json.dumps({"dataframe_split": split}).encode()


OURS: tuple[type[Server], ...] = (Everline, EverlineProtocol, EverlineNative)
PEERS: tuple[type[Server], ...] = (
    Constant, FastapiOnnx, FastapiSklearn, LitServe, BentoML, MLServer, RayServe, MLflow,
)  # fmt: skip


def tensors(trained: Trained, rows: list[Row]) -> list[dict[str, Any]]:
    """Rows as tensors of the Open Inference Protocol."""
    kinds = {"double": "FP64", "long": "INT64", "string": "BYTES"}
    return [
        {
            "name": field.name,
            "datatype": kinds[str(field.type)],
            "shape": [len(rows)],
            "data": [row[field.name] for row in rows],
        }
        for field in trained.package.manifest.signature.inputs
    ]


def uvicorn(server: Server, app: str) -> list[str]:
    """uvicorn at its fastest."""
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    workers = ["--workers", str(server.workers)] if server.workers > 1 else []
    return [server.python(), "-m", "uvicorn", app, "--port", str(server.port), *options, *workers]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and whatever it started."""
    children = []
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(15)
    for child in [*children, process]:
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            child.kill()
    process.wait()
