"""One Parquet file of 2 GB: added and restored."""

from __future__ import annotations

from collections import defaultdict

from benchmarks.data import inputs, table, tools
from benchmarks.timing import seconds

NAME = "table.parquet"
ADD = (("DVC, copies", 0.5), ("DVC, hard links", 1.0))


def main() -> None:
    source = inputs.large()
    adds, restores = defaultdict(list), defaultdict(list)
    names: list[str] = []
    missing: dict[str, str] = {}
    for _ in range(table.ROUNDS):
        for kind in tools.wanted():  # one after another, as each takes twice the file's size on the disk
            opened, why = table.open_tools([kind], "large")
            missing |= why
            for name, tool in opened.items():
                names += [name] if name not in names else []
                table.copied(source, tool.work / NAME)
                table.settled()
                adds[name].append(seconds(lambda tool=tool: tool.add(NAME)))
                tool.lose(NAME)
                table.settled()
                try:
                    restores[name].append(seconds(lambda tool=tool: tool.restore(NAME)))
                except (RuntimeError, StopIteration) as error:
                    missing[f"{name}, restore"] = str(error).splitlines()[0][:100]
            table.removed(opened)
    size = source.stat().st_size / 1e9
    table.head(names)
    table.row(f"add a Parquet file of {size:.2f} GB", adds, names, unit="s", targets=ADD)
    table.row("restore it", restores, names, unit="s", targets=())
    table.tell(missing)
