"""What SQLite takes from Python when nothing else is done: rows of metrics, whole from memory, committed by 40,000."""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path

BATCH = 40_000


def main(database: str, rows: int) -> float:
    """Rows a second."""
    Path(database).unlink(missing_ok=True)
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(
        "CREATE TABLE metric (run INTEGER, key INTEGER, at_ms INTEGER, step INTEGER, value REAL, is_nan INTEGER, "
        "PRIMARY KEY (run, key, at_ms, step, value, is_nan)) WITHOUT ROWID"
    )
    batches = [
        [(1, key, step, step, 0.5, 0) for key in range(5) for step in range(start // 5, (start + BATCH) // 5)]
        for start in range(0, rows, BATCH)
    ]
    began = time.perf_counter()
    for batch in batches:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR IGNORE INTO metric VALUES (?, ?, ?, ?, ?, ?)", batch)
        connection.execute("COMMIT")
    return sum(map(len, batches)) / (time.perf_counter() - began)


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2])))
