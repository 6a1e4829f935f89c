"""A row for each operation, a column for each tool, and what Everline set itself to reach."""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.data import inputs
from benchmarks.data.tools import MissingError, Tool

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
Figures = dict[str, list[float]]
Target = tuple[str, float]
"""A peer's name, and Everline's share of its figure that is aimed at."""


def open_tools(kinds: Sequence[type[Tool]], name: str) -> tuple[dict[str, Tool], dict[str, str]]:
    """Each tool with an empty repository; and why the others cannot be measured."""
    opened: dict[str, Tool] = {}
    missing: dict[str, str] = {}
    for kind in kinds:
        place = inputs.folder() / name / kind.name.replace(" ", "-").replace(",", "")
        shutil.rmtree(place, ignore_errors=True)
        try:
            opened[kind.name] = kind(place)
        except (MissingError, RuntimeError, OSError) as error:
            missing[kind.name] = str(error).splitlines()[0][:80]
    return opened, missing


def head(names: Sequence[str]) -> None:
    print(f"| what | {' | '.join(names)} | target |")
    print(f"| --- |{' --- |' * (len(names) + 1)}", flush=True)


def row(
    what: str, figures: Mapping[str, list[float]], names: Sequence[str], *, unit: str, targets: Sequence[Target]
) -> None:
    """One line: medians with ranges; a peer's also as a multiple of Everline's."""
    ours = statistics.median(figures["Everline"])
    cells = []
    for name in names:
        if not figures.get(name):
            cells.append("–")
            continue
        times = figures[name]
        spread = f" ({short(min(times))}–{short(max(times))})" if len(times) > 1 else ""
        ratio = f", {statistics.median(times) / ours:.2g} x" if name != "Everline" and ours > 0 else ""
        cells.append(f"{short(statistics.median(times))} {unit}{spread}{ratio}")
    print(f"| {what} | {' | '.join(cells)} | {verdicts(figures, targets)} |", flush=True)


def verdicts(figures: Mapping[str, list[float]], targets: Sequence[Target]) -> str:
    """Whether Everline's figure is at most the wanted share of each named peer's."""
    ours, said = statistics.median(figures["Everline"]), []
    for peer, share in targets:
        if figures.get(peer):
            reached = ours <= share * statistics.median(figures[peer])
            said.append(f"≤ {share:.3g} of {peer}: {'reached' if reached else 'missed'}")
    return ", ".join(said)


def short(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def tell(missing: Mapping[str, str]) -> None:
    for name, why in missing.items():
        print(f"\n{name} was not measured: {why}")


def removed(tools: Mapping[str, Tool]) -> None:
    for tool in tools.values():
        shutil.rmtree(tool.folder, ignore_errors=True)


def settled() -> None:
    """Let the disk finish what was written before, so that nobody pays for another."""
    os.sync()


def in_turn(tools: Mapping[str, Tool], work: Callable[[Tool], float]) -> Figures:
    """One round: each tool once."""
    return {name: [work(tool)] for name, tool in tools.items()}


def copied(source: Path, target: Path) -> None:
    shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
