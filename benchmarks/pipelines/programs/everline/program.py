"""One run through the client: `program.py WORKLOAD SIZE SALT [ON]` prints how long it took."""

import json
import sys
import time
from pathlib import Path

import flow

import everline as el


def build(size: int, salt: int) -> dict:
    """Only the graph, and the most that its process weighed, interpreter and libraries too."""
    began = time.perf_counter()
    flow.graph.build(size=size, salt=salt)
    seconds = time.perf_counter() - began
    # Not `ru_maxrss`: that of a child starts with what its parent had.
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return {"seconds": seconds, "bytes": kib * 1024}


def run(workload: str, size: int, salt: int, where: dict) -> dict:
    """A run, in a process that has the application open, as one that has a server's address would."""
    with el.connect() as client:
        client.runs.experiments(limit=1)
        began = time.perf_counter()
        result = client.pipelines.run(f"flow:{workload}", params={"size": size, "salt": salt}, **where)
        seconds = time.perf_counter() - began
    if result.status != "finished":
        raise SystemExit(f"the run is {result.status}")
    return {"seconds": seconds, "steps": len(result.steps), "cached": sum(step.cached for step in result.steps)}


if __name__ == "__main__":
    asked, many, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    on = {"on": sys.argv[4]} if len(sys.argv) > 4 else {}
    print(json.dumps(build(many, first) if asked == "build" else run(asked, many, first, on)))
