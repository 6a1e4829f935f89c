"""The runner is killed with `kill -9` when half of 100 steps are done: what the resume does again, and its time.

Each step writes down that it starts and then sleeps 50 ms. All processes of the tool but its server are killed while
step 51 sleeps; then the tool is asked to go on as its documentation says. A perfect resume starts 50 steps.
"""

from __future__ import annotations

from benchmarks.pipelines import table
from benchmarks.pipelines.peer import TIMEOUT_S, Peer, Task, stage
from benchmarks.pipelines.tools import tools

STEPS = 100
STEP_S = 0.05


def main() -> None:
    kinds = tools()
    again: table.Figures = {}
    counted: dict[str, int] = {}

    def work(peer: Peer) -> tuple[float, float]:
        task = peer.task("crash", STEPS, seconds=STEP_S)
        half = task.size // 2
        peer.prepare(task)
        tree = peer.start(peer.shell(task), task)
        tree.until(lambda: _started(task) > half, TIMEOUT_S)
        tree.kill()
        before = _started(task)
        ran = peer.run(peer.resumption(task), task)
        counted[peer.name] = task.size
        again.setdefault(peer.name, []).append(_started(task) - before)
        return ran.whole_s / (half * STEP_S), ran.whole_s + 2 * half * STEP_S

    with stage(kinds, "crash") as (peers, unable):
        figures, wrong = table.in_turn(peers, work)
    remarks = {kind.name: kind.how for kind in kinds} | unable | wrong
    for name, steps in counted.items():
        if steps != STEPS:
            remarks[name] = f"{steps} steps; {remarks[name]}"
    table.head("resume, of the steps' own time", "of Everline's", "steps run by it")
    table.rows(kinds, [(figures, "x"), (again, "")], remarks)
    table.verdict("the resume runs 50 steps", table.median(again), STEPS / 2)
    table.verdict("≤ 1.2 x their own time, process start included", table.median(figures), 1.2)


def _started(task: Task) -> int:
    return task.ledger.read_text().count("started") if task.ledger.exists() else 0
