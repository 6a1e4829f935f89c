"""MLflow's official client, unmodified, in this process or in several of their own."""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from benchmarks.tracking.stage import QUIET, Server

os.environ |= QUIET | {"MLFLOW_LOGGING_LEVEL": "WARNING"}

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

PROCESSES = 4
START_UP_S = 0.3

Work = Callable[[str, float], int]
"""`work(url, ends)` works until `time.time()` is `ends` and says how much it did."""


@functools.cache
def client_of(url: str) -> MlflowClient:
    """The client of a server; it keeps its connection."""
    return MlflowClient(url, url)


@functools.cache
def run_of(url: str) -> str:
    """A run of this process's own; a server that does nothing gives none, and any name does there."""
    return str(client_of(url).create_run("0").info.run_id) or "0" * 32


def log_metric(url: str, ends: float) -> int:
    """Metrics one by one."""
    client, run, done = client_of(url), run_of(url), 0
    while time.time() < ends:
        client.log_metric(run, "loss", done / 7, step=done)
        done += 1
    return done


def log_batch(url: str, ends: float) -> int:
    """Metrics by thousands: ten names, a hundred steps."""
    client, run, done = client_of(url), run_of(url), 0
    while time.time() < ends:
        now = int(time.time() * 1000)
        metrics = [Metric(f"m{i % 10}", i / 7, now, done // 10 + i // 10) for i in range(1000)]
        client.log_batch(run, metrics=metrics)
        done += 1000
    return done


def log_runs(url: str, ends: float) -> int:
    """Whole runs: created, 20 parameters and 20 metrics logged, ended."""
    client, done = client_of(url), 0
    while time.time() < ends:
        now = int(time.time() * 1000)
        run = client.create_run("0").info.run_id
        client.log_batch(
            run,
            metrics=[Metric(f"m{i}", i / 7, now, 0) for i in range(20)],
            params=[Param(f"p{i}", str(i / 7)) for i in range(20)],
        )
        client.set_terminated(run)
        done += 1
    return done


def one(work: Work, server: Server, *, seconds: float) -> float:
    """What one client does in a second."""
    work(server.url, time.time() + seconds / 10)
    began = time.time()
    return work(server.url, began + seconds) / (time.time() - began)


def four(work: Work, server: Server, *, seconds: float) -> float:
    """What four clients together do in a second, each in a process of its own."""
    warm = time.time() + seconds / 10
    list(_pool().map(_from, [(work, server.url, 0.0, warm)] * PROCESSES))
    began = time.time() + START_UP_S
    tasks = [(work, server.url, began, began + seconds)] * PROCESSES
    done = sum(_pool().map(_from, tasks))
    return done / (time.time() - began)


def _from(task: tuple[Work, str, float, float]) -> int:
    work, url, begins, ends = task
    time.sleep(max(0.0, begins - time.time()))
    return work(url, ends)


@functools.cache
def _pool() -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn"))
    atexit.register(pool.shutdown)
    # Each imports the client now, and not while something is measured.
    list(pool.map(_from, [(_idle, "", 0.0, time.time() + 1)] * PROCESSES))
    return pool


def _idle(_url: str, ends: float) -> int:
    time.sleep(max(0.0, ends - time.time()))
    return 0
