"""A graph of 100,000 trivial steps: seconds and memory to build it, and what a step costs at 10,000 and at 100,000.

Chains of 100 steps beside each other, and a join.
"""

from __future__ import annotations

import os
import sys

from benchmarks.pipelines import table
from benchmarks.pipelines.peer import Peer, short, stage
from benchmarks.pipelines.processes import ToolError
from benchmarks.pipelines.tools import Dagster, Everline, Kedro, Ray, tools

SIZES = tuple(int(size) for size in os.environ.get("BENCH_GRAPH", "10000,100000").split(","))
TIMEOUT_S = float(os.environ.get("BENCH_GRAPH_TIMEOUT_S", "200"))
BUILDS = (Everline, Kedro, Dagster)
RUNS = (Everline, Ray)


def main() -> None:
    kinds = [kind for kind in tools() if kind.name != "Everline, inline"]
    found: dict[str, table.Figures] = {}
    with stage(kinds, "graph") as (peers, unable):
        remarks = {kind.name: kind.how for kind in kinds} | unable
        for peer in peers:
            if isinstance(peer, BUILDS):
                for size in SIZES:
                    _measure(peer, "build", size, found, remarks)
            if isinstance(peer, RUNS):
                for size in SIZES if isinstance(peer, Everline) else SIZES[:1]:
                    _measure(peer, "graph", size, found, remarks)
            elif not isinstance(peer, BUILDS):
                remarks[peer.name] = "its graph is not built apart, and a run takes too long"
    small, large = (f"{size:,}" for size in (SIZES[0], SIZES[-1]))
    table.head(
        f"build {large}",
        "of Everline's",
        "memory of that process",
        f"build {small}",
        f"a step of {small}",
        f"a step of {large}",
    )
    columns = [
        (found.get(f"build {SIZES[-1]}", {}), "s"), (found.get(f"bytes {SIZES[-1]}", {}), "MB"),
        (found.get(f"build {SIZES[0]}", {}), "s"), (found.get(f"graph {SIZES[0]}", {}), "ms"),
        (found.get(f"graph {SIZES[-1]}", {}), "ms"),
    ]  # fmt: skip
    table.rows(kinds, columns, remarks)
    few, many = (table.median(found.get(f"graph {size}", {})) for size in (SIZES[0], SIZES[-1]))
    table.verdict("built in ≤ 5 s", table.median(columns[0][0]), 5.0)
    table.verdict("memory ≤ 500 MB, interpreter and libraries too", table.median(columns[1][0]), 500.0)
    table.verdict("linear: a step of the large graph ≤ 1.25 x one of the small", many, few and 1.25 * few)


def _measure(peer: Peer, workload: str, size: int, found: dict[str, table.Figures], remarks: dict[str, str]) -> None:
    task = peer.task(workload, size)
    try:
        ran = peer.run(peer.command(task), task, timeout_s=TIMEOUT_S)
    except (ToolError, OSError) as error:
        remarks[peer.name] += f"; {workload} of {size:,}: {short(error)}"
        return
    print(f"  {peer.name}, {workload} of {size:,}: {ran.run_s:.3g} s", file=sys.stderr, flush=True)
    figure = ran.run_s if workload == "build" else 1000 * ran.run_s / size
    found.setdefault(f"{workload} {size}", {}).setdefault(peer.name, []).append(figure)
    if "bytes" in ran.facts:
        found.setdefault(f"bytes {size}", {}).setdefault(peer.name, []).append(ran.facts["bytes"] / 1e6)
