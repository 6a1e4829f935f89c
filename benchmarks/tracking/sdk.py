"""Our own SDK: what a log call costs its caller, points streamed until they are durable, and a minimal script.

The cost of a call is that of `run.log_metric(key, value, step=step)` as the training loop feels it, with the threads
that write the journal and send it at work in the same process, less what reading the clock twice costs. Streamed
points are counted from the first call until `flush()` has returned: until then the server's database has the last.
The minimal script is a whole process: import, one run, 10 parameters, 10 metrics, one artifact.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.peers import python_of
from benchmarks.tracking import stage
from benchmarks.tracking.stage import Server
from benchmarks.tracking.table import ROUNDS, Measure, Target, head, row, spread, verdict
from everline.sdk.client import Client
from everline.sdk.logging.active_run import ActiveRun
from everline.sdk.logging.starting import run as start_run

POINTS = int(os.environ.get("BENCH_POINTS", "1000000"))
CALLS = 200_000
CALL_US_MAX = 5
PAUSE_EVERY = 1_000
KEYS = ("loss", "accuracy", "grad_norm", "rate", "seconds")

OURS = """
import everline as el
with el.run(experiment="minimal", params={f"p{n}": n for n in range(10)}) as run:
    for n in range(10):
        run.log_metric(f"m{n}", n / 10)
    run.log_text("hello", path="note.txt")
"""
THEIRS = """
import mlflow
mlflow.set_experiment("minimal")
with mlflow.start_run() as run:
    mlflow.log_params({f"p{n}": n for n in range(10)})
    for n in range(10):
        mlflow.log_metric(f"m{n}", n / 10)
    mlflow.log_text("hello", "note.txt")
"""


def main() -> None:
    _show_costs()
    head()
    row(
        "own SDK: points streamed until durable",
        everline=lambda: _streamed(stage.everline()),
        limit=_sqlite,
        unit="points/s",
        target=Target(bound=200_000),
    )
    row("… and Everline waits for the disk", everline=lambda: _streamed(stage.everline_strict()), unit="points/s")
    row(
        "minimal script, the whole process",
        everline=_script_of_ours(),
        mlflow=_script_of_theirs(),
        unit="s",
        less=True,
        target=Target(bound=0.5),
    )


def _show_costs() -> None:
    print(
        "| a call of `log_metric` costs its caller | median | 99 % | 99.9 % | mean | target |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    for what, pause_s in (("in a loop without pause", 0.0), (f"with 10 ms of rest every {PAUSE_EVERY:,}", 0.01)):
        taken = [_costs(pause_s) for _ in range(ROUNDS)]
        figures = [spread([one[place] for one in taken], "µs") for place in range(4)]
        figures.append(verdict(statistics.median(one[3] for one in taken), CALL_US_MAX, "µs", less=True))
        print(f"| {what} | {' | '.join(figures)} |", flush=True)
    print()


def _costs(pause_s: float) -> tuple[float, float, float, float]:
    """Microseconds of 200,000 calls: median, 99 %, 99.9 %, mean."""
    clock = time.perf_counter_ns
    idle = sorted(-(clock() - clock()) for _ in range(10_000))[5_000]
    costs = array("q", bytes(8 * CALLS))

    def work(run: ActiveRun) -> None:
        for step in range(CALLS):
            key = KEYS[step % len(KEYS)]
            before = clock()
            run.log_metric(key, 0.5, step=step)
            costs[step] = clock() - before
            if pause_s and step % PAUSE_EVERY == 0:
                time.sleep(pause_s)

    _with_run(stage.everline(), work)
    ordered = sorted(cost - idle for cost in costs)
    places = (ordered[int(CALLS * share)] for share in (0.5, 0.99, 0.999))
    median, high, highest = (place / 1000 for place in places)
    return median, high, highest, sum(ordered) / CALLS / 1000


def _streamed(server: Server) -> float:
    """Points a second, from the first call until the server has committed the last."""
    rate = 0.0

    def work(run: ActiveRun) -> None:
        nonlocal rate
        began = time.perf_counter()
        for step in range(POINTS // len(KEYS)):
            for key in KEYS:
                run.log_metric(key, 0.5, step=step)
        run.flush()
        rate = POINTS / (time.perf_counter() - began)

    _with_run(server, work)
    return rate


def _with_run(server: Server, work: Callable[[ActiveRun], None]) -> None:
    with Client(server.url, home=stage.folder() / "client") as client, start_run(client=client, record=False) as run:
        work(run)


def _sqlite() -> float:
    """Rows a second of this table's shape into SQLite by its driver, from memory, in transactions of 40,000."""
    script = Path(__file__).with_name("insert_limit.py")
    done = subprocess.run(
        [sys.executable, str(script), str(stage.folder() / "limit.db"), str(POINTS)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _script_of_ours() -> Measure:
    home = str(stage.folder() / "client")
    return _script(sys.executable, OURS, {"EVERLINE_URL": stage.everline().url, "EVERLINE_HOME": home})


def _script_of_theirs() -> Measure:
    return _script(str(python_of("mlflow")), THEIRS, {"MLFLOW_TRACKING_URI": stage.mlflow().url} | stage.QUIET)


def _script(python: str, text: str, settings: Mapping[str, str]) -> Measure:
    folder = stage.folder() / "project"
    folder.mkdir(exist_ok=True)
    script = folder / f"minimal_{Path(python).parent.parent.name}.py"
    script.write_text(text)

    def measure() -> float:
        began = time.perf_counter()
        subprocess.run(
            [python, str(script)], env=os.environ | settings, cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        return time.perf_counter() - began

    measure()  # files of both are in memory before the first is counted
    return measure
