"""The stage: MLflow's server with its defaults, Everline with its own, and a server that does nothing.

They are started once for all benchmarks of a process and stopped with it. Everybody keeps its data in SQLite under
one temporary folder, so on one disk (`TMPDIR` chooses it).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import msgspec
import psutil

from benchmarks.peers import python_of

ROOT = Path(__file__).parent.parent.parent
READY_S_MAX = 180
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
STRICT = {"EVERLINE_METRIC_FLUSH_S": "0"}
"""Everline's setting that lets every answer wait for the disk."""


class Server(msgspec.Struct, frozen=True):
    """A server that runs."""

    name: str
    port: int
    database: Path
    pid: int
    ready_s: float
    """From the start of its process to its first answer."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def processes(self) -> list[psutil.Process]:
        """The process that was started and all that came of it."""
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]

    def pss_mib(self) -> float:
        """Proportional memory of all its processes."""
        kib = 0
        for process in self.processes():
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            kib += int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])
        return kib / 1024


def start_everline(home: Path, *, name: str = "Everline", settings: Mapping[str, str] | None = None) -> Server:
    """`everline server` over a home."""
    command = [sys.executable, "-m", "everline", "server", "--home", str(home), "--port"]
    return _start(name, command, folder=home, database=home / "everline.db", settings=settings or {})


def start_mlflow(home: Path) -> Server:
    """`mlflow server` with SQLite, proxied artifacts and the defaults of everything else."""
    database = home / "mlflow.db"
    store = ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(home / "artifacts")]
    command = [str(python_of("mlflow")), "-m", "mlflow", "server", *store, "--host", "127.0.0.1", "--port"]
    return _start("MLflow", command, folder=home, database=database, settings={})


def start_empty(home: Path) -> Server:
    """A server that answers `{}` to everything, on the HTTP stack that Everline stands on."""
    options = ["--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning", "--port"]
    command = [sys.executable, "-m", "uvicorn", "benchmarks.tracking.empty:app", *options]
    return _start("nothing", command, folder=home, database=home / "none", settings={})


def stop(server: Server) -> None:
    """SIGTERM to all its processes, SIGKILL to those that do not end."""
    processes = server.processes()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=10)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=10)


@functools.cache
def folder() -> Path:
    """Where everything of this process is kept while it runs."""
    made = tempfile.TemporaryDirectory(prefix="everline-bench-", ignore_cleanup_errors=True)
    atexit.register(made.cleanup)
    return Path(made.name)


def _kept(start: Callable[[Path], Server], where: str) -> Server:
    server = start(folder() / where)
    atexit.register(stop, server)
    return server


@functools.cache
def everline() -> Server:
    """Everline, started at the first call."""
    return _kept(start_everline, "everline")


@functools.cache
def everline_strict() -> Server:
    """Everline that answers only when the disk has it, started at the first call."""
    return _kept(lambda home: start_everline(home, name="Everline, strict", settings=STRICT), "everline-strict")


def extra_everline(where: str) -> Server:
    """One more Everline, over a home of its own."""
    return _kept(start_everline, where)


@functools.cache
def mlflow() -> Server:
    """MLflow, started at the first call."""
    return _kept(start_mlflow, "mlflow")


@functools.cache
def empty() -> Server:
    """The server that does nothing, started at the first call."""
    return _kept(start_empty, "empty")


def _start(name: str, command: Sequence[str], *, folder: Path, database: Path, settings: Mapping[str, str]) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("EVERLINE_", "MLFLOW_"))}
    with (folder / "log").open("ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, str(port)],
            env=environment | QUIET | settings,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not _answers(port):
        if process.poll() is not None or time.perf_counter() - began > READY_S_MAX:
            raise RuntimeError(f"{name} did not start:\n{(folder / 'log').read_text()[-2000:]}")
        time.sleep(0.005)
    return Server(name, port, database, process.pid, time.perf_counter() - began)


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
