"""Write `flow.py` for a workload: `make_flow.py WORKLOAD SIZE`. Metaflow reads a flow's graph from its source."""

import itertools
import sys
from pathlib import Path

HEAD = '''"""Metaflow: made by make_flow.py."""
import os

import work
from metaflow import FlowSpec, Parameter, step

LEDGER = os.environ["BENCH_LEDGER"]


class Bench(FlowSpec):
    salt = Parameter("salt", default=0)
'''
TAIL = """

if __name__ == "__main__":
    Bench()
"""
STEP = """
    @step
    def {name}(self{join}):
        {body}
        {then}
"""


def chain(size: int, body: str) -> list[dict[str, str]]:
    """A start that takes the salt, `size` steps, and Metaflow's end."""
    names = [f"step_{i}" for i in range(size)] + ["end"]
    steps = [{"name": "start", "body": "self.x = self.salt", "then": f"self.next(self.{names[0]})"}]
    steps += [
        {"name": name, "body": body, "then": f"self.next(self.{after})"} for name, after in itertools.pairwise(names)
    ]
    return [*steps, {"name": "end", "body": "pass", "then": "pass"}]


def steps_of(workload: str, size: int) -> list[dict[str, str]]:
    if workload == "cold":
        return [
            {"name": "start", "body": "self.x = work.add_one(self.salt)", "then": "self.next(self.end)"},
            {"name": "end", "body": "pass", "then": "pass"},
        ]
    if workload == "fanout":
        return [
            {
                "name": "start",
                "body": f"self.items = list(range(self.salt, self.salt + {size}))",
                "then": "self.next(self.each, foreach='items')",
            },
            {"name": "each", "body": "self.x = work.add_one(self.input)", "then": "self.next(self.join)"},
            {
                "name": "join",
                "join": ", inputs",
                "body": "self.sum = sum(i.x for i in inputs)",
                "then": "self.next(self.end)",
            },
            {"name": "end", "body": "pass", "then": "pass"},
        ]
    if workload == "handover":
        return [
            {
                "name": "start",
                "body": f"self.table = work.table({size}); work.mark(LEDGER, 'returned')",
                "then": "self.next(self.end)",
            },
            {"name": "end", "body": "work.total(self.table); work.mark(LEDGER, 'summed')", "then": "pass"},
        ]
    slow = "self.x = work.slow(self.x, LEDGER, float(os.environ['BENCH_SECONDS']))"
    return chain(size, slow if workload == "crash" else "self.x = work.add_one(self.x)")


if __name__ == "__main__":
    parts = [STEP.format(**{"join": "", **part}) for part in steps_of(sys.argv[1], int(sys.argv[2]))]
    Path("flow.py").write_text(HEAD + "".join(parts) + TAIL)
