"""The whole history of one metric: by plain HTTP, beside SQLite and JSON alone, and by MLflow's client.

The client spends a second on making its own objects of 100,000 points, whoever sent them; its limit is that.
"""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import time
from urllib.parse import urlencode
from urllib.request import urlopen

from mlflow.entities import Metric
from mlflow.protos.service_pb2 import GetMetricHistory
from mlflow.utils.proto_json_utils import parse_dict

from benchmarks.tracking import stage
from benchmarks.tracking.clients import client_of, run_of
from benchmarks.tracking.stage import Server
from benchmarks.tracking.table import Target, head, row

POINTS = int(os.environ.get("BENCH_POINTS", "100000"))
BATCH = 1000


def main() -> None:
    for server in (stage.everline(), stage.mlflow()):
        filled(server)
    head()
    what = f"history of one metric, {POINTS:,} points"
    row(
        f"{what}, plain HTTP",
        everline=lambda: fetched(stage.everline()),
        mlflow=lambda: fetched(stage.mlflow()),
        limit=bare,
        unit="s",
        less=True,
        target=Target(times=10),
    )
    row(
        f"{what}, official client",
        everline=lambda: read(stage.everline()),
        mlflow=lambda: read(stage.mlflow()),
        limit=made,
        unit="s",
        less=True,
    )


@functools.cache
def filled(server: Server) -> str:
    """The run with all the points, logged by the official client."""
    run = run_of(server.url)
    for start in range(0, POINTS, BATCH):
        points = [Metric("curve", n / 7, 1_700_000_000_000 + n, n) for n in range(start, start + BATCH)]
        client_of(server.url).log_batch(run, metrics=points)
    return run


def fetched(server: Server) -> float:
    """Seconds until the text of all points is here."""
    began = time.perf_counter()
    text = answer(server)
    took = time.perf_counter() - began
    count = text.count(b'"step"')
    if count != POINTS:
        raise RuntimeError(f"{server.name} gave {count} of {POINTS} points")
    return took


def answer(server: Server) -> bytes:
    """The history as the server writes it."""
    asked = urlencode({"run_id": filled(server), "metric_key": "curve"})
    with urlopen(f"{server.url}/api/2.0/mlflow/metrics/get-history?{asked}", timeout=600) as response:
        return bytes(response.read())


def made() -> float:
    """Seconds that the client's own code takes to make points of an answer that is here already."""
    text = answer(stage.everline())
    began = time.perf_counter()
    message = GetMetricHistory.Response()
    parse_dict(json.loads(text), message)
    points = [Metric.from_proto(one) for one in message.metrics]
    took = time.perf_counter() - began
    if len(points) != POINTS:
        raise RuntimeError(f"{len(points)} of {POINTS} points were made")
    return took


def read(server: Server) -> float:
    """Seconds until the official client has all points."""
    began = time.perf_counter()
    points = client_of(server.url).get_metric_history(filled(server), "curve")
    took = time.perf_counter() - began
    if len(points) != POINTS or points[-1].value != (POINTS - 1) / 7:
        raise RuntimeError(f"{server.name} gave {len(points)} of {POINTS} points")
    return took


def bare() -> float:
    """Seconds for the same points from a table of SQLite to a text of JSON, with no server and no client."""
    connection = sqlite3.connect(stage.folder() / "bare.db")
    connection.execute("CREATE TABLE IF NOT EXISTS points (at_ms INTEGER, step INTEGER, value REAL)")
    if connection.execute("SELECT count(*) FROM points").fetchone() == (0,):
        rows = [(1_700_000_000_000 + n, n, n / 7) for n in range(POINTS)]
        connection.executemany("INSERT INTO points VALUES (?, ?, ?)", rows)
        connection.commit()
    began = time.perf_counter()
    found = connection.execute("SELECT at_ms, step, value FROM points ORDER BY step").fetchall()
    json.dumps({"metrics": [{"key": "curve", "timestamp": at, "step": step, "value": v} for at, step, v in found]})
    took = time.perf_counter() - began
    connection.close()
    return took
