"""Time to the first useful moment: imports and `--help`, Everline beside the mlflow client."""

from __future__ import annotations

import sys

from benchmarks.timing import command, paired, row

RUNS = 7


def main() -> None:
    python = sys.executable
    print("| what | Everline | mlflow | mlflow / Everline |\n| --- | --- | --- | --- |")
    imports = paired(command([python, "-c", "import everline"]), command([python, "-c", "import mlflow"]), runs=RUNS)
    print(row("`import`", *imports))
    ours, peer = command([python, "-m", "everline", "--help"]), command([python, "-m", "mlflow", "--help"])
    print(row("`--help`", *paired(ours, peer, runs=RUNS)))
