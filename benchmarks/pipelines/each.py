"""Milliseconds a step, for the workloads that are many trivial steps."""

from __future__ import annotations

from benchmarks.pipelines import table
from benchmarks.pipelines.peer import Peer, stage
from benchmarks.pipelines.tools import tools


def measure(workload: str, size: int, *, extra: int = 0) -> table.Figures:
    """Run a workload by every tool, print the table, give the figures.

    Args:
        extra: steps beside those that `size` counts, as a join.
    """
    kinds = tools()
    counted: dict[str, int] = {}

    def work(peer: Peer) -> tuple[float, float]:
        task = peer.task(workload, size)
        peer.prepare(task)
        ran = peer.run(peer.command(task), task)
        counted[peer.name] = task.size + extra
        return 1000 * ran.run_s / counted[peer.name], ran.whole_s

    with stage(kinds, workload) as (peers, unable):
        figures, wrong = table.in_turn(peers, work)
    remarks = {kind.name: kind.how for kind in kinds} | unable | wrong
    for name, steps in counted.items():
        if steps != size + extra:
            remarks[name] = f"{steps} steps; {remarks[name]}"
    table.head("ms a step", "of Everline's")
    table.rows(kinds, [(figures, "ms")], remarks)
    return figures
