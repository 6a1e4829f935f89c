"""From the shell to a finished pipeline of one trivial step, in seconds: the whole process."""

from __future__ import annotations

from benchmarks.pipelines import table
from benchmarks.pipelines.peer import Peer, stage
from benchmarks.pipelines.tools import tools


def work(peer: Peer) -> tuple[float, float]:
    task = peer.task("cold", 1)
    peer.prepare(task)
    ran = peer.run(peer.shell(task), task)
    return ran.whole_s, ran.whole_s


def main() -> None:
    kinds = tools()
    with stage(kinds, "cold") as (peers, unable):
        figures, wrong = table.in_turn(peers, work, rounds=table.ROUNDS + 2)
    table.head("time", "of Everline's")
    table.rows(kinds, [(figures, "s")], {kind.name: kind.how for kind in kinds} | unable | wrong)
    ours = table.median(figures)
    table.verdict("≤ 0.8 s", ours, 0.8)
    table.verdict("not slower than Metaflow", ours, table.share(figures, "Metaflow", 1.0))
