"""DBOS on SQLite: `program.py WORKLOAD SIZE SALT LEDGER SECONDS`; a workflow's id is its name and salt."""

import asyncio
import json
import sys
import time

import work
from dbos import DBOS, SetWorkflowID

add_one = DBOS.step(name="add_one")(work.add_one)
slow = DBOS.step(name="slow")(work.slow)


@DBOS.step()
def make(size: int, ledger: str):
    table = work.table(size)
    work.mark(ledger, "returned")
    return table


@DBOS.step()
def take(table, ledger: str) -> float:
    total = work.total(table)
    work.mark(ledger, "summed")
    return total


@DBOS.workflow()
def linear(size: int, salt: int) -> int:
    value = salt
    for _ in range(size):
        value = add_one(value)
    return value


@DBOS.step()
async def join(values: list[int]) -> int:
    return sum(values)


@DBOS.step()
async def add_one_async(x: int) -> int:
    return work.add_one(x)


@DBOS.workflow()
async def fanout(size: int, salt: int) -> int:
    return await join(await asyncio.gather(*[add_one_async(salt + i) for i in range(size)]))


@DBOS.workflow()
def crash(size: int, salt: int, ledger: str, seconds: float) -> int:
    value = salt
    for _ in range(size):
        value = slow(value, ledger, seconds)
    return value


@DBOS.workflow()
def handover(size: int, ledger: str) -> float:
    return take(make(size, ledger), ledger)


if __name__ == "__main__":
    DBOS(
        config={
            "name": "bench",
            "system_database_url": "sqlite:///bench.sqlite",
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )
    workload, many, first, book, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
    DBOS.launch()  # goes on with what was interrupted
    began = time.perf_counter()
    with SetWorkflowID(f"{workload}-{first}"):
        if workload == "crash":
            DBOS.start_workflow(crash, many, first, book, float(pause)).get_result()
        elif workload == "handover":
            handover(many, book)
        elif workload == "fanout":
            asyncio.run(fanout(many, first))
        else:
            linear(many, first)
    print(json.dumps({"seconds": time.perf_counter() - began}))
    DBOS.destroy()
