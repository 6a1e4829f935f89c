"""Prefect: `program.py WORKLOAD SIZE SALT LEDGER SECONDS`, with a server's address in PREFECT_API_URL."""

import json
import sys
import time

import work
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE

KEPT = {"persist_result": True, "cache_policy": INPUTS + TASK_SOURCE}
add_one = task(work.add_one, name="add_one")
add_one_kept = task(work.add_one, name="add_one_kept", **KEPT)
slow = task(work.slow, name="slow", **KEPT)


@task
def join(values: list[int]) -> int:
    return sum(values)


@task(persist_result=True)
def make(size: int, ledger: str):
    table = work.table(size)
    work.mark(ledger, "returned")
    return table


@task
def take(table, ledger: str) -> float:
    total = work.total(table)
    work.mark(ledger, "summed")
    return total


@flow
def linear(size: int, salt: int) -> int:
    value = salt
    for _ in range(size):
        value = add_one(value)
    return value


@flow
def rerun(size: int, salt: int) -> int:
    value = salt
    for _ in range(size):
        value = add_one_kept(value)
    return value


@flow
def fanout(size: int, salt: int) -> int:
    return join(add_one.map(range(salt, salt + size)))


@flow
def crash(size: int, salt: int, ledger: str, seconds: float) -> int:
    value = salt
    for _ in range(size):
        value = slow(value, ledger, seconds)
    return value


@flow
def handover(size: int, ledger: str) -> float:
    return take(make(size, ledger), ledger)


if __name__ == "__main__":
    workload, many, first, book, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
    began = time.perf_counter()
    if workload == "crash":
        crash(many, first, book, float(pause))
    elif workload == "handover":
        handover(many, book)
    else:
        {"linear": linear, "rerun": rerun, "fanout": fanout}[workload](many, first)
    print(json.dumps({"seconds": time.perf_counter() - began}))
