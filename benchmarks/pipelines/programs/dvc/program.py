"""A stage of DVC's: `program.py WHAT ARGUMENT OUTPUT`."""

import importlib
import os
import sys
from pathlib import Path

import work

what, argument, output = sys.argv[1:]
ledger = os.environ["BENCH_LEDGER"]
if what == "make":
    bulk = importlib.import_module("bulk")
    made = bulk.table(int(argument))
    work.mark(ledger, "returned")
    bulk.write(made, output)
    sys.exit(0)
if what == "take":
    bulk = importlib.import_module("bulk")
    value = bulk.total(bulk.mapped(argument))
    work.mark(ledger, "summed")
elif what == "join":
    value = sum(int(Path(f"value_{i}").read_text()) for i in range(int(argument)))
elif what == "slow":
    value = work.slow(int(Path(argument).read_text()), ledger, float(os.environ["BENCH_SECONDS"]))
else:
    value = work.add_one(int(argument) if what == "first" else int(Path(argument).read_text()))
Path(output).write_text(str(value))
