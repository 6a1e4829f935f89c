"""What the start of a run costs that records code and environment, beside the MLflow client's with its Git tags.

Each sample is a process of its own, in a Git repository with changes. Both speak to the same server. Cold: nothing is
known of the installed distributions yet, as in the first run after an installation. Imports are apart: see `startup`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILES = 100
LINES = 150
RUNS = 9
TARGET_S = 0.150
OURS = """
import json, time
import everline as el
client = el.connect()
client.runs.experiments(limit=1)
start = time.perf_counter()
run = el.run(client=client, record=RECORD)
returned = time.perf_counter()
run.flush()
recorded = time.perf_counter()
run.finish()
print(json.dumps({"returned": returned - start, "recorded": recorded - start}))
"""
PEER = """
import json, time
import mlflow
mlflow.MlflowClient().search_experiments(max_results=1)
start = time.perf_counter()
run = mlflow.start_run()
returned = time.perf_counter()
mlflow.end_run()
print(json.dumps({"returned": returned - start, "commit": run.data.tags["mlflow.source.git.commit"]}))
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="everline-bench-") as name:
        folder = Path(name)
        project = _project(folder / "project")
        with _server(folder / "home") as url:
            samples = _samples(project, folder / "cache", url)
    peer = samples["mlflow"]
    print(
        f"{FILES} source files of {LINES} lines, {len(_packages())} installed distributions, {RUNS} processes each.\n"
    )
    print("| what | time | `mlflow.start_run()` with Git tags | target |\n| --- | --- | --- | --- |")
    for what, times, target in (
        ("`everline.run()` returns, warm", samples["warm returned"], TARGET_S),
        ("… and code and environment are recorded, sent and durable", samples["warm recorded"], None),
        ("what the record adds to that", samples["record"], TARGET_S),
        ("`everline.run()` returns, cold", samples["cold returned"], TARGET_S),
        ("… and code and environment are recorded, sent and durable", samples["cold recorded"], None),
    ):
        reached = "" if target is None else f"< {target:g} s: " + ("reached" if _median(times) < target else "missed")
        print(f"| {what} | {_spread(times)} | {_spread(peer)} | {reached} |")


def _samples(project: Path, cache: Path, url: str) -> dict[str, list[float]]:
    """Every kind of start in turn, so that drift of the machine meets them all."""
    found: dict[str, list[float]] = {}

    def ask(script: str) -> dict[str, float]:
        variables = os.environ | {
            "EVERLINE_URL": url, "EVERLINE_HOME": str(cache.parent / "client"), "XDG_CACHE_HOME": str(cache),
            "MLFLOW_TRACKING_URI": url, "MLFLOW_DISABLE_TELEMETRY": "true",
        }  # fmt: skip
        command = [sys.executable, str(project / "scripts" / script)]
        done = subprocess.run(command, cwd=project, env=variables, capture_output=True, check=True)
        told = next(line for line in done.stdout.splitlines() if line.startswith(b"{"))
        answer: dict[str, float] = json.loads(told)
        return answer

    ask("peer.py"), ask("ours.py")
    for _ in range(RUNS):
        shutil.rmtree(cache, ignore_errors=True)
        cold, warm, bare, peer = ask("ours.py"), ask("ours.py"), ask("bare.py"), ask("peer.py")
        for name, value in (
            ("cold returned", cold["returned"]), ("cold recorded", cold["recorded"]),
            ("warm returned", warm["returned"]), ("warm recorded", warm["recorded"]),
            ("record", warm["recorded"] - bare["recorded"]), ("mlflow", peer["returned"]),
        ):  # fmt: skip
            found.setdefault(name, []).append(value)
    return found


def _project(root: Path) -> Path:
    """A Git repository as people have it: packages, scripts, one uncommitted change."""
    (root / "scripts").mkdir(parents=True)
    for number in range(FILES):
        path = root / f"package{number % 10}" / f"module{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"def function_{n}(x):\n    return x + {number}\n\n" for n in range(LINES // 3)))
    for name, script in (
        ("ours", OURS.replace("RECORD", "True")), ("bare", OURS.replace("RECORD", "False")), ("peer", PEER),
    ):  # fmt: skip
        (root / "scripts" / f"{name}.py").write_text(script)
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "Project"]):
        subprocess.run(["git", "-C", root, *identity, *command], check=True)
    (root / "package0" / "module0.py").write_text("CHANGED = True\n")
    return root


@contextmanager
def _server(home: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "everline", "server", "--port", str(port), "--home", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/health", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _packages() -> list[str]:
    code = "from everline.runs.environment import installed_distributions as f; print('\\n'.join(d.name for d in f()))"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def _median(times: list[float]) -> float:
    return statistics.median(times)


def _spread(times: list[float]) -> str:
    return f"{_median(times):.3f} s ({min(times):.3f}–{max(times):.3f})"
