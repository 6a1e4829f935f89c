"""Single rows at 64 connections and at one, by every server."""

from __future__ import annotations

from pathlib import Path

from benchmarks.serving import load, table
from benchmarks.serving.load import Measured
from benchmarks.serving.models import Trained
from benchmarks.serving.servers import OURS, PEERS, Everline, EverlineNative, FastapiOnnx, Running, Server

CONNECTIONS = 64


def main() -> None:
    """Measure both, print two tables and what was to be reached."""
    trained = Trained("hgb", table.MODELS)
    kinds = (*OURS, *PEERS)
    alone: table.Results = {}

    def measure(server: Server, running: Running, where: Path) -> Measured:
        bodies = table.bodies(server, where, rows=1)
        load.ask(server.url + server.predict, bodies, connections=CONNECTIONS, seconds=1)  # warm
        alone.setdefault(server.name, []).append(load.ask(server.url + server.predict, bodies, connections=1))
        return load.ask(server.url + server.predict, bodies, connections=CONNECTIONS)

    results, wrong = table.in_turn(kinds, trained, measure)
    print(f"{CONNECTIONS} connections, boosted trees with two text columns:\n")
    table.show(kinds, results, wrong, unit="req/s")
    print("One connection:\n")
    table.show(kinds, alone, wrong, unit="req/s")
    ours = table.per_s(results, Everline.name)
    best = table.best_product(kinds, results)
    table.reached("20 x the best product", ours, 20 * best)
    table.reached("6 x FastAPI + ONNX Runtime", ours, 6 * table.per_s(results, FastapiOnnx.name))
    table.reached("half of uvicorn with a constant", ours, 0.5 * table.per_s(results, "uvicorn, a constant"))
    table.reached("a native model: 5 x the best product", table.per_s(results, EverlineNative.name), 5 * best)
    for name, most in (("p50_ms", 0.3), ("p99_ms", 1.0)):
        found = sorted(getattr(one, name) for one in alone.get(Everline.name, ()))
        table.reached(f"one connection, {name}", found[len(found) // 2] if found else 0.0, most, least=False)


if __name__ == "__main__":
    main()
