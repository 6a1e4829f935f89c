"""The load tool: wrk, on a core of its own where there are two, with real rows as bodies."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

SCRIPT = Path(__file__).parent / "programs" / "bodies.lua"
SECONDS = float(os.environ.get("BENCH_SECONDS", "3"))


class Measured(NamedTuple):
    """What wrk saw: answered requests per second, latencies, and what was not answered."""

    per_s: float
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int


def ask(
    url: str,
    bodies: Path,
    *,
    connections: int,
    seconds: float = SECONDS,
    content_type: str = "application/json",
    header_length: int | None = None,
    whole: bool = False,
) -> Measured:
    """Ask an address for so long over so many connections, each asking again as soon as it is answered.

    Args:
        bodies: a question per line; or with `whole` one question.
        header_length: the length of the JSON before binary tensors.
    """
    tool = shutil.which("wrk")
    if tool is None:
        raise SystemExit("There is no `wrk` on this machine: `apt-get install wrk`.")
    environment = {**os.environ, "BENCH_BODIES": str(bodies), "BENCH_CONTENT_TYPE": content_type}
    if whole:
        environment["BENCH_WHOLE"] = "1"
    if header_length is not None:
        environment["BENCH_HEADER_LENGTH"] = str(header_length)
    command = [tool, "-t1", f"-c{connections}", f"-d{max(int(seconds), 1)}s", "--timeout", "10s", "-s", SCRIPT, url]
    ran = subprocess.run([*pinned(1), *map(str, command)], env=environment, capture_output=True, text=True, check=True)
    said = next(line for line in ran.stdout.splitlines() if line.startswith("RESULT"))
    requests, duration_us, p50_us, p99_us, refused, broken = map(float, said.split()[1:])
    return Measured((requests - refused) / duration_us * 1e6, p50_us / 1000, p99_us / 1000, int(refused), int(broken))


def pinned(core: int, *, workers: int = 1) -> list[str]:
    """What keeps a command on one core; nothing where it has workers, or where there is one core."""
    if workers > 1 or (os.cpu_count() or 1) < 2 or shutil.which("taskset") is None:
        return []
    return ["taskset", "-c", str(core)]
