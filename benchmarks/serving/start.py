"""From the start of the process to its first answer, and its memory when idle."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.serving import table
from benchmarks.serving.load import Measured
from benchmarks.serving.models import Trained
from benchmarks.serving.servers import PEERS, Everline, Running, Server

_SETTLE_S = 3.0


def main() -> None:
    """Start each with the boosted trees, ask once, look at its memory."""
    trained = Trained("hgb", table.MODELS)
    found: dict[str, list[tuple[float, float, float]]] = {}

    def measure(server: Server, running: Running, where: Path) -> Measured:
        time.sleep(_SETTLE_S)
        found.setdefault(server.name, []).append((running.ready_s, running.pss_mib(), running.pss_mib(alone=True)))
        return Measured(1.0, 0.0, 0.0, 0, 0)

    kinds = (Everline, *PEERS)
    _, wrong = table.in_turn(kinds, trained, measure)
    print("| server | first answer, s | idle, all its processes, MiB | settings |")
    print("| --- | --- | --- | --- |")
    for kind in kinds:
        measured = sorted(found.get(kind.name, ()))
        if measured:
            ready_s, mib, _ = measured[len(measured) // 2]
            print(f"| {kind.name} | {ready_s:.1f} | {mib:.0f} | {kind.how} |")
        else:
            print(f"| {kind.name} | – | | {wrong.get(kind.name, '')[:80]} |")
    print()
    ours = sorted(found.get(Everline.name, [(0.0, 0.0, 0.0)]))
    ready_s, _, worker_mib = ours[len(ours) // 2]
    table.reached("ready within 2 s", ready_s, 2.0, least=False)
    table.reached("120 MiB a worker", worker_mib, 120.0, least=False)


if __name__ == "__main__":
    main()
