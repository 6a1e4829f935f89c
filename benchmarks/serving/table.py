"""What every benchmark of serving does: each server in turn, some rounds, a table, and what was to be reached."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.serving.load import Measured
from benchmarks.serving.models import Trained
from benchmarks.serving.servers import Running, Server

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
MODELS = Path(os.environ.get("BENCH_MODELS", Path(tempfile.gettempdir()) / "everline-bench-serving"))
Results = dict[str, list[Measured]]


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for what the servers write."""
    with tempfile.TemporaryDirectory(prefix="everline-bench-") as name:
        yield Path(name)


def bodies(server: Server, where: Path, *, rows: int) -> Path:
    """A file with one question per line, of so many real rows each."""
    file = where / f"{server.peer or 'everline'}-{rows}-{type(server).__name__}.txt"
    given = server.trained.rows
    starts = range(0, len(given) - rows + 1, rows)
    file.write_bytes(b"\n".join(server.body(given[start : start + rows]) for start in starts))
    return file


def in_turn(
    kinds: Sequence[type[Server]],
    trained: Trained,
    measure: Callable[[Server, Running, Path], Measured],
    *,
    workers: int = 1,
    rounds: int = ROUNDS,
) -> tuple[Results, dict[str, str]]:
    """Each server once a round, so that drift of the machine meets all; one that fails takes no further part."""
    results: Results = defaultdict(list)
    wrong: dict[str, str] = {}
    with folder() as where:
        for _ in range(rounds):
            for kind in kinds:
                if kind.name in wrong:
                    continue
                try:
                    server = kind(trained, where, workers=workers)
                    with server.running() as running:
                        result = measure(server, running, where)
                except (RuntimeError, OSError, ValueError) as error:
                    wrong[kind.name] = " ".join(str(error).split())[-200:]
                    print(f"  {kind.name}: {wrong[kind.name]}", file=sys.stderr, flush=True)
                    continue
                print(f"  {kind.name}: {result}", file=sys.stderr, flush=True)
                results[kind.name].append(result)
    return results, wrong


def show(kinds: Sequence[type[Server]], results: Results, wrong: dict[str, str], *, unit: str, times: int = 1) -> None:
    """A line for each server, with the multiple that Everline is of it."""
    ours = per_s(results, "Everline")
    print(f"| server | {unit} | Everline is | p50, ms | p99, ms | not answered | settings |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in kinds:
        found = results.get(kind.name)
        if not found:
            print(f"| {kind.name} | – | | | | | {wrong.get(kind.name, '')[:80]} |")
            continue
        rate = per_s(results, kind.name)
        spread = f" ({min(m.per_s for m in found) * times:,.0f}–{max(m.per_s for m in found) * times:,.0f})"
        ratio = f"{ours / rate:.3g} x" if ours and kind.name != "Everline" else ""
        p50, p99 = (statistics.median(getattr(m, name) for m in found) for name in ("p50_ms", "p99_ms"))
        lost = sum(m.refused + m.broken for m in found)
        cells = [kind.name, f"{rate * times:,.0f}{spread if len(found) > 1 else ''}", ratio]
        print("|", " | ".join([*cells, f"{p50:.2f}", f"{p99:.2f}", str(lost), kind.how]), "|")
    print(flush=True)


def per_s(results: Results, name: str) -> float:
    """The median rate; 0 where there is none."""
    found = results.get(name)
    return statistics.median(m.per_s for m in found) if found else 0.0


def reached(what: str, ours: float, wanted: float, *, least: bool = True) -> None:
    """A line that says whether a target is reached."""
    if not ours or not wanted:
        print(f"- {what}: not measured")
        return
    good = ours >= wanted if least else ours <= wanted
    print(f"- {what}: {'reached' if good else 'missed'} ({ours:,.3g} against {wanted:,.3g})", flush=True)


def best_product(kinds: Sequence[type[Server]], results: Results) -> float:
    """The rate of the fastest product that is a peer."""
    return max((per_s(results, kind.name) for kind in kinds if kind.product and kind.peer), default=0.0)
