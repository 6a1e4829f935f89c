"""The two planes as real processes on free loopback ports."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from everline.errors import UnavailableError

_READY_S = 30.0
_STOP_S = 25.0


class Plane:
    """One running process with its address and its log file."""

    def __init__(self, name: str, arguments: list[str], *, home: Path, token: str | None = None) -> None:
        self.name = name
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "logs" / f"{name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "everline", *arguments, "--port", str(self.port), "--home", str(home)]
        # The story does not wait long for the prediction log: segments are closed after half a second.
        environment = os.environ | {"EVERLINE_RAW_SEGMENT_S": "0.5"} | ({"EVERLINE_TOKEN": token} if token else {})
        environment.pop("EVERLINE_URL", None)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)

    def wait_ready(self) -> None:
        """Wait for 200 at /health.

        Raises:
            UnavailableError: it ended, or was not ready in time; the log's end is in the message.
        """
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=2).status_code == 200:
                    return
            time.sleep(0.05)
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])
        raise UnavailableError(f"The {self.name} did not become ready.\n{tail}", hint=f"Its whole log is {self.log}.")

    def stop(self) -> None:
        """Drain and end; kill only what does not listen."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
