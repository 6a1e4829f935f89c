"""What a new version takes on the disk: 1 % of rows more, one column changed, 1 % of cells changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import inputs, table, tools
from benchmarks.data.tools import Tool
from everline.datasets.arrow import canonical_table
from everline.datasets.writing import write_table

NAME = "table.parquet"
VARIANTS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "1 % of rows appended": inputs.appended,
    "one column changed": inputs.one_column,
    "1 % of cells changed": inputs.one_percent,
    "1 % of rows inserted in the middle": inputs.inserted,
}


def main() -> None:
    base = inputs.table()
    names: list[str] = []
    rows: dict[str, dict[str, list[float]]] = {}
    missing: dict[str, str] = {}
    sizes: dict[str, float] = {}
    for writer, write in (("pyarrow's defaults", pq.write_table), ("Everline's writer", _ours)):
        opened, why = table.open_tools(tools.wanted(), "versions")
        missing |= why
        names = names or list(opened)
        for what, change in {"the first version": lambda table: table, **VARIANTS}.items():
            path = inputs.folder() / "variant.parquet"
            write(change(base), path)
            sizes[f"{what}, {writer}"] = path.stat().st_size / 1e6
            for name, tool in opened.items():
                figure = _grown(tool, path)
                rows.setdefault(f"{what}, {writer}", {})[name] = [figure]
        table.removed(opened)
    table.head(names)
    for what, figures in rows.items():
        targets = []
        if not what.startswith("the first"):
            better = min(("restic", "borg"), key=lambda name: figures.get(name, [1e9])[0])
            targets = [] if "inserted" in what else [(better, 1.0)]
            if "inserted" in what and "Everline" in what:
                figures["the file"] = [sizes[what]]
                targets = [("the file", 0.1)]
        table.row(f"{what} ({sizes[what]:,.0f} MB)", figures, names, unit="MB", targets=targets)
    table.tell(missing)


def _ours(changed: pa.Table, path: Path) -> None:
    write_table(canonical_table(changed), path)


def _grown(tool: Tool, path: Path) -> float:
    """MB that the repository grows by when the file is replaced by this one and added."""
    target = tool.work / NAME
    target.unlink(missing_ok=True)
    table.copied(path, target)
    os.utime(target)
    before = tool.stored()
    tool.add(NAME)
    return (tool.stored() - before) / 1e6
