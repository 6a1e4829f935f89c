"""What is added: one large table, its variants, and a folder of many small files."""

from __future__ import annotations

import functools
import os
import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = int(os.environ.get("BENCH_DATA_ROWS", "10000000"))
"""Of the table: 10,000,000 make a file of about 2 GB."""
FILES = int(os.environ.get("BENCH_DATA_FILES", "50000"))
_FLOATS, _INTEGERS = 20, 4


@functools.cache
def folder() -> Path:
    """Where everything lies while it is measured (`TMPDIR` chooses the disk)."""
    made = tempfile.TemporaryDirectory(prefix="everline-bench-data-", ignore_cleanup_errors=True)
    _kept.append(made)
    return Path(made.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def table(rows: int = ROWS, *, seed: int = 0) -> pa.Table:
    """25 columns: 20 of random floats, 4 of random integers, one of four words. Nothing compresses it much."""
    rng = np.random.default_rng(seed)
    columns = {f"x{i}": rng.normal(size=rows) for i in range(_FLOATS)}
    columns |= {f"n{i}": rng.integers(0, 1 << 62, size=rows) for i in range(_INTEGERS)}
    columns["carrier"] = np.array(["UA", "AA", "DL", "B6"])[rng.integers(0, 4, size=rows)]
    return pa.table(columns)


def large() -> Path:
    """The table as pyarrow writes it by default."""
    path = folder() / "table.parquet"
    if not path.exists():
        pq.write_table(table(), path)
    return path


def appended(base: pa.Table) -> pa.Table:
    """1 % of rows more at the end."""
    return pa.concat_tables([base, table(len(base) // 100, seed=1)])


def one_column(base: pa.Table) -> pa.Table:
    """Every value of one column changed."""
    return base.set_column(2, "x2", pa.array(base.column(2).to_numpy() + 1))


def one_percent(base: pa.Table) -> pa.Table:
    """1 % of all cells changed: a quarter of one column, at random."""
    values = base.column(5).to_numpy().copy()
    values[np.random.default_rng(2).random(len(values)) < len(base.column_names) / 100] += 1
    return base.set_column(5, "x5", pa.array(values))


def inserted(base: pa.Table) -> pa.Table:
    """1 % of rows more in the middle."""
    half = len(base) // 2
    return pa.concat_tables([base.slice(0, half), table(len(base) // 100, seed=3), base.slice(half)])


def many(root: Path) -> Path:
    """Files of 2 to 20 KB of random bytes, 500 a folder."""
    rng = random.Random(5)
    for number in range(FILES):
        below = root / f"{number // 500:04d}"
        if number % 500 == 0:
            below.mkdir(parents=True)
        (below / f"{number:06d}.bin").write_bytes(rng.randbytes(rng.randrange(2_000, 20_000)))
    return root
