"""What the machine allows: one Arrow file written and one memory-mapped read. `program.py SIZE LEDGER`."""

import sys

import bulk
import work

size, ledger = int(sys.argv[1]), sys.argv[2]
table = bulk.table(size)
work.mark(ledger, "returned")
bulk.write(table, "table.arrow")
del table
bulk.total(bulk.mapped("table.arrow"))
work.mark(ledger, "summed")
