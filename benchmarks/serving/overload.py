"""Four times what a model can do: what is answered is answered in time, the rest is refused at once, memory stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.serving import load, table
from benchmarks.serving.models import Trained
from benchmarks.serving.servers import EverlineNative

PROGRAM = Path(__file__).parent / "programs" / "rate.py"
SECONDS = float(os.environ.get("BENCH_OVERLOAD_S", "60"))
ROWS = 32
TIMEOUT_MS = 250
TIMES = 4


def main() -> None:
    """Find the capacity, ask four times as much, print what became of it."""
    trained = Trained("hgb", table.MODELS)
    with table.folder() as where:
        server = EverlineNative(trained, where)
        with server.running() as running:
            bodies = table.bodies(server, where, rows=ROWS)
            capacity = load.ask(server.url + server.predict, bodies, connections=32).per_s
            before = running.pss_mib()
            said = json.loads(
                subprocess.run(
                    [
                        *(*load.pinned(1), sys.executable, str(PROGRAM), "127.0.0.1", str(server.port)),
                        *(server.predict, str(bodies), str(TIMES * capacity), str(SECONDS), "512", str(TIMEOUT_MS)),
                    ],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            after = running.pss_mib()
    print(f"A native model, {ROWS} rows a request: {capacity:,.0f} requests/s is what it can do.\n")
    print(
        "| asked/s | answered/s | refused/s | p99 answered, ms | p99 refused, ms | other | memory before, after, MiB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rates = (said[name] / SECONDS for name in ("asked", "answered", "refused"))
    cells = [*(f"{rate:,.0f}" for rate in rates), said["answered_p99_ms"], said["refused_p99_ms"], said["other"]]
    print("|", " | ".join(map(str, cells)), f"| {before:.0f}, {after:.0f} |\n")
    table.reached(f"p99 of answers within {TIMEOUT_MS} ms", said["answered_p99_ms"], TIMEOUT_MS, least=False)
    table.reached("memory grows by less than a tenth", after, 1.1 * before, least=False)


if __name__ == "__main__":
    main()
