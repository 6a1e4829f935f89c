"""Searching and reading runs: 10,000 runs on both servers, 1,000,000 on Everline alone."""

from __future__ import annotations

import functools
import itertools
import json
import os
import time
from collections.abc import Callable
from urllib.request import Request, urlopen

from mlflow.entities import Run
from mlflow.protos.service_pb2 import SearchRuns
from mlflow.utils.proto_json_utils import parse_dict

from benchmarks.tracking import bulk, stage
from benchmarks.tracking.clients import client_of
from benchmarks.tracking.stage import Server
from benchmarks.tracking.table import Target, head, row

FEW = int(os.environ.get("BENCH_RUNS", "10000"))
MANY = int(os.environ.get("BENCH_MANY_RUNS", "1000000"))
FILTER = "metrics.auc > 0.9 and params.model = 'boosting'"
ORDER = ["metrics.loss ASC"]
ASKED = 7
PAGE = 1000


def main() -> None:
    for server in (stage.everline(), stage.mlflow()):
        experiment(server, FEW)
    head()
    few = f"{FEW:,} runs"
    _compare(f"`search_runs` filter and order, {few}, p50", filtered, made_filtered, target=Target(times=20))
    _compare(f"latest 50 of {few}, p50", latest, made_latest)
    row(
        f"read all of {few} back by pages",
        everline=lambda: read_all(stage.everline()),
        mlflow=lambda: read_all(stage.mlflow()),
        limit=made,
        unit="runs/s",
        target=Target(times=20),
    )
    many = everline_with_many()
    for what, search in (("filter and order", filtered), ("latest 50", latest)):
        row(
            f"{what}, {MANY:,} runs, p50",
            everline=functools.partial(median_ms, search, many, MANY),
            unit="ms",
            less=True,
            target=Target(bound=100),
        )


Ask = Callable[[Server, int], list[Run]]


def filtered(server: Server, count: int) -> list[Run]:
    """The best 100 of those that a filter lets through."""
    found = client_of(server.url).search_runs(
        [experiment(server, count)], filter_string=FILTER, order_by=ORDER, max_results=100
    )
    losses = [run.data.metrics["loss"] for run in found]
    if not found or losses != sorted(losses) or any(run.data.params["model"] != "boosting" for run in found):
        raise RuntimeError(f"{server.name} answered the search wrongly")
    return list(found)


def latest(server: Server, count: int) -> list[Run]:
    """The first page of every user interface."""
    found = client_of(server.url).search_runs(
        [experiment(server, count)], order_by=["attributes.start_time DESC"], max_results=50
    )
    if [run.info.start_time for run in found] != [bulk.START_MS + 1000 * n for n in range(count - 1, count - 51, -1)]:
        raise RuntimeError(f"{server.name} does not have the newest runs first")
    return list(found)


def read_all(server: Server) -> float:
    """Runs per second when every run is read."""
    began, seen, token = time.perf_counter(), 0, None
    for page in itertools.count():
        found = client_of(server.url).search_runs([experiment(server, FEW)], max_results=PAGE, page_token=token)
        seen, token = seen + len(found), found.token
        if not token:
            break
        assert page < FEW
    if seen != FEW:
        raise RuntimeError(f"{server.name} gave {seen} of {FEW} runs")
    return seen / (time.perf_counter() - began)


def made() -> float:
    """Runs a second that the client's own code makes of a page that is here already."""
    count, seconds = _made({"max_results": PAGE})
    return count / seconds


def made_filtered() -> float:
    """Milliseconds that the client's own code needs for the answer to `filtered`."""
    query = {"filter": FILTER, "order_by": ORDER, "max_results": 100}
    return 1000 * sorted(_made(query)[1] for _ in range(ASKED))[ASKED // 2]


def made_latest() -> float:
    """Milliseconds that the client's own code needs for the answer to `latest`."""
    query = {"order_by": ["attributes.start_time DESC"], "max_results": 50}
    return 1000 * sorted(_made(query)[1] for _ in range(ASKED))[ASKED // 2]


def _made(query: dict[str, object]) -> tuple[int, float]:
    """How many runs an answer has, and the seconds that the client needs to make them."""
    server = stage.everline()
    asked = json.dumps({"experiment_ids": [experiment(server, FEW)], **query}).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{server.url}/api/2.0/mlflow/runs/search", data=asked, headers=headers)) as response:
        text = response.read()
    began = time.perf_counter()
    message = SearchRuns.Response()
    parse_dict(json.loads(text), message)
    runs = [Run.from_proto(one) for one in message.runs]
    return len(runs), time.perf_counter() - began


def median_ms(ask: Ask, server: Server, count: int) -> float:
    """The median of a few questions, after one that warms up."""
    ask(server, count)
    took = []
    for _ in range(ASKED):
        began = time.perf_counter()
        ask(server, count)
        took.append(time.perf_counter() - began)
    return 1000 * sorted(took)[ASKED // 2]


@functools.cache
def experiment(server: Server, count: int) -> str:
    """The experiment with that many runs; made at the first call."""
    made = str(client_of(server.url).create_experiment(f"bulk-{count}"))
    into = bulk.into_mlflow if server is stage.mlflow() else bulk.into_everline
    into(str(server.database), int(made), count=count)
    return made


@functools.cache
def everline_with_many() -> Server:
    """An Everline of its own for the million, so that the other benchmarks do not carry it."""
    server = stage.extra_everline("everline-many")
    experiment(server, MANY)
    return server


def _compare(what: str, ask: Ask, made: Callable[[], float], *, target: Target | None = None) -> None:
    row(
        what,
        everline=lambda: median_ms(ask, stage.everline(), FEW),
        mlflow=lambda: median_ms(ask, stage.mlflow(), FEW),
        limit=made,
        unit="ms",
        less=True,
        target=target,
    )
