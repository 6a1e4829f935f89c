"""Raw HTTP on 16 keep-alive connections: what a call costs the server, without any client's own slowness."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable, Iterator

from benchmarks.tracking import stage
from benchmarks.tracking.clients import client_of, run_of
from benchmarks.tracking.load import Load, load, request
from benchmarks.tracking.stage import Server
from benchmarks.tracking.table import ROUNDS, SECONDS, Target, head, row, spread, verdict

API = "/api/2.0/mlflow"


def main() -> None:
    head()
    logged = _compare("raw HTTP `runs/log-metric`, 16 connections", logging)
    read = _compare("raw HTTP `runs/get`, 16 connections", getting)
    print()
    _latencies("runs/log-metric", logged, p99_ms_max=20)
    _latencies("runs/get", read)


def logging(server: Server) -> Iterator[bytes]:
    """A point of one metric after the other."""
    for n in itertools.count():
        point = {"run_id": run_of(server.url), "key": "loss", "value": n / 7, "timestamp": 1_700_000_000_000 + n}
        yield request("POST", f"{API}/runs/log-metric", json.dumps(point | {"step": n}).encode())


def getting(server: Server) -> Iterator[bytes]:
    """A run with 10 parameters and 10 metrics, again and again."""
    run = run_of(server.url)
    if server is not stage.empty():
        for n in range(10):
            client_of(server.url).log_param(run, f"p{n}", n)
            client_of(server.url).log_metric(run, f"m{n}", n)
    return itertools.repeat(request("GET", f"{API}/runs/get?run_id={run}"))


def _compare(what: str, requests: Callable[[Server], Iterator[bytes]]) -> dict[str, list[Load]]:
    seen: dict[str, list[Load]] = {}

    def measure(server: Server) -> float:
        load(server.port, requests(server), seconds=SECONDS / 10)
        came = load(server.port, requests(server), seconds=SECONDS)
        seen.setdefault(server.name, []).append(came)
        return came.per_second

    row(
        what,
        everline=lambda: measure(stage.everline()),
        mlflow=lambda: measure(stage.mlflow()),
        limit=lambda: measure(stage.empty()),
        unit="/s",
        target=Target(times=40),
    )
    row("… and Everline waits for the disk", everline=lambda: measure(stage.everline_strict()), unit="/s")
    return seen


def _latencies(what: str, seen: dict[str, list[Load]], *, p99_ms_max: float | None = None) -> None:
    for name, loads in seen.items():
        p50, p99 = [one.p50_ms for one in loads], [one.p99_ms for one in loads]
        asked = p99_ms_max if name == stage.everline().name else None
        reached = verdict(statistics.median(p99), asked, "ms", less=True)
        figures = f"p50 {spread(p50, 'ms')}, p99 {spread(p99, 'ms')}, {ROUNDS} rounds"
        print(f"- `{what}`, {name}: {figures}{reached and f'; p99 {reached}'}")
