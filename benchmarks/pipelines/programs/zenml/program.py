"""ZenML on its local stack: `program.py WORKLOAD SIZE SALT LEDGER SECONDS`."""

import json
import sys
import time
from typing import Any

import pandas as pd
import work
from zenml import pipeline, step


@step
def add_one(x: int) -> int:
    return work.add_one(x)


@step
def slow(x: int, ledger: str, seconds: float) -> int:
    return work.slow(x, ledger, seconds)


@step
def join(values: list[Any]) -> int:
    return sum(values)


@step(enable_cache=False)
def make(size: int, ledger: str) -> pd.DataFrame:
    frame = work.table(size).to_pandas(self_destruct=True, split_blocks=True)
    work.mark(ledger, "returned")
    return frame


@step(enable_cache=False)
def take(frame: pd.DataFrame, ledger: str) -> float:
    total = work.total(frame)
    work.mark(ledger, "summed")
    return total


@pipeline
def linear(size: int, salt: int) -> None:
    value = salt
    for _ in range(size):
        value = add_one(value)


@pipeline
def fanout(size: int, salt: int) -> None:
    join([add_one(salt + i) for i in range(size)])


@pipeline
def crash(size: int, salt: int, ledger: str, seconds: float) -> None:
    value = salt
    for _ in range(size):
        value = slow(value, ledger, seconds)


@pipeline
def handover(size: int, ledger: str) -> None:
    take(make(size, ledger), ledger)


if __name__ == "__main__":
    workload, many, first, book, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
    began = time.perf_counter()
    if workload == "crash":
        crash(many, first, book, float(pause))
    elif workload == "handover":
        handover(many, book)
    else:
        {"linear": linear, "fanout": fanout}[workload](many, first)
    print(json.dumps({"seconds": time.perf_counter() - began}))
