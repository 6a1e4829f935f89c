"""The first rows of a Parquet file, read by a process of its own with little memory and little time.

A Parquet file is a program for a decoder written in C++: a few bytes can ask for gigabytes, and a broken one can end
the process that reads it. So the server never opens a stranger's: `read` starts this module, which sets its own limits
first, and takes a crash, a bomb or an endless loop for what it is: a file that cannot be shown.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from everline.loader import load
from everline.server.console.view.preview import CELL_CHARACTERS_MAX, COLUMNS_MAX, ROWS_MAX, Preview, nothing, table
from everline.server.console.view.render import number, value

MEMORY_BYTES_MAX = 768 << 20
PROCESSOR_S_MAX = 5
WAIT_S_MAX = 15
FILE_BYTES_MAX = 128 << 20
"""A larger file is not fetched for the sake of a hundred rows."""
_TOGETHER_MAX = 2
_turn = threading.BoundedSemaphore(_TOGETHER_MAX)


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the process says: a table, or the reason why there is none."""

    columns: list[str] = []
    types: list[str] = []
    rows: list[list[str]] = []
    columns_total: int = 0
    rows_total: int = 0
    problem: str = ""


def read(file: Path) -> Preview:
    """The first rows of a file on disk."""
    command = [sys.executable, "-P", "-m", __spec__.name, str(file)]
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}
    with _turn:
        try:
            done = subprocess.run(command, capture_output=True, timeout=WAIT_S_MAX, env=environment, check=False)
        except subprocess.TimeoutExpired:
            return nothing("This Parquet file takes too long to read.")
    try:
        found = msgspec.json.decode(done.stdout, type=_Found)
    except msgspec.DecodeError:
        return nothing("This Parquet file is broken, or needs more memory than a preview may take.")
    if found.problem:
        return nothing(f"This Parquet file cannot be read: {found.problem}")
    heads = [f"{name}\n{kind}" for name, kind in zip(found.columns, found.types, strict=True)]
    parts = []
    if found.rows_total > len(found.rows):
        parts.append(f"The first {number(len(found.rows))} of {number(found.rows_total)} rows.")
    if found.columns_total > len(found.columns):
        parts.append(f"The first {number(len(found.columns))} of {number(found.columns_total)} columns.")
    return table(heads, found.rows, note=" ".join(parts))


def main(path: str) -> None:
    """Print the first rows of a file as JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_S_MAX, PROCESSOR_S_MAX))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        found = _first_rows(load("pyarrow.parquet"), path)
    except Exception as error:  # whatever a broken file makes the reader say, people read one line of it
        found = _Found(problem=(str(error).strip().splitlines() or [type(error).__name__])[0][:300])
    sys.stdout.buffer.write(msgspec.json.encode(found))


def _first_rows(parquet: Any, path: str) -> _Found:
    with parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        names = list(file.schema_arrow.names)
        shown = names[:COLUMNS_MAX]
        batch = next(file.iter_batches(batch_size=ROWS_MAX, columns=shown, use_threads=False), None)
        fields = file.schema_arrow if batch is None else batch.schema
        columns = [] if batch is None else [batch.column(at).to_pylist() for at in range(batch.num_columns)]
        return _Found(
            columns=list(fields.names)[:COLUMNS_MAX],
            types=[str(field.type)[:40] for field in fields][:COLUMNS_MAX],
            rows=[[_written(cell) for cell in row] for row in zip(*columns, strict=True)],
            columns_total=len(names),
            rows_total=file.metadata.num_rows,
        )


def _written(cell: Any) -> str:
    text = str(cell[:CELL_CHARACTERS_MAX]) if isinstance(cell, bytes) else value(cell)
    return text[: CELL_CHARACTERS_MAX + 1]


if __name__ == "__main__":
    main(sys.argv[1])
