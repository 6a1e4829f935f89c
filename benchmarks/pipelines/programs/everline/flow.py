"""The workloads as Everline's pipelines; run by `everline run flow:NAME`."""

import work

import everline as el
from everline import pipeline, step


@step
def add_one(x: int) -> int:
    return work.add_one(x)


@step
def slow(x: int, ledger: str, seconds: float) -> int:
    return work.slow(x, ledger, seconds)


@step
def join(values: list[int]) -> int:
    return sum(values)


@step(cache=False)
def make(size: int, ledger: str) -> el.Table:
    table = work.table(size)
    work.mark(ledger, "returned")
    return table


@step(cache=False)
def take(table: el.Table, ledger: str) -> float:
    total = work.total(table)
    work.mark(ledger, "summed")
    return total


def each(values: list[int]) -> list[int]:
    """A fan-out, with or without `el.map`."""
    return el.map(add_one, values) if "map" in el.__all__ else [add_one(value) for value in values]


@pipeline
def linear(size: int = 100, salt: int = 0) -> int:
    value = salt
    for _ in range(size):
        value = add_one(value)
    return value


@pipeline
def fanout(size: int = 1000, salt: int = 0) -> int:
    return join(each([salt + i for i in range(size)]))


@pipeline
def crash(size: int = 100, salt: int = 0, ledger: str = "", seconds: float = 0.05) -> int:
    value = salt
    for _ in range(size):
        value = slow(value, ledger=ledger, seconds=seconds)
    return value


@pipeline
def handover(size: int = 500_000_000, ledger: str = "") -> float:
    return take(make(size, ledger=ledger), ledger=ledger)


@pipeline
def graph(size: int = 10_000, salt: int = 0) -> int:
    """Chains of 100 steps beside each other, and a join."""
    ends = [salt + 100 * i for i in range(size // 100)]
    for _ in range(100):
        ends = each(ends)
    return join(ends)
