"""50,000 files of 2 to 20 KB: added, looked at unchanged, restored."""

from __future__ import annotations

from collections import defaultdict

from benchmarks.data import inputs, table, tools
from benchmarks.timing import seconds

NAME = "many"


def main() -> None:
    source = inputs.many(inputs.folder() / "source")
    figures: dict[str, defaultdict[str, list[float]]] = {
        what: defaultdict(list) for what in ("add", "status", "restore")
    }
    names: list[str] = []
    missing: dict[str, str] = {}
    for _ in range(table.ROUNDS):
        for kind in tools.wanted():
            opened, why = table.open_tools([kind], "many")
            missing |= why
            for name, tool in opened.items():
                names += [name] if name not in names else []
                table.copied(source, tool.work / NAME)
                table.settled()
                figures["add"][name].append(seconds(lambda tool=tool: tool.add(NAME)))
                figures["status"][name].append(seconds(lambda tool=tool: tool.status(NAME)))
                tool.lose(NAME)
                table.settled()
                try:
                    figures["restore"][name].append(seconds(lambda tool=tool: tool.restore(NAME)))
                except (RuntimeError, StopIteration) as error:
                    missing[f"{name}, restore"] = str(error).splitlines()[0][:100]
            table.removed(opened)
    table.head(names)
    for what, share, said in (("add", 1 / 4, f"add {inputs.FILES:,} files"), ("status", 1 / 6, "status, unchanged"),
                              ("restore", 1 / 4, "restore them")):  # fmt: skip
        targets = (("DVC, copies", share), ("restic", 1.0))
        table.row(said, figures[what], names, unit="s", targets=targets)
    table.tell(missing)
