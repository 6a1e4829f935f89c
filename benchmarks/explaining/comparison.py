"""Two models on 1,000,000 rows, with bootstrap intervals over 20 slices."""

from __future__ import annotations

import os
import statistics

import numpy as np

from benchmarks.timing import seconds
from everline.models.comparison import compare
from everline.models.slices import compare_slices

ROWS = int(os.environ.get("BENCH_COMPARED", "1000000"))
RUNS = 3
TARGET_S = 10.0


def main() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.05, 0.95, ROWS)
    y = rng.uniform(size=ROWS) < p
    other = np.clip(p + rng.normal(0, 0.05, ROWS), 0.01, 0.99)
    groups = [f"g{number:02d}" for number in rng.integers(0, 20, ROWS)]
    print("| metric | whole and 20 slices | target |\n| --- | --- | --- |")
    for metric in ("log_loss", "error_rate", "auc"):

        def work(metric: str = metric) -> None:
            compare(y, p, other, metric=metric)
            assert len(compare_slices(y, p, other, slices={"group": groups}, metric=metric)) == 20

        times = [seconds(work) for _ in range(RUNS)]
        verdict = "reached" if statistics.median(times) <= TARGET_S else "missed"
        print(
            f"| {metric} | {statistics.median(times):.2f} s ({min(times):.2f}–{max(times):.2f}) "
            f"| ≤ {TARGET_S:.0f} s: {verdict} |"
        )
