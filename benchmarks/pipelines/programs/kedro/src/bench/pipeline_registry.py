"""The workloads as Kedro's pipelines; BENCH_SIZE says how many nodes."""

import os

import work
from kedro.pipeline import Pipeline, node

SIZE, LEDGER = int(os.environ.get("BENCH_SIZE", "100")), os.environ.get("BENCH_LEDGER", "")
SECONDS = float(os.environ.get("BENCH_SECONDS", "0"))


def slow(x: int) -> int:
    return work.slow(x, LEDGER, SECONDS)


def join(*values: int) -> int:
    return sum(values)


def make():
    frame = work.table(SIZE).to_pandas(self_destruct=True, split_blocks=True)
    work.mark(LEDGER, "returned")
    return frame


def take(frame) -> float:
    total = work.total(frame)
    work.mark(LEDGER, "summed")
    return total


def chain(function) -> Pipeline:
    names = ["params:salt", *(f"value_{i}" for i in range(SIZE))]
    return Pipeline([node(function, names[i], names[i + 1], name=f"step_{i:05d}") for i in range(SIZE)])


def fan() -> Pipeline:
    each = [node(work.add_one, "params:salt", f"value_{i}", name=f"step_{i:05d}") for i in range(SIZE)]
    return Pipeline([*each, node(join, [f"value_{i}" for i in range(SIZE)], "value_sum", name="join")])


def register_pipelines() -> dict[str, Pipeline]:
    """Only the one that is asked for is made."""
    asked = os.environ.get("BENCH_WORKLOAD", "linear")
    if asked == "handover":
        made = Pipeline([node(make, None, "table", name="make"), node(take, "table", "value_total", name="take")])
    else:
        made = fan() if asked == "fanout" else chain(slow if asked == "crash" else work.add_one)
    return {"__default__": made}
