"""The two sides: MLflow's genuine server, made by `scripts/make_peers.py`, and Everline on both databases.

What the genuine server answered is kept in `.peers/answers` under a digest of the scripts, since it never
changes its mind: only a changed script starts it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Server, free_port, wait_ready

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from wire import Exchange, Wire  # noqa: E402 - the path comes first

PEERS = HERE.parents[2] / ".peers"
# As our own server of these tests has it: webhooks may go to this machine, so that none has to leave it.
LOCAL_WEBHOOKS = {"MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true", "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "https,http"}
Script = Callable[[Wire], None]


class Peer:
    """MLflow's server, started when the first answer is missing."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""

    def answers(self, script: Script, name: str) -> list[Exchange]:
        """What MLflow's server answers to a script."""
        kept = PEERS / "answers" / f"{name.replace(' ', '-')}-{_digest(script)}.json"
        if kept.exists():
            return [Exchange(*item) for item in json.loads(kept.read_text())]
        record = play(script, self._start(), name)
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(record))
        return record

    def stop(self) -> None:
        """End it with its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def _start(self) -> str:
        if self._process is None:
            program, port = PEERS / "mlflow" / "bin" / "mlflow", free_port()
            if not program.exists():
                pytest.fail(f"MLflow's server is not at {program}: `make conformance` puts it there.")
            stores = [
                "--backend-store-uri",
                f"sqlite:///{self._home}/m.db",
                "--artifacts-destination",
                f"{self._home}/a",
            ]
            command = [str(program), "server", *stores, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
            with (self._home / "log").open("wb") as log:
                self._process = subprocess.Popen(
                    command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **LOCAL_WEBHOOKS}
                )
            self._url = f"http://127.0.0.1:{port}"
            wait_ready(self._url, self._process, seconds=120)
        return self._url


def play(script: Script, url: str, name: str) -> list[Exchange]:
    """Run a script against a server; return the record."""
    wire = Wire(url, name)
    try:
        script(wire)
    finally:
        wire.close()
    return wire.record


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """MLflow's genuine server, as it comes, over SQLite."""
    server = Peer(tmp_path_factory.mktemp("peer"))
    yield server
    server.stop()


@pytest.fixture
def play_ours(mlflow_server: Server) -> Callable[[Script, str], list[Exchange]]:
    """Runs a script against Everline over the database of this round."""
    return lambda script, name: play(script, mlflow_server.url, name)


def _digest(script: Script) -> str:
    sources = [HERE / "wire.py", HERE / "scripts_runs.py", Path(script.__code__.co_filename)]
    version = HERE.parents[2] / "scripts" / "make_peers.py"
    return hashlib.sha256(b"".join(path.read_bytes() for path in [*sources, version])).hexdigest()[:16]
