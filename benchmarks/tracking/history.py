"""The whole history of one metric, and how fast SQLite and JSON alone could be."""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import time

from mlflow.entities import Metric

from benchmarks.tracking import stage
from benchmarks.tracking.clients import client_of, run_of
from benchmarks.tracking.stage import Server
from benchmarks.tracking.table import head, row

POINTS = int(os.environ.get("BENCH_POINTS", "100000"))
BATCH = 1000


def main() -> None:
    for server in (stage.everline(), stage.mlflow()):
        filled(server)
    head()
    row(
        f"history of one metric, {POINTS:,} points",
        everline=lambda: read(stage.everline()),
        mlflow=lambda: read(stage.mlflow()),
        limit=bare,
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
