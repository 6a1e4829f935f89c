"""Ray core: `program.py WORKLOAD SIZE SALT LEDGER SECONDS`; a local cluster of its own, up before the clock starts."""

import json
import sys
import time

import ray
import work

add_one = ray.remote(work.add_one)
slow = ray.remote(work.slow)


@ray.remote
def join(*values: int) -> int:
    return sum(values)


@ray.remote
def make(size: int, ledger: str):
    table = work.table(size)
    work.mark(ledger, "returned")
    return table


@ray.remote
def take(table, ledger: str) -> float:
    total = work.total(table)
    work.mark(ledger, "summed")
    return total


def run(workload: str, size: int, salt: int, ledger: str, seconds: float):
    if workload == "fanout":
        return join.remote(*[add_one.remote(salt + i) for i in range(size)])
    if workload == "handover":
        return take.remote(make.remote(size, ledger), ledger)
    if workload == "graph":
        ends = [salt + 100 * i for i in range(size // 100)]
        for _ in range(100):
            ends = [add_one.remote(end) for end in ends]
        return join.remote(*ends)
    value = salt
    for _ in range(size):
        value = slow.remote(value, ledger, seconds) if workload == "crash" else add_one.remote(value)
    return value


if __name__ == "__main__":
    ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    asked, many, first, book, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], float(sys.argv[5])
    began = time.perf_counter()
    ray.get(run(asked, many, first, book, pause))
    print(json.dumps({"seconds": time.perf_counter() - began}))
    ray.shutdown()
