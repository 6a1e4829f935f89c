"""A table of 500 MB from one step to the next: seconds, and the most memory of all processes.

The clock runs from the moment when the first step returns its table to the moment when the second has touched every
value. Memory is PSS over the tool's processes, servers apart, sampled; pages of mapped files count, and are told apart.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.pipelines import table
from benchmarks.pipelines.peer import Peer, Task, stage
from benchmarks.pipelines.tools import tools

BYTES = 500_000_000


class Bare(Peer):
    name = "bare file"
    program = "bare"
    environment = None
    how = "one Arrow file written, one memory-mapped read, in one process: what the machine allows"

    def command(self, task: Task) -> list[object]:
        return [sys.executable, "program.py", task.size, task.ledger]


def main() -> None:
    kinds = [*tools(), Bare]
    peaks: table.Figures = {}
    owned: table.Figures = {}

    def work(peer: Peer) -> tuple[float, float]:
        task = peer.task("handover", BYTES)
        peer.prepare(task)
        ran = peer.run(peer.command(task), task, weigh=True)
        times = _times(task.ledger)
        peaks.setdefault(peer.name, []).append(ran.memory.all / 1e6)
        owned.setdefault(peer.name, []).append(ran.memory.own / 1e6)
        return times["summed"] - times["returned"], ran.whole_s

    with stage(kinds, "handover") as (peers, unable):
        figures, wrong = table.in_turn(peers, work)
    table.head("time", "of Everline's", "peak memory", "without pages of mapped files")
    remarks = {kind.name: kind.how for kind in kinds} | unable | wrong
    table.rows(kinds, [(figures, "s"), (peaks, "MB"), (owned, "MB")], remarks)
    table.verdict("≤ 1.5 x the bare file", table.median(figures), table.share(figures, Bare.name, 1.5))
    table.verdict("peak memory ≤ 1.3 x the table, in MB", table.median(peaks), 1.3 * BYTES / 1e6)


def _times(ledger: Path) -> dict[str, float]:
    lines = (line.split() for line in ledger.read_text().splitlines())
    return {words[0]: float(words[-1]) for words in lines}
