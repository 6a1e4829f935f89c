"""A table as large as asked, and its use. Apart from `work`, so that trivial steps need not load what it loads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

COLUMNS = 10


def table(size: int) -> pa.Table:
    """`size` bytes of random floats in ten columns: nothing compresses them."""
    rng = np.random.default_rng(0)
    return pa.table({f"x{i}": rng.random(size // 8 // COLUMNS) for i in range(COLUMNS)})


def total(rows: Any) -> float:
    """Touch every value of an Arrow table or a pandas frame."""
    arrays = (rows[name].to_numpy() for name in (rows.column_names if isinstance(rows, pa.Table) else rows.columns))
    return float(sum(array.sum() for array in arrays))


def write(rows: pa.Table, path: str) -> None:
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)


def mapped(path: str) -> pa.Table:
    """The table in a file, its bytes left there until they are touched."""
    return pa.ipc.open_file(pa.memory_map(path)).read_all()
