"""Two workers against one, single rows at 64 connections; both cores are shared with the load tool."""

from __future__ import annotations

from pathlib import Path

from benchmarks.serving import load, table
from benchmarks.serving.load import Measured
from benchmarks.serving.models import Trained
from benchmarks.serving.servers import Constant, Everline, FastapiOnnx, LitServe, Running, Server

KINDS = (Everline, Constant, FastapiOnnx, LitServe)


def main() -> None:
    """One and two workers of each, neither pinned, and the ratio."""
    trained = Trained("hgb", table.MODELS)

    def measure(server: Server, running: Running, where: Path) -> Measured:
        bodies = table.bodies(server, where, rows=1)
        load.ask(server.url + server.predict, bodies, connections=64, seconds=1)
        return load.ask(server.url + server.predict, bodies, connections=64)

    two, wrong = table.in_turn(KINDS, trained, measure, workers=2)
    one, _ = table.in_turn(KINDS, trained, measure)
    table.show(KINDS, two, wrong, unit="req/s, two workers")
    table.show(KINDS, one, wrong, unit="req/s, one worker")
    table.reached("two workers: 1.5 x one", table.per_s(two, "Everline"), 1.5 * table.per_s(one, "Everline"))


if __name__ == "__main__":
    main()
