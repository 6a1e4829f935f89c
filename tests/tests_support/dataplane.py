"""A data plane as a real process against a simulated control plane, and a small model to serve."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from everline.models.package import Package, build_package
from everline.models.signature_inference import infer_signature
from everline.serving.types import DesiredRevision
from everline.testing.control_plane_simulator import ControlPlaneSimulator

FAST = {
    "EVERLINE_RAW_SEGMENT_S": "0.3",
    "EVERLINE_HEALTH_REPORT_S": "0.2",
    "EVERLINE_REFUSED_RETRY_S": "0.5",
    "EVERLINE_DATAPLANE_WAIT_S_MAX": "2",
    "EVERLINE_REQUEST_BYTES_MAX": "200000",
    "EVERLINE_REQUEST_ROWS_MAX": "500",
}


def build(directory: Path, *, rounds: int, order: tuple[str, ...] = ("distance", "hour", "carrier")) -> Package:
    """A package of a small model.

    Args:
        order: of the inputs in its signature.
    """
    random = np.random.default_rng(11)
    rows = 500
    table = pd.DataFrame(
        {
            "distance": random.uniform(80, 4983, rows),
            "hour": random.integers(5, 24, rows),
            "carrier": random.choice(["AA", "B6", "UA"], rows),
        }
    )
    table = table[list(order)]
    late = table["hour"].to_numpy() + random.normal(0, 4, rows) > 15
    encode = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["carrier"]), remainder="passthrough"
    )
    model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=rounds, random_state=0)).fit(table, late)
    return build_package(model, signature=infer_signature(table, nullable=["distance"]), out_dir=directory)


class DataPlane:
    """One `everline serve` process."""

    def __init__(self, home: Path, url: str, *, options: list[str], settings: dict[str, str]) -> None:
        self.home = home
        self.errors = (home.parent / f"{home.name}.stderr").open("a+")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "everline", "serve", "--port", "0"),
                *("--home", str(home), "--control-plane", url, *options),
            ],
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **FAST, **settings},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"https?://\S+", line)
        if found is None:
            self.process.kill()
        assert found, f"no address in {line!r}: {self.stderr()}"
        self.client = httpx.Client(base_url=found.group(), timeout=20)

    def stderr(self) -> str:
        self.errors.flush()
        return Path(self.errors.name).read_text()

    def wait_for(self, condition: Callable[[dict[str, Any]], bool], *, seconds: float = 30) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        health: dict[str, Any] = {}
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                health = self.client.get("/health").json()
                if condition(health):
                    return health
            time.sleep(0.05)
        raise AssertionError(f"not reached: {json.dumps(health)[:3000]}\n{self.stderr()[-3000:]}")

    def ready(self, revisions: int = 1) -> dict[str, Any]:
        return self.wait_for(lambda health: sum(one["ready"] for one in health.get("revisions", ())) == revisions)

    def follows(self, generation: int) -> None:
        """Wait until the state of this generation is applied and every revision of it answers."""
        self.wait_for(lambda h: h.get("generation") == generation and all(one["ready"] for one in h["revisions"]))

    def ask(self, rows: int = 2, **changes: Any) -> httpx.Response:
        return self.client.post("/v2/models/flight-delay/infer", json=flights(rows, **changes))

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.client.close()
        return code


def flights(rows: int = 2, **changes: Any) -> dict[str, Any]:
    columns: dict[str, tuple[str, list[Any]]] = {
        "distance": ("FP64", [100.0 + row if row % 3 else None for row in range(rows)]),
        "hour": ("INT64", [5 + row % 19 for row in range(rows)]),
        "carrier": ("BYTES", [["AA", "B6", "UA"][row % 3] for row in range(rows)]),
    }
    inputs = [{"name": n, "shape": [rows], "datatype": kind, "data": data} for n, (kind, data) in columns.items()]
    return {"inputs": inputs, **changes}


Start = Callable[..., DataPlane]
Running = tuple[ControlPlaneSimulator, DataPlane]


def logged(control: ControlPlaneSimulator, revision: DesiredRevision) -> list[dict[str, Any]]:
    return [row for row in control.predictions() if row["revision"] == revision.revision]


def eventually(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.05)
