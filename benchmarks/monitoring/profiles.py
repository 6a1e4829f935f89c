"""Profile of 1,000,000 rows x 20 columns, merge, and the report of 100,000 against 100,000; floor and peers beside.

Seconds of one core's time, because other work shares the machine. The floor is what NumPy and Arrow need to convert
and count every column once.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.monitoring import peers
from everline.monitoring.report import drift_report
from everline.monitoring.table_profiles import profile

ROWS = int(os.environ.get("BENCH_PROFILE_ROWS", "1000000"))
REPORT_ROWS = int(os.environ.get("BENCH_REPORT_ROWS", "100000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SEED = 20_130_101


def main() -> None:
    rng = np.random.default_rng(SEED)
    print(f"Median (fastest) of {ROUNDS} runs, 20 columns: 14 numbers, 4 texts (one a dictionary), 2 booleans.\n")
    print("| what | s of one core | target |\n| --- | --- | --- |")
    profiling(mixed(ROWS, rng))
    reporting(mixed(REPORT_ROWS, rng), mixed(REPORT_ROWS, rng))


def profiling(table: pa.Table) -> None:
    """The profile's rows of the table."""
    own = profile(table)
    quarter = table.slice(0, ROWS // 4)
    row(f"profile of {ROWS:,} rows on a kept reference's axes", cpu(lambda: profile(table, reference=own)), 0.15)
    row("… without a reference: axes first", cpu(lambda: profile(table)), None)
    row("… floor: convert and count each column once", cpu(lambda: floor(table)), None)
    row("merge of two such profiles", cpu(lambda: own.merge(own)), 0.005)
    print(f"| memory added at the profile's peak | {added_mib(lambda: profile(table, reference=own))} | constant |")
    print(f"| … with a quarter of the rows | {added_mib(lambda: profile(quarter, reference=own))} | constant |")


def reporting(old: pa.Table, new: pa.Table) -> None:
    """The report's rows of the table, then the peers'."""
    kept = profile(old)
    row(f"report, {REPORT_ROWS:,} against {REPORT_ROWS:,}, cold", cpu(lambda: drift_report(old, new)), 0.3)
    row("… against a kept reference", cpu(lambda: drift_report(kept, new)), 0.1)
    with tempfile.TemporaryDirectory(prefix="everline-bench-") as name:
        pair = Path(name, "old.parquet"), Path(name, "new.parquet")
        for path, one in zip(pair, (old, new), strict=True):
            pq.write_table(one, path)
        for peer in peers.present():
            verdicts = peers.judged(peer, [pair] * 2)
            if verdicts is not None:  # the first call pays for imports
                told = verdicts[-1].error or f"{verdicts[-1].seconds:.2f}"
                print(f"| … {peer}, its own report, wall time | {told} | – |")


def mixed(rows: int, rng: np.random.Generator) -> pa.Table:
    """Numbers of several shapes, one with nulls; texts of 16 to 3,000 values, one as a dictionary; booleans."""
    words = pa.array([f"value-{number}" for number in range(3_000)])
    columns: dict[str, pa.Array] = {f"bell{n}": pa.array(rng.normal(n, 2.0, rows)) for n in range(6)}
    columns |= {f"lattice{n}": pa.array(np.round(rng.lognormal(3.0, 1.0, rows))) for n in range(3)}
    columns |= {f"count{n}": pa.array(rng.integers(0, 10 ** (n + 1), rows)) for n in range(3)}
    columns["single"] = pa.array(rng.normal(size=rows).astype(np.float32))
    columns["sparse"] = pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.05)
    for name, size in (("carrier", 16), ("airport", 200), ("tail", 3_000)):
        columns[name] = words.take(pa.array(rng.integers(0, size, rows)))
    columns["encoded"] = words.take(pa.array(rng.integers(0, 100, rows))).dictionary_encode()
    columns |= {f"flag{n}": pa.array(rng.random(rows) < 0.3) for n in range(2)}
    return pa.table(columns)


def floor(table: pa.Table) -> None:
    """What no profile of these cells can be faster than with NumPy and Arrow: one conversion, one count."""
    for column in table.columns:
        for chunk in column.chunks:
            if pa.types.is_dictionary(chunk.type):
                np.bincount(chunk.indices.to_numpy())
            elif pa.types.is_string(chunk.type):
                pc.value_counts(chunk)
            elif not pa.types.is_boolean(chunk.type):
                values = chunk.drop_null().to_numpy().astype(np.float32)
                np.bincount(values.view(np.uint16)[1::2], minlength=65_536)


def cpu(work: Callable[[], object]) -> list[float]:
    """Seconds of this process's own time, after a warm-up."""
    work()
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return times


def row(what: str, times: list[float], target: float | None) -> None:
    """One line of the table."""
    middle = statistics.median(times)
    reached = "–" if target is None else f"≤ {target:g}: {'reached' if middle <= target else 'missed'}"
    print(f"| {what} | {middle:.3g} ({min(times):.3g}) | {reached} |", flush=True)


def added_mib(work: Callable[[], object]) -> str:
    """How far the process's peak memory rises above what it held before, where Linux tells it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    except OSError:
        return "not told by this system"
    before = _status("VmRSS")
    work()
    return f"{max(0, _status('VmHWM') - before) / 1024:.0f} MiB"


def _status(name: str) -> int:
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(name))
    return int(line.split()[1])


if __name__ == "__main__":
    main()
